"""Each command beside docker's: same arguments, same shape of output, same exit code. dockerd is the witness.

A story is a list of lines that both run in turn. What differs by nature (IDs, times, ages, addresses) is made alike;
error texts are compared by their last part, for docker has its daemon's name in front.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.tools import Docker
from bench.workloads import BASE
from tests.toolkit.bounds import stretched
from tests.toolkit.containers import end_containers
from tests.toolkit.shiplap import Shiplap

pytestmark = pytest.mark.usefixtures("privileged")

_ALIKE = (
    (re.compile(r"sha256:[0-9a-f]{64}"), "<image>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<ID>"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ][0-9:.]+(Z| ?[+-]\d\d:?\d\d)( [A-Z]+)?"), "<time>"),
    (re.compile(r"(Less than a second|About a minute|\d+ (second|minute)s?)( ago)?"), "<age>"),
    (re.compile(r"\s+\b\d+(\.\d+)?([kMGT]?B|[KMGT]iB|%)"), " <size>"),
    (re.compile(r" +"), " "),
)
_PREFIXES = re.compile(r"^(error|docker|Error|Error response from daemon): ")


class Told(NamedTuple):
    """What a line came to. err: the lines on standard error that say what went wrong."""

    code: int
    out: str
    err: str


class Both:
    """The two command lines, each with the same image under the same name."""

    def __init__(self, shiplap: Shiplap, docker: Docker, directory: Path) -> None:
        self._shiplap = shiplap
        self._docker = docker
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "DOCKER_HOST": f"unix://{directory}/docker/docker.sock",
            "DOCKER_CONFIG": str(directory / "docker" / "config"),
        }

    def ours(self, line: Sequence[str]) -> Told:
        return _told(self._shiplap(*line, check=False))

    def dockers(self, line: Sequence[str]) -> Told:
        ran = subprocess.run(
            ["docker", *line], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=self._environment,
            timeout=stretched(120),
        )  # fmt: skip
        return _told(ran)


def _told(ran: subprocess.CompletedProcess[str]) -> Told:
    return Told(ran.returncode, alike(ran.stdout), ran.stderr)


def alike(text: str) -> str:
    for pattern, word in _ALIKE:
        text = pattern.sub(word, text)
    return "\n".join(line.rstrip() for line in text.splitlines())


@pytest.fixture(scope="module")
def both(busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    directory = Path(tempfile.mkdtemp(prefix="shiplap-beside-", dir="/tmp"))  # short: dockerd's sockets are below
    shiplap = Shiplap(tmp_path_factory.mktemp("beside") / "root")
    docker = Docker(directory)
    try:
        docker.start(busybox_tar)
        shiplap("image", "import", busybox_tar, BASE)
        yield Both(shiplap, docker, directory)
        end_containers(shiplap)
    finally:
        docker.stop()
        shutil.rmtree(directory)


STORIES = {
    "a container in the foreground": """
        run --name s1 --network none BASE sh -c 'echo one; echo two; exit 3'
        ps -a --filter name=s1
        logs s1
        logs --tail 1 s1
        logs -t s1
        inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Running}} {{.Name}} {{.Path}} {{json .Args}}' s1
        wait s1
        start -a s1
        start s1
        rename s1 s2
        rm s1
        rm s2
        ps -aq
        """,
    "one that runs on": """
        run -d --name s3 --network none -l a=b -e X=1 BASE sh -c 'trap "exit 7" TERM; while :; do sleep 0.1; done'
        ps --format '{{.Names}} {{.State}} {{.Image}} {{.Label "a"}} {{.Command}}'
        ps --filter label=a=c -q
        ps -q --no-trunc --filter status=running
        exec s3 sh -c 'echo $X; exit 5'
        exec -e Y=2 -w /tmp s3 sh -c 'echo $Y; pwd'
        pause s3
        pause s3
        ps -a --filter name=s3 --format '{{.Status}}'
        exec s3 true
        unpause s3
        unpause s3
        start s3
        rm s3
        diff s3
        exec s3 touch /new
        diff s3
        port s3
        port s3 80
        stop s3
        stop s3
        inspect -f '{{.State.ExitCode}} {{json .Config.Labels}} {{.HostConfig.NetworkMode}}' s3
        kill s3
        restart s3
        kill -s USR9 s3
        kill -s KILL s3
        wait s3
        ps -a --filter name=s3 --filter exited=137 --format '{{.Names}}'
        rm -f s3
        rm -f s3
        """,
    "made, not started": """
        create --name s4 --network none --restart on-failure:2 --stop-signal INT --stop-timeout 3 BASE sh -c 'exit 1'
        create --name s4 BASE
        ps -a --filter name=s4
        ps --filter name=s4
        inspect -f '{{.State.Status}} {{.HostConfig.RestartPolicy.Name}}' s4
        inspect -f '{{.Config.StopSignal}} {{.Config.StopTimeout}}' s4
        stop s4
        kill s4
        attach s4
        exec s4 true
        top s4
        logs s4
        update --restart no s4
        update s4
        container ls -a --filter name=s4 -q
        container inspect -f '{{.HostConfig.RestartPolicy.Name}}' s4
        container rm s4
        """,
    "commands that cannot be executed": """
        run --rm --network none BASE /nothing-there
        run --rm --name s5 --network none BASE /nothing-there
        run --name s5 --network none BASE /etc
        ps -a --filter name=s5 --format '{{.Names}} {{.Status}}'
        start s5
        start -a s5
        rm s5
        run --rm --name s6 --network none -u nobody-there BASE true
        run -d --name s6 --network none nothing-like-this:at-all
        run --pull never --name s6 nothing-like-this:at-all
        ps -aq --filter name=s6
        """,
    "what is not there": """
        stop nothing
        start nothing
        rm nothing
        kill nothing
        logs nothing
        pause nothing
        wait nothing
        rename nothing other
        inspect nothing
        inspect -f '{{.Name}}' nothing
        top nothing
        port nothing
        stats --no-stream nothing
        exec nothing true
        attach nothing
        diff nothing
        update --memory 100m nothing
        restart nothing
        volume inspect nothing
        volume rm nothing
        volume rm -f nothing
        """,
    "lines that are wrong": """
        run
        run --nothing BASE
        run --name a/b BASE true
        run -p 1:2:3:4:5 BASE true
        run --restart nothing BASE true
        run --rm --restart always BASE true
        run -m 1k BASE true
        run -d -a stdout BASE true
        create
        ps extra
        ps --filter nothing
        ps --filter nothing=x
        ps --format '{{.Nothing}}'
        ps --format '{{.ID'
        ps -n x
        stop
        rename one
        exec one
        start -a one two
        inspect --type nothing x
        kill -s NOTHING x
        """,
    "volumes": """
        volume create data
        volume create data
        volume create --label a=b other
        volume ls
        volume ls -q --filter label=a=b
        volume inspect -f '{{.Name}} {{.Driver}} {{.Scope}}' data
        run --rm --network none -v data:/data BASE sh -c 'echo kept >/data/file'
        run --rm --network none -v data:/data:ro BASE sh -c 'cat /data/file; echo x >/data/file'
        create --name s7 --network none -v data:/data BASE
        volume rm data
        rm s7
        volume rm data other
        volume ls -q
        """,
    "images looked at": """
        create --name i1 --network none BASE true
        commit -c 'LABEL kind=first' -m 'the first' i1 team/first:1
        tag team/first:1 team/first:2
        commit -c 'LABEL kind=other' i1 other
        images --format '{{.Repository}}:{{.Tag}} {{.Size}} {{.Containers}}' --filter label=kind=first
        images --format '{{.Repository}} {{.Tag}} {{.Digest}}' --filter reference='team/*'
        images --format '{{.Tag}}' --filter reference='team/*:1'
        images --format '{{.Repository}}' --filter reference='team'
        images --format '{{.Repository}}' team/first
        images --filter dangling=true -q
        images --filter dangling=maybe
        images --filter nothing=1
        images --filter since=nothing-there
        images --format '{{.Nothing}}'
        images --format 'table {{.Repository}}\t{{.Tag}}' --filter label=kind=other
        image inspect -f '{{.Os}} {{index .Config.Labels "kind"}} {{json .RepoTags}}' team/first:2
        image inspect -f '{{.Os}}' nothing-there
        history --format '{{len .CreatedBy}}' -H=false other
        history --no-trunc --format '{{.CreatedBy}}' nothing-there
        rm i1
        rmi team/first:1 team/first:2 other
        """,
    "files in and out": """
        create --name s9 --network none BASE sh -c 'echo new >/made'
        cp s9:/bin/busybox HERE/out
        cp s9:/etc/. HERE/etc
        cp s9:/nothing-there HERE
        cp s9:/etc HERE/out
        cp HERE/out s9:/tmp
        cp HERE/etc s9:/no/such/directory/
        cp a b
        cp a:b c:d
        cp nothing:/x HERE
        start -a s9
        diff s9
        cp s9:/made HERE/made
        export -o HERE/tree.tar s9
        export -o HERE/none.tar nothing
        commit -m 'a change' -c 'CMD ["cat","/made"]' s9 changed
        commit nothing
        run --rm --network none changed
        rm s9
        rmi changed:latest nothing-there
        """,
    "places in networks": """
        network create --ipv6 --subnet 10.55.0.0/24 --gateway 10.55.0.1 --subnet fd55::/64 --gateway fd55::1 mine
        network create mine
        network create --subnet 10.55.0.0/25 other
        network inspect -f '{{.Name}} {{.Driver}} {{.EnableIPv6}} {{.Internal}} {{json .IPAM.Config}}' mine
        run -d --name n1 --network mine --ip 10.55.0.9 --ip6 fd55::9 --network-alias web \
            -h box --domainname in.example --add-host db:10.0.0.7 --dns 192.0.2.1 --dns-search a.example BASE sleep 1000
        exec n1 sh -c 'hostname; hostname -f; cat /proc/sys/kernel/domainname'
        exec n1 sh -c "ip addr show eth0 | grep -o 'inet6* [0-9a-f.:]*/[0-9]*' | grep -v fe80"
        exec n1 sh -c 'grep db /etc/hosts; grep 10.55.0.9 /etc/hosts'
        exec n1 grep -E '^(nameserver|search)' /etc/resolv.conf
        inspect -f '{{with .NetworkSettings.Networks.mine}}{{.IPAddress}} {{.GlobalIPv6Address}} {{.Gateway}}{{end}}' n1
        run --rm --network container:n1 BASE sh -c 'hostname; grep db /etc/hosts'
        run --rm --network container:n1 -p 80:80 BASE true
        run --rm --network container:n1 --dns 1.1.1.1 BASE true
        run --rm --network container:n1 -h x BASE true
        run --rm --network container:nobody BASE true
        create --name n3 --network container:n1 BASE true
        stop -t 0 n1
        start n3
        rm -f n1
        rm -f n3
        run --rm --network host -p 80:80 BASE true
        run --rm --link nobody:x BASE true
        run --rm --ip 10.0.0.1 BASE true
        run --rm --dns nowhere BASE true
        network rm mine
        """,
    # docker reads the two streams by themselves: what is said at once comes in either order.
    "looking closely": """
        run -d --name l1 --network none -l a=b -e X=1 BASE \
            sh -c 'echo one; sleep 0.5; echo two >&2; touch /dev/said; exec sleep 1000'
        ps -l --no-trunc --format '{{.ID}} {{.Image}} {{.Command}}'
        ps -n 1 --format json
        ps --filter name=l --format '{{.Names}}:{{.Ports}}{{.Mounts}}{{.Networks}}{{.LocalVolumes}} {{.RunningFor}}'
        ps -f health=none -f is-task=false -f network=none --format '{{.Names}}'
        ps -f publish=80 -q
        ps -f exited=x
        exec l1 sh -c 'until test -e /dev/said; do sleep 0.1; done; sleep 0.5'
        events --since 10m --until 0s --filter container=l1 --format '{{.Action}}'
        logs --details l1
        logs --details -t --tail 1 l1
        logs --tail x l1
        inspect -f '{{json .State.Health}} {{if .State.Health}}x{{else}}y{{end}} {{index .Config.Labels "a"}}' l1
        inspect -f '{{.State.Nothing}}' l1
        inspect -f '{{.HostConfig.LogConfig.Nope}}' l1
        inspect -f '{{if' l1
        inspect -s -f '{{.SizeRw}} {{len .Mounts}}' l1
        inspect l1 nothing -f '{{.Name}}'
        top l1 -x-y
        stats --no-stream --format '{{.Name}} {{.PIDs}}' l1
        exec -u 5:6 l1 id
        exec -w /tmp l1 pwd
        update --memory 64m --memory-swap 64m --cpus 0.5 --pids-limit 50 l1
        inspect -f '{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}' l1
        update --cpuset-cpus 99 l1
        update --restart bad l1
        rename l1 l2
        rename l2 l2
        pause l2 nothing
        unpause l2 nothing
        kill --signal HUP nothing l2
        restart -s TERM -t 0 l2
        rm -f l2
        """,
    "values that make no sense": """
        create --network none --mount type=volume,dst=/x,bad=1 BASE true
        create --network none --shm-size bad BASE true
        create --network none --restart on-failure:x BASE true
        create --network none --ulimit bad=1 BASE true
        create --network none --cap-add NOTHING BASE true
        create --network none --cap-drop NOTHING BASE true
        create --network none --cpus 99 BASE true
        create --network none --oom-score-adj 5000 BASE true
        create --network none --health-interval 1ms --health-cmd true BASE true
        run --rm --network none --volumes-from nobody BASE true
        run --rm --network none -v /etc/hostname:/x:ro BASE sh -c 'echo a > /x'
        run --rm --network none --read-only BASE touch /x
        run --rm --network none --ulimit nofile=10:20 BASE sh -c 'ulimit -n; ulimit -Hn'
        run --rm --network none -u nobody --group-add 12 BASE id
        run --rm --network none -e A=1 --env B= BASE sh -c 'echo $A-$B-$HOME-$PATH'
        """,
    "networks by their options": """
        network create --label a=b --scope local net1
        network inspect -v -f '{{.Name}} {{.Scope}} {{json .Labels}}' net1
        network ls --filter label=a=b --format '{{.Name}} {{.Driver}} {{.Scope}}'
        network create --gateway 10.1.2.3 net2
        network rm -f net1 nothing
        network rm nothing
        network connect nothing nobody
        network disconnect nothing nobody
        network create --subnet 10.33.0.0/16 --ip-range 10.33.4.0/24 --aux-address r=10.33.4.1 net3
        network inspect -f '{{with index .IPAM.Config 0}}{{.Subnet}} {{.IPRange}} {{.AuxiliaryAddresses}}{{end}}' net3
        run --rm --network net3 BASE sh -c "ip -o -4 address show eth0 | grep -o 'inet [0-9./]*'"
        run --rm --network net3 --ip 10.33.4.1 BASE true
        network create --ip-range 10.1.1.0/24 net4
        network create --subnet 10.34.0.0/16 --ip-range 10.1.1.0/24 net4
        network create --subnet 10.34.0.0/16 --aux-address a=1.2.3.4 net4
        network disconnect -f net3 nobody
        network prune -f --filter bad=1
        """,
    "whose processes": """
        run -d --name p1 --network none BASE sleep 1000
        run -d --name p2 --network none --ipc shareable BASE sh -c 'echo hi >/dev/shm/x; exec sleep 1000'
        run --rm --network none --pid container:p1 BASE sh -c 'ps -o args | head -n 2'
        run --rm --network none --init --pid container:p1 BASE sh -c 'ps -o args | head -n 2'
        run --rm --network none --ipc container:p2 BASE cat /dev/shm/x
        run --rm --network none --ipc container:p1 BASE true
        run --rm --network none --ipc none BASE ls /dev/shm
        run --rm --network none --pid container:nobody BASE true
        run --rm --network none --ipc container:nobody BASE true
        run --rm --network none --pid nothing BASE true
        run --rm --network none --pid container: BASE true
        run --rm --network none --ipc nothing BASE true
        create --name p3 --network none --pid container:p2 --ipc container:p2 BASE \
            sh -c 'sleep 1000 >/dev/null 2>&1 & exit 3'
        inspect -f '{{.HostConfig.PidMode}} {{.HostConfig.IpcMode}}' p3
        inspect -f '{{.HostConfig.PidMode}} {{.HostConfig.IpcMode}}' p1 p2
        start -a p3
        run -d --name p4 --network none --pid container:p2 BASE sleep 2000
        exec p4 sh -c 'ps -o args | grep -c "^sleep"'
        stop -t 0 p2
        wait p4
        start p3
        start p4
        rm p2
        start p4
        rm -f p1 p3 p4
        """,
}  # fmt: skip

_ERRORS_DIFFER = (
    "run -d --name s6 --network none nothing-like", "run --pull never", "run --nothing", "run -m 1k", "ps -n x",
    "kill -s NOTHING", "create --network none --shm-size", "create --network none --ulimit", "rmi ",
    "images --format '{{.Nothing}}'", "image inspect", "history", "run --rm --dns nowhere",
)  # fmt: skip
"""Whose errors say the same in other words; the others have docker's, but for its prefix."""


