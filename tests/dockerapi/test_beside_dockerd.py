"""docker's command line against our API and against Debian's dockerd: same lines, same output, same exit codes."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bench.tools import Docker
from bench.workloads import BASE
from tests.cli.test_beside_docker import STORIES as STORIES_OF_COMMANDS
from tests.cli.test_beside_docker import Told, alike
from tests.toolkit.bounds import stretched
from tests.toolkit.engineapi import Api
from tests.toolkit.shiplap import Shiplap

pytestmark = pytest.mark.usefixtures("privileged")

_NOT_COMPARED = ("images looked at", "looking closely", "whose processes")
"""Of the command line's stories those that differ over the API; docs/docker-compatibility.md, "Differences"."""

STORIES = {
    **{name: story for name, story in STORIES_OF_COMMANDS.items() if name not in _NOT_COMPARED},
    "images": """
        images --format '{{.Repository}} {{.Tag}} {{.ID}}' --filter reference=BASE
        tag BASE story:one
        tag BASE registry.example/story:two
        images --format '{{.Repository}}:{{.Tag}}' --filter reference=story
        images --format '{{.Repository}}:{{.Tag}}' --filter reference='registry.example/*:t*'
        images -q nothing-like-this
        images --filter nothing=x
        inspect --type image -f '{{json .RepoTags}} {{.Os}} {{.Architecture}} {{json .Config.Cmd}}' story:one
        history -q --no-trunc nothing-like-this
        rmi story:one
        rmi story:one
        rmi registry.example/story:two
        tag nothing-like-this x:y
        tag BASE 'Bad Name'
        save -o HERE/saved.tar BASE
        save -o HERE/none.tar nothing-like-this
        load -i HERE/saved.tar
        """,
    "an image of a tar": """
        create --name t1 --network none BASE true
        export -o HERE/tree.tar t1
        import -c 'CMD ["echo","imported"]' -c 'ENV A=b' -m hello HERE/tree.tar imported:x
        inspect --type image -f '{{json .Config.Cmd}} {{json .Config.Env}} {{.Comment}}' imported:x
        run --rm --network none imported:x
        rm t1
        rmi imported:x
        """,
    "an engine and its host": """
        version --format '{{.Server.Os}} {{.Server.Arch}}'
        info --format '{{.OSType}} {{.Architecture}} {{.NCPU}} {{.Swarm.LocalNodeState}} {{.MemTotal}}'
        plugin ls
        plugin inspect nothing
        node ls
        service ls
        stack ls
        secret ls
        config ls
        swarm leave
        search nothing
        """,
    # The name is no beginning of an ID: events are also found by those.
    "what happens": """
        run --name happens --network none -l a=b BASE sh -c 'exit 3'
        rm happens
        run --rm --network none BASE sleep 1.1
        events --since 10m --until 0s --filter event=die --filter container=happens \
            --format '{{.Type}} {{.Action}} {{.Actor.Attributes.exitCode}} {{.Actor.Attributes.a}}'
        events --since 10m --until 0s --filter container=happens --format '{{.Action}}'
        events --since 1m --until 10m --filter nothing=x
        """,
    # docker reads the two streams by themselves: what is said at once comes in either order.
    "logs": """
        run --name l1 --network none BASE sh -c 'echo one; echo two >&2; sleep 0.5; printf three'
        logs l1
        logs -f l1
        logs -f --tail 1 l1
        logs --tail 0 l1
        logs --since 10m l1
        logs --until 10m l1
        run --rm --network none BASE sleep 1.1
        logs -f --until 1s l1
        logs --since nonsense l1
        rm l1
        run --name l2 --log-driver none --network none BASE echo hidden
        logs l2
        rm l2
        """,
    "waiting": """
        run -d --name w1 --network none BASE sh -c 'sleep 0.3; exit 5'
        wait w1
        wait w1
        rm w1
        run --rm --name w2 --network none BASE sh -c 'exit 6'
        wait w2
        create --name w3 --network none BASE sh -c 'exit 7'
        wait w3
        start -a w3
        container prune -f --filter label=nobody-has-it
        rm w3
        """,
    "prunes": """
        volume create kept-by-name
        volume prune -f
        volume ls -q --filter name=kept-by-name
        volume prune -af --filter label=nobody-has-it
        volume rm kept-by-name
        network create pruned-net
        network prune -f --filter label=nobody-has-it
        network rm pruned-net
        image prune -f --filter until=87600h
        """,
}  # fmt: skip

