"""A container beside another one: what of it is shared, what is not, and that it ends with it."""

from __future__ import annotations

import os

import pytest

from containers.capabilities import ALL_CAPABILITIES
from containers.errors import ContainerError, StateError
from containers.handles import Container
from containers.resources import Limits
from containers.spec import Device, LimitGroup, OthersRoot
from tests.containers.running import Runner, Traces, eventually
from tests.toolkit.bounds import stretched

_GROUP = LimitGroup("companions", Limits())


def beside(run: Runner, main: Container, script: str, **fields: object) -> str:
    """What a shell script beside a container says."""
    said = run.folder / "beside"
    with open(os.devnull, "rb") as null, open(said, "wb") as output:
        spec = run.spec("sh", "-euc", script, network="default", group=_GROUP, **fields)
        out = output.fileno()
        status = main.accompany(spec, stdin=null.fileno(), stdout=out, stderr=out).wait(stretched(30))
    assert status.code == 0, said.read_text()
    return said.read_text()


def test_a_companion_has_the_others_users_and_network_and_sees_its_root(run: Runner) -> None:
    script = "echo kept >/file; chown 7:8 /file; while :; do nc -l -p 80 -e echo heard; done"
    with run.start("sh", "-c", script, network="none", init=True, group=_GROUP) as main:
        assert eventually(lambda: main.listens(80))
        mounts = (OthersRoot("/other"), Device("/dev/net/tun", "/dev/net/tun"))
        ask = """
            cat /other/file; stat -c '%u:%g' /other/file; nc -w 5 127.0.0.1 80; ls /proc | grep -c '^[0-9]'
            chmod 0 /dev/net/tun 2>/dev/null || echo the node stays; test -w /dev/net/tun
        """
        said = beside(run, main, ask, mounts=mounts, capabilities=ALL_CAPABILITIES, filtered=False, privileged=True)
    assert said.splitlines()[:3] == ["kept", "7:8", "heard"]
    assert int(said.splitlines()[3]) <= 4  # its own processes, and none of the other's
    assert said.splitlines()[4:] == ["the node stays"]


def test_a_companion_ends_with_the_other(run: Runner) -> None:
    with run.start("sleep", "1000", network="none", group=_GROUP) as main, open(os.devnull, "r+b") as null:
        fd = null.fileno()
        companion = main.accompany(run.spec("sleep", "1000", group=_GROUP), stdin=fd, stdout=fd, stderr=fd)
        main.kill()
        assert companion.wait(stretched(10)).signal == 9
        main.wait(stretched(10))
        with pytest.raises(StateError):
            main.accompany(run.spec("true", group=_GROUP), stdin=fd, stdout=fd, stderr=fd)


def test_control_groups_that_a_companion_made_go_with_it(run: Runner) -> None:
    make = "mkdir -p /sys/fs/cgroup/one/two; echo made; sleep 1000"
    with run.start("sleep", "1000", network="none", group=_GROUP) as main, open(os.devnull, "r+b") as null:
        fd, read, write = null.fileno(), *os.pipe()
        spec = run.spec("sh", "-euc", make, group=_GROUP, capabilities=ALL_CAPABILITIES, privileged=True)
        companion = main.accompany(spec, stdin=fd, stdout=write, stderr=write)
        os.close(write)
        with open(read, "rb") as said:
            assert said.readline() == b"made\n"
        groups = [path for path in Traces.of(run.launcher.pid).cgroups if "/companions/" in path]
        assert any(os.path.isdir(f"{path}/one/two") for path in groups)
        main.kill()
        companion.wait(stretched(10))
        main.wait(stretched(10))
        assert eventually(lambda: not any(map(os.path.isdir, groups)))
    assert run("echo the launcher goes on") == "the launcher goes on\n"


def test_limits_have_to_hold_both(run: Runner) -> None:
    with run.start("sleep", "1000", network="none") as main, open(os.devnull, "r+b") as null:
        fd = null.fileno()
        with pytest.raises(ContainerError, match="in no group"):
            main.accompany(run.spec("true"), stdin=fd, stdout=fd, stderr=fd)
