"""The create body that ``run`` and ``create`` ask the engine for is docker's: docker's command line is the witness."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.containers.command import WrongNumberError, WrongOptionError
from cli.containers.options import CREATE_OPTIONS, ENGINE_OPTIONS, needs_engine
from cli.errors import CommandError
from tests.toolkit.createbody import read
from tests.toolkit.dockercli import FakeDaemon, fake_daemon

LINES = """\
bb
bb sh -c 'exit 3'
--name web -d nothing
-it bb
-i -a stdout bb
-a stderr --attach STDOUT bb
-e A=1 -e B= --env C=a=b bb
-e FROM_US -e NOT_THERE bb
-w /srv -u 1000:50 -h box --domainname example.org bb
--entrypoint /bin/x bb a b
--entrypoint= bb
-l a -l b=c --label d=e=f bb
--rm --init bb
--rm=true --init=true -t=false bb
--restart always bb
--restart on-failure:3 bb
--restart unless-stopped bb
--stop-signal SIGINT --stop-timeout 3 bb
--stop-timeout 0 bb
--health-cmd 'curl localhost' --health-interval 1m30s --health-retries 2 bb
--health-timeout 500ms --health-start-period 1h --health-start-interval 2s bb
--no-healthcheck bb
--log-driver json-file --log-opt max-size=10m --log-opt max-file=3 bb
--annotation a=b bb
-p 80 bb
-p 8080:80 -p 127.0.0.1:53:53/udp bb
-p [::1]:8080:80 -p ::80 bb
-p 8000-8002:80-82 bb
-p 8000-8009:80 bb
-p 127.0.0.1::80 bb
-p 8080:80 -p 9090:80 bb
-p target=80,published=8080,protocol=udp bb
-P --expose 80 --expose 90-92/udp bb
--network none bb
--network host bb
--network mine bb
--network mine --network-alias db --network-alias database --ip 10.0.0.7 bb
--network name=mine,alias=db,ip=10.0.0.7 --network other bb
--network container:x bb
--network mine --ip6 fd00::7 --link-local-ip 169.254.1.1 --link a:b bb
--network mine --mac-address 02:42:ac:11:00:02 bb
--dns 1.1.1.1 --dns-search example.org --dns-option ndots:2 bb
--add-host db:10.0.0.7 --add-host six:::1 --add-host gw:host-gateway --add-host e=10.1.1.1 bb
-v data:/data -v /anonymous -v /srv:/srv:ro,z bb
-v ./here:/there bb
--mount type=bind,src=/srv,dst=/srv,readonly bb
--mount type=bind,source=/srv,target=/srv,bind-propagation=rslave,bind-nonrecursive bb
--mount type=volume,src=v,dst=/v,volume-nocopy,volume-label=a=b,volume-driver=local,volume-opt=type=tmpfs bb
--mount source=v,target=/v,volume-subpath=sub bb
--mount type=tmpfs,destination=/t,tmpfs-size=64m,tmpfs-mode=1770 bb
--mount type=bind,src=/a,dst=/b,ro,bind-recursive=writable --mount type=bind,src=/a,dst=/c,bind-recursive=disabled bb
--mount type=volume,src=v,dst=/v,volume-subpath=a/b bb
--mount 'type=volume,dst=/v,"volume-opt=o=uid=1,gid=2"' bb
--tmpfs /run --tmpfs /tmp:size=64m,exec bb
--volumes-from a --volumes-from b:ro bb
--volume-driver local -v data:/d bb
--read-only --privileged bb
--cap-add NET_ADMIN --cap-drop ALL bb
--security-opt no-new-privileges --security-opt seccomp=unconfined --security-opt label=disable bb
--security-opt systempaths=unconfined bb
--device /dev/fuse --device /dev/null:/dev/x:r --device /dev/zero:rw bb
--device-cgroup-rule 'c 1:3 r' bb
--gpus all bb
--gpus 2 bb
--gpus device=0 bb
--group-add audio --group-add 12 bb
--sysctl net.core.somaxconn=1024 bb
--ipc private --pid container:x --uts host --cgroupns private bb
--cgroup-parent /x --runtime runc bb
-m 512m --memory-swap 1g --memory-reservation 256m --memory-swappiness 10 bb
-m 512m --memory-swap -1 bb
--cpus 1.5 -c 512 bb
--cpu-period 50000 --cpu-quota 25000 --cpuset-cpus 0-1 --cpuset-mems 0 bb
--pids-limit 100 --oom-kill-disable --oom-score-adj 500 bb
--pids-limit -1 bb
--ulimit nofile=1024:2048 --ulimit core=0 --shm-size 128m bb
--blkio-weight 300 --blkio-weight-device /dev/sda:200 bb
--storage-opt size=10G bb
--cidfile CIDFILE bb
--env-file ENVFILE --label-file LABELFILE bb
--userns host bb
""".splitlines()

WRONG = """\
--foo bb
-p 1:2:3:4:5 bb
-p 80/sctpx bb
-p x:80 bb
-p 1-2:80-85 bb
--restart on-failure:x bb
--rm --restart always bb
--health-interval x bb
--no-healthcheck --health-cmd x bb
--mount type=bind,foo=bar,dst=/x bb
--mount type=bind,src=/x bb
--mount type=tmpfs,dst=/x,volume-nocopy bb
--log-driver none --log-opt a=b bb
-a nothing bb
--network none --network mine bb
--network mine --network mine bb
--add-host nothing bb
--device relative bb
--memory-swappiness 200 bb
-m x bb
--cpus x bb
--ulimit nofile=x bb
--expose a:b bb
--init=perhaps bb
""".splitlines()


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path_factory.mktemp("docker")) as daemon:
        yield daemon


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Files that lines name; the variables that they take from us."""
    (tmp_path / "env").write_text("# comment\nONE=1\nFROM_US\nTWO=a b\n")
    (tmp_path / "labels").write_text("one=1\ntwo\n")
    monkeypatch.setenv("FROM_US", "ours")
    monkeypatch.delenv("NOT_THERE", raising=False)
    return {
        "ENVFILE": str(tmp_path / "env"), "LABELFILE": str(tmp_path / "labels"), "CIDFILE": str(tmp_path / "cid"),
    }  # fmt: skip


