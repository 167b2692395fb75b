"""Processes that join a container: exec."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from containers.errors import NotExecutedError, UserError
from containers.keeper import protocol
from tests.containers.keeper.home import Box, Home
from tests.toolkit.bounds import eventually, stretched


@pytest.fixture
def box(home: Home) -> Box:
    box = home.create("sleep", "1000", process={"env": [["PATH", "/bin:/usr/bin"], ["OF", "the container"]]})
    box.start()
    return box


def test_it_is_in_all_the_containers_namespaces_with_its_privileges(box: Box) -> None:
    ours = f"/proc/{box.state()['pid']}/ns"
    code, said = box.execute(
        "sh",
        "-c",
        "for ns in /proc/self/ns/*; do readlink $ns; done; grep -E 'Cap(Eff|Bnd)|Seccomp:' /proc/self/status",
    )
    assert code == 0
    lines = said.decode().splitlines()
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
    names = {os.readlink(f"{ours}/{kind}") for kind in kinds}
    assert names <= set(lines)
    status = Path(f"/proc/{box.state()['pid']}/status").read_text()
    for line in lines:
        if line.startswith(("Cap", "Seccomp")):
            assert line in status


def test_its_input_ends_by_half_and_its_code_is_told(box: Box) -> None:
    code, said = box.execute("sh", "-c", "cat; echo after; exit 9", stdin=b"typed ")
    assert (code, said) == (9, b"typed after\n")
    assert list(box.state()["execs"].values()) == [9]


def test_environment_user_and_directory(box: Box) -> None:
    code, said = box.execute(
        "sh", "-c", "echo $OF $MORE; id; pwd; ls -l /proc/self/fd", user="app", cwd="/tmp", env=[["MORE", "of mine"]]
    )
    lines = said.decode().splitlines()
    assert code == 0
    assert lines[:3] == [
        "the container of mine",
        "uid=1000(app) gid=1001(app) groups=50(staff),60(wheel),1001(app)",
        "/tmp",
    ]
    fds = [line.rpartition(" -> ")[2] for line in lines if " -> " in line]
    assert len(fds) == 3
    assert all(fd.startswith("pipe:") for fd in fds), fds  # nothing of the host's


def test_what_cannot_be_executed_is_told(box: Box) -> None:
    with pytest.raises(NotExecutedError) as caught:
        box.execute("no-such-program")
    assert caught.value.code == 127
    with pytest.raises(NotExecutedError) as caught:
        box.execute("/etc/passwd")
    assert caught.value.code == 126
    with pytest.raises(UserError):
        box.execute("true", user="nobody-of-that-name")
    assert box.execute("echo", "fine") == (0, b"fine\n")


def test_a_terminal_with_its_sizes(box: Box) -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(stretched(30))
    fields = {
        "args": [
            "sh",
            "-c",
            "trap 'stty size; exit 3' WINCH; test -t 0 && test -t 2 && stty size; while :; do sleep 0.05; done",
        ],
        "id": "mine",
        "terminal": True,
        "terminal_size": [33, 99],
        "stdin": True,
    }
    with box.keeper() as keeper, ours:
        assert keeper.ask("exec", fields, [theirs.fileno()])[0]["exec"] == "mine"
        theirs.close()
        said = b""
        while b"33 99" not in said:
            said += ours.recv(1000)
        box.ask("resize", {"exec": "mine", "rows": 44, "columns": 111})
        while b"44 111" not in said:
            said += ours.recv(1000)
        assert keeper.receive(timeout_s=stretched(30))[0] == {"ended": {"exit_code": 3}}


def test_privileged_is_all_capabilities_of_the_containers_own_user_namespace(box: Box) -> None:
    code, said = box.execute(
        "sh",
        "-c",
        "grep -E 'CapEff|Seccomp:' /proc/self/status; mkdir /m && mount -t tmpfs none /m && echo mounted",
        privileged=True,
    )
    assert code == 0
    assert b"CapEff:\t000001ffffffffff" in said
    assert b"Seccomp:\t0" in said
    assert b"mounted" in said
    code, said = box.execute(
        "sh", "-c", "echo 1 > /proc/sys/kernel/sysrq || echo b > /proc/sysrq-trigger", privileged=True
    )
    assert code != 0


def test_codes_are_known_when_the_container_ends_meanwhile(box: Box) -> None:
    with box.exec_on_pipes("sh", "-c", "echo here; sleep 1000", id="mine") as (keeper, write, read):
        assert os.read(read, 100) == b"here\n"
        box.stop(timeout_s=0)
        messages = [keeper.receive(timeout_s=stretched(30))[0] for _ in range(2)]
        os.close(write)
    assert messages[1] == {"ended": {"exit_code": 137}}
    assert box.state()["execs"] == {"mine": 137}


def test_it_goes_on_when_who_asked_is_killed(box: Box) -> None:
    with box.exec_on_pipes("sh", "-c", "cat; sleep 0.2; echo done > /done") as (keeper, write, _read):
        assert keeper.receive(timeout_s=stretched(30))[0]["started"] is True
        os.close(write)
    eventually(lambda: (box.folder / "upper" / "fs" / "done").exists())


def test_many_at_once_and_none_is_left_over(box: Box) -> None:
    conversations = [box.keeper() for _ in range(20)]
    for conversation in conversations:
        protocol.send(conversation.socket, {"verb": "exec", "args": ["sh", "-c", "exit 5"]})
    for conversation in conversations:
        assert conversation.receive(timeout_s=stretched(60))[0]["started"] is True
        assert conversation.receive(timeout_s=stretched(60))[0] == {"ended": {"exit_code": 5}}
        conversation.close()
    eventually(lambda: box.ask("state")["execs"] == [])
    code, said = box.execute("ps", "-o", "comm")
    assert (code, said.split()) == (0, [b"COMMAND", b"sleep", b"ps"])


def test_a_signal_ends_it_as_a_shell_tells(box: Box) -> None:
    assert box.execute("sh", "-c", "kill -TERM $$")[0] == 128 + signal.SIGTERM


def test_who_waits_ahead_is_not_counted(box: Box) -> None:
    assert box.execute("true")[0] == 0
    eventually(lambda: box.ask("stats")["pids"] == 1)


def test_nobody_waits_ahead_for_ever(box: Box) -> None:
    assert box.execute("true")[0] == 0
    keeper = int(Path(f"/proc/{box.state()['pid']}/stat").read_text().rpartition(")")[2].split()[1])
    children = Path(f"/proc/{keeper}/task/{keeper}/children")
    eventually(lambda: children.read_text().split() == [str(box.state()["pid"])], timeout_s=60)
    assert box.execute("echo", "fine") == (0, b"fine\n")


def test_who_waits_ahead_and_is_killed_is_replaced(box: Box) -> None:
    assert box.execute("true")[0] == 0
    keeper = int(Path(f"/proc/{box.state()['pid']}/stat").read_text().rpartition(")")[2].split()[1])
    children = Path(f"/proc/{keeper}/task/{keeper}/children")
    eventually(lambda: len(children.read_text().split()) == 2)
    (ahead,) = {int(child) for child in children.read_text().split()} - {box.state()["pid"]}
    os.kill(ahead, signal.SIGKILL)
    eventually(lambda: "State:\tZ" in Path(f"/proc/{ahead}/status").read_text())
    assert box.execute("echo", "fine") == (0, b"fine\n")
    eventually(lambda: not Path(f"/proc/{ahead}").exists())