_ERRORS_DIFFER = (
    "run -d --name s6 --network none nothing-like", "kill -s NOTHING", "rmi ", "run --rm --dns nowhere",
    "run --rm --network container:nobody", "swarm leave", "search nothing", "plugin inspect",
    "logs --since nonsense", "inspect", "run -m 1k",
    "save -o HERE/none.tar",
)  # fmt: skip
"""Whose errors say the same in other words."""


class Both:
    """One client, two daemons, the same image in both."""

    def __init__(self, api: Api, directory: Path) -> None:
        self._api = api
        self._docker = {**api.environment, "DOCKER_HOST": f"unix://{directory}/docker/docker.sock"}

    def ours(self, line: Sequence[str]) -> Told:
        return self._ran(line, self._api.environment)

    def theirs(self, line: Sequence[str]) -> Told:
        return self._ran(line, self._docker)

    def _ran(self, line: Sequence[str], environment: dict[str, str]) -> Told:
        ran = subprocess.run(
            ["docker", *line],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            timeout=stretched(120),
        )
        return Told(ran.returncode, alike(ran.stdout), ran.stderr)

    def log(self) -> str:
        return self._api.log()[-3000:]


@pytest.fixture(scope="module")
def both(busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    directory = Path(tempfile.mkdtemp(prefix="shiplap-both-", dir="/tmp"))  # short: sockets are below
    shiplap = Shiplap(tmp_path_factory.mktemp("both") / "root")
    docker, api = Docker(directory), Api(shiplap, directory)
    try:
        docker.start(busybox_tar)
        shiplap("image", "import", busybox_tar, BASE)
        api.start()
        yield Both(api, directory)
        api.stop()
    finally:
        docker.stop()
        shutil.rmtree(directory)


@pytest.mark.parametrize("name", STORIES)
def test_a_story_goes_as_with_dockerd(name: str, both: Both, tmp_path: Path) -> None:
    asked = ((both.theirs, "dockerd"), (both.ours, "shiplap"))
    for _, who in asked:
        (tmp_path / who).mkdir()
    for text in STORIES[name].strip().splitlines():
        words = text.strip().replace("BASE", BASE)
        theirs, ours = (ask(shlex.split(words.replace("HERE", str(tmp_path / who)))) for ask, who in asked)
        if words.startswith("diff "):  # docker has no order
            theirs, ours = (told._replace(out=_sorted(told.out)) for told in (theirs, ours))
        if words.startswith("rmi "):  # docker names each layer that goes, too
            theirs, ours = (told._replace(out=_once(told.out)) for told in (theirs, ours))
        told = f"{text.strip()}\ndockerd: {theirs}\nshiplap: {ours}\n{both.log()}"
        assert (ours.code, ours.out) == (theirs.code, theirs.out), told
        assert bool(ours.err) == bool(theirs.err), told
        if theirs.err and not text.strip().startswith(_ERRORS_DIFFER):
            said = _said(theirs.err)
            assert all(line.partition(" (")[0] in said for line in _said(ours.err).splitlines()), told  # less hints


def _sorted(text: str) -> str:
    return os.linesep.join(sorted(text.splitlines()))


def _once(text: str) -> str:
    return os.linesep.join(dict.fromkeys(text.splitlines()))


def _said(text: str) -> str:
    """The text of errors, as far as it is of the daemon."""
    lines = [line.rpartition("Error response from daemon: ")[2].removesuffix(".") for line in text.splitlines()]
    return alike("\n".join(line for line in lines if line and not line.startswith(("See '", "Usage:"))))
