"""A container among another one's processes, and in its System V IPC: what it may, and what stays of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import containers
from containers.errors import ContainerError
from engine.engine import Engine
from engine.errors import ConflictError, ContainerNotFoundError, InvalidRequestError
from tests.engine.test_life import create, output
from tests.toolkit.bounds import eventually, stretched

_SLEEP = ("sleep", "1000")


def started(engine: Engine, name: str, *command: str, **host: Any) -> int:
    """Make and start a container; the host's number of its first process."""
    create(engine, name, *(command or _SLEEP), host=host)
    engine.start(name)
    return pid_of(engine, name)


def pid_of(engine: Engine, name: str) -> int:
    pid: int = engine.inspect(name)["State"]["Pid"]
    return pid


def said(engine: Engine, name: str, script: str, **host: Any) -> str:
    """What a script in a container of its own says."""
    create(engine, name, "sh", "-c", script, host=host)
    engine.start(name)
    engine.wait(name)
    return output(engine, name).decode()


def inside(engine: Engine, name: str, *command: str) -> bytes:
    """What a command that joined the container says."""
    heard, told = os.pipe()
    with open(os.devnull, "rb") as nothing, open(heard, "rb") as file:
        conversation, _ = engine.execute(name, {"args": command}, (nothing.fileno(), told, told))
        with conversation:
            os.close(told)
            while "ended" not in conversation.receive()[0]:
                pass
        return file.read()


def namespaces(pid: int) -> dict[str, str]:
    kinds = ("net", "user", "pid", "mnt", "ipc", "uts", "cgroup")
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in kinds}