@pytest.mark.parametrize("name", STORIES)
def test_a_story_goes_as_dockers(name: str, both: Both, tmp_path: Path) -> None:
    asked = ((both.dockers, "docker"), (both.ours, "shiplap"))
    for _, who in asked:
        (tmp_path / who).mkdir()
    for text in STORIES[name].strip().splitlines():
        words = text.strip().replace("BASE", BASE)
        theirs, ours = (ask(shlex.split(words.replace("HERE", str(tmp_path / who)))) for ask, who in asked)
        if words.startswith("diff "):  # docker has no order
            theirs, ours = (told._replace(out=_sorted(told.out)) for told in (theirs, ours))
        told = f"{text.strip()}\ndocker: {theirs}\nshiplap: {ours}"
        assert (ours.code, ours.out) == (theirs.code, theirs.out), told
        assert bool(ours.err) == bool(theirs.err), told
        if theirs.err and not text.strip().startswith(_ERRORS_DIFFER):
            assert _said(ours.err) in _said(theirs.err), told


def _sorted(text: str) -> str:
    return "\n".join(sorted(text.splitlines()))


def _said(text: str) -> str:
    """The text of errors, without who says it."""
    lines = []
    for line in text.splitlines():
        while match := _PREFIXES.match(line):
            line = line[match.end() :]
        if line and not line.startswith(("See '", "hint:", "Usage:")):
            lines.append(line.replace("shiplap", "docker"))
    return alike("\n".join(lines))


def test_exec_of_what_cannot_be_executed_has_the_codes_that_docker_promises(both: Both) -> None:
    """docker 26 itself exits with 126 for both, and says why on standard output; its manual promises these."""
    both.ours(["run", "-d", "--name", "s8", "--network", "none", BASE, "sleep", "1000"])
    assert both.ours(["exec", "s8", "nothing-there"]).code == 127
    assert both.ours(["exec", "s8", "/etc"]).code == 126
    assert both.ours(["exec", "-u", "nobody-there", "s8", "true"]).code == 126
    for directory, why in (("/nothing-there", "No such file"), ("rel", "must be an absolute path")):
        told = both.ours(["exec", "-w", directory, "s8", "true"])
        assert (told.code, why in told.err) == (126, True)
