"""Stop, kill, pause, wait: what is asked of a container that runs."""

from __future__ import annotations

import os
import signal
import time

import pytest

from containers.errors import StateError
from containers.keeper import eventlog, protocol
from tests.containers.keeper.home import Box, Home, wait_until_unlocked
from tests.toolkit.bounds import eventually

_TRAPS = "trap 'echo told; exit 7' TERM USR1; echo ready; while :; do sleep 0.05; done"


def _ready(box: Box) -> Box:
    box.start()
    eventually(lambda: b"ready\n" in box.output())
    return box


def test_stop_sends_the_stop_signal_and_waits(home: Home) -> None:
    box = _ready(home.create("sh", "-c", _TRAPS))
    box.stop()
    state = box.state()
    assert (state["status"], state["exit_code"], state["stopped_by_hand"]) == ("exited", 7, True)
    assert box.output() == b"ready\ntold\n"
    assert not box.is_kept()  # whoever waited for the end can start it at once
    assert [event["action"] for event in eventlog.read(str(home.run))] == ["start", "kill", "die", "stop"]


def test_who_does_not_listen_is_killed_after_the_time(home: Home) -> None:
    box = home.create("sleep", "1000", stop={"signal": int(signal.SIGUSR2), "timeout_s": 0.3})
    box.start()
    began = time.monotonic()
    box.stop()
    assert time.monotonic() - began >= 0.3
    assert box.state()["exit_code"] == 137


def test_stop_goes_on_when_who_asked_goes_away(home: Home) -> None:
    box = _ready(home.create("sh", "-c", _TRAPS))
    with box.keeper() as keeper:
        protocol.send(keeper.socket, {"verb": "stop"})
    box.until("exited")
    wait_until_unlocked(box)


def test_a_signal_is_the_commands_own_with_and_without_init(home: Home) -> None:
    for init in (False, True):
        box = _ready(home.create("sh", "-c", _TRAPS, process={"init": init}))
        with box.keeper() as keeper:
            keeper.ask("signal", {"number": int(signal.SIGUSR1)})
            keeper.ask("wait", {"condition": "not-running"})
        assert box.state()["exit_code"] == 7


def test_init_reaps_what_the_command_left_behind(home: Home) -> None:
    script = "(sleep 0.1 &) ; sleep 0.5; ps -o stat,comm"
    box = home.create("sh", "-c", script, process={"init": True})
    assert box.run() == 0
    lines = box.output().decode().splitlines()
    assert not [line for line in lines if line.strip().startswith("Z")]
    assert any("init" in line for line in lines)


def test_a_paused_one_stands_still_and_can_be_stopped(home: Home) -> None:
    box = _ready(home.create("sh", "-c", _TRAPS))
    box.ask("pause")
    assert box.state()["status"] == "paused"
    with pytest.raises(StateError, match="already paused"):
        box.ask("pause")
    with pytest.raises(StateError, match="paused"):
        box.execute("true")
    box.ask("unpause")
    assert box.state()["status"] == "running"
    box.ask("pause")
    box.stop()
    assert box.state()["exit_code"] == 7


def test_a_paused_one_can_be_killed(home: Home) -> None:
    box = _ready(home.create("sh", "-c", _TRAPS))
    box.ask("pause")
    box.ask("signal", {"number": 9})
    eventually(lambda: box.state()["status"] == "exited", why="its keeper has noticed")
    assert box.state()["exit_code"] == 137


def test_what_does_not_run_cannot_be_signalled_or_paused(home: Home) -> None:
    box = home.create("true")
    for verb, fields in (("signal", {"number": 9}), ("pause", {}), ("stats", {}), ("root", {})):
        with pytest.raises(StateError, match="not running"):
            box.ask(verb, fields)
    assert box.stop() == {"ok": True, "already": True}
    wait_until_unlocked(box)
    assert not (box.folder / "state.json").exists()


def test_the_counters_and_the_root_are_the_containers(home: Home) -> None:
    box = _ready(home.create("sh", "-c", f"echo mine > /mine; {_TRAPS}", limits={"pids": 50, "memory_bytes": 64 << 20}))
    counters = box.ask("stats")
    assert counters["pids"] >= 1
    assert counters["pids_limit"] == 50
    assert counters["memory_limit_bytes"] == 64 << 20
    assert counters["cores"] == os.cpu_count()
    assert counters["system_ns"] > 0
    box.ask("limits", {"limits": {"pids": 60}})
    assert box.ask("stats")["pids_limit"] == 60
    with box.keeper() as keeper:
        answer, (root,) = keeper.ask("root")
    try:
        assert answer["range"] == box.state()["range"]
        with open(os.open("mine", os.O_RDONLY, dir_fd=root)) as file:
            assert file.read() == "mine\n"
    finally:
        os.close(root)


def test_two_containers_are_two_nobodies(home: Home) -> None:
    one, other = _ready(home.create("sh", "-c", _TRAPS)), _ready(home.create("sh", "-c", _TRAPS))
    ranges = {one.state()["range"], other.state()["range"]}
    assert len(ranges) == 2
    for box in (one, other):
        assert os.stat(f"/proc/{box.state()['pid']}").st_uid == box.state()["range"]
        assert box.state()["range"] % 65536 == 0