def words(line: str, files: dict[str, str]) -> list[str]:
    import shlex

    return [files.get(word, word) for word in shlex.split(line)]


def without_empty(value: Any) -> Any:
    """What was asked for: docker's client writes many members that say nothing."""
    if isinstance(value, list):
        return [without_empty(member) for member in value]
    if not isinstance(value, dict):
        return value
    shown = {name: without_empty(member) for name, member in value.items()}
    return {name: member for name, member in shown.items() if member not in (None, "", 0, [], {}, [0, 0])}


def dockers_body(daemon: FakeDaemon, line: list[str]) -> dict[str, Any]:
    daemon.answers["POST /containers/create"] = {"Id": "0" * 64, "Warnings": []}
    arguments = ["run" if "-d" in line else "create", *line]
    daemon.asked.pop("POST /containers/create", None)
    result = daemon.docker(*arguments, env={"FROM_US": "ours"})
    assert "POST /containers/create" in daemon.asked, result.stderr
    body: dict[str, Any] = daemon.asked["POST /containers/create"]
    return body


@pytest.mark.parametrize("line", LINES)
def test_a_line_makes_dockers_body(line: str, docker: FakeDaemon, files: dict[str, str]) -> None:
    ours = without_empty(read(words(line, files)))
    theirs = without_empty(dockers_body(docker, words(line, files)))
    if theirs["HostConfig"].get("MemorySwappiness") == -1:  # docker's word for: nothing was asked
        del theirs["HostConfig"]["MemorySwappiness"]
    for body in (ours, theirs):  # docker's client has them in maps
        body["HostConfig"].get("Ulimits", []).sort(key=lambda one: one["Name"])
        body.get("Env", []).sort()
        body["HostConfig"].get("Binds", []).sort()
    assert ours == theirs


def test_rates_of_devices_are_asked_for() -> None:
    """docker's client of version 26 forgets them, so that it is no witness."""
    line = "--device-read-bps /dev/sda:1mb --device-write-bps /dev/sda:2m --device-read-iops /dev/sda:100 bb"
    host = read(line.split())["HostConfig"]
    assert host["BlkioDeviceReadBps"] == [{"Path": "/dev/sda", "Rate": 1 << 20}]
    assert host["BlkioDeviceWriteBps"] == [{"Path": "/dev/sda", "Rate": 2 << 20}]
    assert host["BlkioDeviceReadIOps"] == [{"Path": "/dev/sda", "Rate": 100}]


@pytest.mark.parametrize("line", WRONG)
def test_what_docker_refuses_is_refused(line: str, docker: FakeDaemon, files: dict[str, str]) -> None:
    theirs = docker.docker("run", *words(line, files))
    assert theirs.returncode == 125
    with pytest.raises((CommandError, WrongOptionError)):
        read(words(line, files))


def test_no_image_is_a_wrong_number_of_arguments(docker: FakeDaemon) -> None:
    with pytest.raises(WrongNumberError) as caught:
        read([])
    theirs = docker.docker("create")
    rest = '" requires at least 1 argument.'
    assert theirs.stderr.splitlines()[0] == f'"docker create{rest}'
    assert caught.value.message.endswith(rest)
    assert caught.value.exit_code == theirs.returncode


def test_only_what_leaves_something_behind_needs_the_engine() -> None:
    plain: dict[str, Any] = {option.destination: option.unset for option in CREATE_OPTIONS}
    assert not needs_engine(plain)
    assert not needs_engine(plain | {"rm": True, "tty": True, "memory": "1g", "network": ("none",)})
    assert needs_engine(plain | {"network": ("mine",)})
    assert needs_engine(plain | {"add_hosts": ("x:host-gateway",)})
    for option in ENGINE_OPTIONS:
        asked = ("x",) if option.multiple else True if option.flag else 7 if option.integer else "x"
        assert needs_engine(plain | {option.destination: asked}), option.names