def marked(mark: str) -> list[int]:
    """The host's numbers of processes with this word on their command line."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark.encode() in words:
            found.append(int(name))
    return found


def test_a_container_is_among_another_one_s_processes(living: Engine) -> None:
    web = started(living, "web")
    tool = started(living, "tool", PidMode="container:web", Init=True)
    ours, theirs = namespaces(tool), namespaces(web)
    assert {kind for kind in ours if ours[kind] == theirs[kind]} == {"user", "pid"}
    document = living.inspect("tool")["HostConfig"]
    assert document["PidMode"] == f"container:{living.inspect('web')['Id']}"
    text = said(living, "one", "ps -o pid,args; kill -0 1 && echo may", PidMode="container:web")
    assert "    1 sleep 1000" in text  # docker, too, puts no init of its own where another's process is the first
    assert "may" in text
    listed = {name: {row[1] for row in living.top(name, "-o pid,args")["Processes"]} for name in ("web", "tool")}
    assert listed == {"web": {"sleep 1000"}, "tool": {"sleep 1000"}}
    assert [row[0] for row in living.top("tool", "-o pid,args")["Processes"]] == [str(tool)]
    assert inside(living, "tool", "readlink", "/proc/self/ns/mnt").decode().strip() == ours["mnt"]
    assert inside(living, "tool", "ps", "-o", "args").count(b"sleep 1000") == 2


def test_what_it_started_ends_with_it_and_all_with_the_other(living: Engine, tmp_path: Path) -> None:
    """No PID namespace ends with it: control groups tell what is its."""
    web = started(living, "web")
    mark = str(300_000 + os.getpid())
    said(living, "one", f"setsid sleep {mark} & setsid sleep {mark} & echo begun", PidMode="container:web")
    assert marked(mark) == []
    keeper_of = started(living, "two", "sh", "-c", f"setsid sleep {mark} & exec sleep {mark}", PidMode="container:web")
    eventually(lambda: len(marked(mark)) == 2)
    keeper = int(Path(f"/proc/{keeper_of}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(keeper, signal.SIGKILL)
    eventually(lambda: marked(mark) == [], why="the nursery has seen to it")
    eventually(lambda: living.inspect("two")["State"]["ExitCode"] == 255)
    assert pid_of(living, "web") == web
    started(living, "three", "sleep", mark, PidMode="container:web")
    living.stop("web", timeout_s=0)
    assert living.wait("three") == 137
    assert marked(mark) == []
    for name in ("one", "three"):
        with pytest.raises(ConflictError, match=r"failed to join PID namespace: container [0-9a-f]{64} is not running"):
            living.start(name)
    living.remove("web")
    with pytest.raises(ConflictError, match="failed to join PID namespace: No such container"):
        living.start("three")


_MAKING = """
import os, sys
from containers.birth import Births
from containers.rootfs import Layers
namespaces = {name: os.open(f"/proc/{sys.argv[1]}/ns/{name}", os.O_RDONLY) for name in ("user", "pid")}
births = Births((0, 0), Layers("", -1), 0, death_signal=0)
guest = births.fork_beside("one", "none", (-1, []), namespaces)
print(guest.pid, flush=True)
sys.stdin.read()
guest.channel.close()
os.waitpid(guest.pid, 0)
"""
"""As a keeper does it: with one thread, which a process of tests need not have."""


def test_nobody_of_the_other_container_looks_into_its_making(living: Engine) -> None:
    """Root of the other container sees its set-up among its processes: a copy of the keeper, with the host in sight."""
    web = started(living, "web", CapAdd=["SYS_PTRACE", "SYS_ADMIN"])
    command = [sys.executable, "-P", "-c", _MAKING, str(web)]
    environment = {**os.environ, "PYTHONPATH": str(Path(containers.__file__).parents[1])}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as maker:
        assert maker.stdin is not None
        assert maker.stdout is not None
        guest = maker.stdout.readline().strip()
        status = Path(f"/proc/{guest}/status").read_text()
        seen = next(line.split()[-1] for line in status.splitlines() if line.startswith("NSpid:"))
        assert inside(living, "web", "ls", "/proc/1/root/bin/busybox") == b"/proc/1/root/bin/busybox\n"
        for what in ("root/etc/hostname", "fd/0", "cwd/", "exe"):
            said_of_it = inside(living, "web", "ls", "-l", f"/proc/{seen}/{what}").decode()
            assert "ermission denied" in said_of_it, said_of_it
        assert inside(living, "web", "cat", f"/proc/{seen}/comm") != b""
        maker.stdin.close()
        assert maker.wait(stretched(30)) == 0


def test_a_container_shares_what_another_gives_of_its_memory(living: Engine) -> None:
    script = "echo hello >/dev/shm/x; exec sleep 1000"
    web = started(living, "web", "sh", "-c", script, IpcMode="shareable", ShmSize=1 << 20)
    eventually(lambda: inside(living, "web", "ls", "/dev/shm") == b"x\n")
    tool = started(living, "tool", IpcMode="container:web")
    ours, theirs = namespaces(tool), namespaces(web)
    assert {kind for kind in ours if ours[kind] == theirs[kind]} == {"user", "ipc"}
    script = "cat /dev/shm/x; echo world >/dev/shm/y; df -k /dev/shm | grep -o 1024; grep ' /dev/shm ' /proc/mounts"
    text = said(living, "one", script, IpcMode="container:web")
    assert text.startswith("hello\n1024\n")
    assert all(flag in text.splitlines()[-1] for flag in ("nosuid", "nodev", "noexec"))
    assert inside(living, "web", "cat", "/dev/shm/y") == b"world\n"
    living.restart("web", timeout_s=0)
    assert inside(living, "web", "ls", "/dev/shm") == b"x\n"
    assert inside(living, "tool", "ls", "/dev/shm") == b"x\ny\n"
    started(living, "private")
    with pytest.raises(ContainerError, match="non-shareable IPC"):
        said(living, "two", "true", IpcMode="container:private")
    assert said(living, "none", "ls -d /dev/shm 2>&1", IpcMode="none") == "ls: /dev/shm: No such file or directory\n"


def test_what_is_shared_is_of_one_user_namespace(living: Engine) -> None:
    web = started(living, "web", IpcMode="shareable")
    started(living, "other")
    started(living, "friend", NetworkMode="container:web")
    everything = {"PidMode": "container:web", "IpcMode": "container:web", "NetworkMode": "container:friend"}
    tool = started(living, "tool", **everything)
    ours, theirs = namespaces(tool), namespaces(web)
    assert {kind for kind in ours if ours[kind] == theirs[kind]} == {"user", "ipc", "pid", "net"}
    with pytest.raises(ContainerError, match="of another user namespace"):
        started(living, "torn", PidMode="container:web", NetworkMode="container:other")
    with pytest.raises(ContainerNotFoundError, match="No such container: nobody"):
        create(living, "new", "true", host={"PidMode": "container:nobody"})
    for mode, why in (("nothing", "invalid PID mode: nothing"), ("container:", "invalid PID mode: container:")):
        with pytest.raises(InvalidRequestError, match=why):
            create(living, "new", "true", host={"PidMode": mode})


def test_its_policy_brings_it_back_among_the_other_s_processes(living: Engine) -> None:
    started(living, "web")
    policy = {"Name": "always", "MaximumRetryCount": 0}
    first = started(living, "tool", PidMode="container:web", RestartPolicy=policy)
    os.kill(first, signal.SIGKILL)

    def is_back() -> bool:
        state = living.inspect("tool")["State"]
        return bool(state["Status"] == "running" and state["Pid"] != first)

    eventually(is_back)
    assert namespaces(pid_of(living, "tool"))["pid"] == namespaces(pid_of(living, "web"))["pid"]
