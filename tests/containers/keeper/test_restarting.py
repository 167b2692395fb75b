"""Restart policies, health checks, removal by itself: what a keeper does with nobody asking."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from containers.keeper import eventlog, restarts
from tests.containers.keeper.home import Home, wait_until_unlocked
from tests.toolkit.bounds import eventually


@pytest.mark.parametrize(
    ("policy", "code", "restarted", "by_hand", "expected"),
    [
        ({"policy": "no"}, 1, 0, False, False),
        ({}, 1, 0, False, False),
        ({"policy": "always"}, 0, 99, False, True),
        ({"policy": "always"}, 0, 0, True, False),
        ({"policy": "unless-stopped"}, 0, 0, False, True),
        ({"policy": "on-failure"}, 0, 0, False, False),
        ({"policy": "on-failure"}, 1, 1000, False, True),
        ({"policy": "on-failure", "maximum": 2}, 1, 1, False, True),
        ({"policy": "on-failure", "maximum": 2}, 1, 2, False, False),
    ],
)
def test_policies_are_dockers(
    policy: dict[str, object], code: int, restarted: int, by_hand: bool, expected: bool
) -> None:
    assert restarts.wanted(policy, code, restarted, stopped_by_hand=by_hand) is expected


def test_pauses_double_up_to_a_minute_and_begin_again_after_a_calm_time() -> None:
    pauses, last = [], 0.0
    for _ in range(12):
        last = restarts.next_pause(last, 0.5)
        pauses.append(last)
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0, 60.0]
    assert restarts.next_pause(51.2, 10.0) == 0.1


def test_on_failure_gives_up_after_so_many_times(home: Home) -> None:
    box = home.create("sh", "-c", "echo run; exit 4", restart={"policy": "on-failure", "maximum": 2})
    box.start()
    box.until("exited")
    wait_until_unlocked(box)
    assert box.output() == b"run\n" * 3
    assert (box.state()["restarts"], box.state()["exit_code"]) == (2, 4)


def test_a_stop_by_hand_ends_it_between_two_starts_too(home: Home) -> None:
    box = home.create("sh", "-c", "exit 4", restart={"policy": "always"})
    box.start()
    eventually(lambda: box.state()["restarts"] >= 3 and box.state()["status"] == "restarting")
    box.stop()
    assert (box.state()["status"], box.state()["stopped_by_hand"]) == ("exited", True)
    assert not box.is_kept()


def test_a_killed_keeper_takes_its_container_along_and_the_policy_holds(home: Home) -> None:
    box = home.create("sleep", "1000", restart={"policy": "always"})
    box.start()
    first = box.state()["pid"]
    pidfd = os.pidfd_open(first)
    began = time.monotonic()
    os.kill(_keeper_of(first), signal.SIGKILL)
    eventually(lambda: box.state()["status"] == "running" and box.state()["pid"] != first)
    assert box.state()["restarts"] == 1
    with pytest.raises(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, 0)
    os.close(pidfd)
    assert time.monotonic() - began < 60  # a bound, not a measure
    dies = [event for event in eventlog.read(str(home.run)) if event["action"] == "die"]
    assert [event["attributes"]["exitCode"] for event in dies] == ["255"]


def test_without_a_policy_a_killed_keeper_is_written_down_as_255(home: Home) -> None:
    box = home.create("sleep", "1000")
    box.start()
    os.kill(_keeper_of(box.state()["pid"]), signal.SIGKILL)
    box.until("exited")
    assert box.state()["exit_code"] == 255


def test_a_lost_nursery_is_noticed_by_nobody_and_the_next_one_watches(home: Home) -> None:
    box = home.create("sleep", "1000", restart={"policy": "always"})
    box.start()
    first, nursery = box.state()["pid"], home.status()["pid"]
    os.kill(nursery, signal.SIGKILL)
    assert box.execute("echo", "alive") == (0, b"alive\n")
    status = home.status()
    assert status["pid"] != nursery
    assert status["keepers"] == [box.identity]
    os.kill(_keeper_of(first), signal.SIGKILL)
    eventually(lambda: box.state()["status"] == "running" and box.state()["pid"] != first)


def test_a_keeper_that_nobody_needs_ends_though_a_new_nursery_watches_it(home: Home) -> None:
    box = home.create("true")
    with box.keeper():
        os.kill(home.status()["pid"], signal.SIGKILL)
        assert home.status()["keepers"] == [box.identity]
    wait_until_unlocked(box)
    eventually(lambda: home.status()["keepers"] == [])


def test_one_that_removes_itself_is_finished_and_then_waited_for(home: Home, tmp_path: Path) -> None:
    script = tmp_path / "finish.py"
    script.write_text(_FINISH)
    checkout = str(Path(__file__).resolve().parents[3])
    home.finish = [sys.executable, str(script), checkout, str(home.root), str(home.run)]
    box = home.create("sh", "-c", "exit 5", auto_remove=True)
    with box.keeper() as keeper, box.keeper() as waiter:
        keeper.ask("start")
        assert waiter.ask("wait", {"condition": "removed"})[0]["exit_code"] == 5
    assert not box.folder.exists()
    assert os.listdir(home.run / "due") == []


_FINISH = """
import os, shutil, sys
checkout, root, run = sys.argv[1:]
sys.path.insert(0, checkout)
from containers.keeper import nursery_client
for identity in os.listdir(f"{run}/due"):
    shutil.rmtree(f"{root}/containers/{identity}")
    os.unlink(f"{run}/due/{identity}")
    with nursery_client.living(run, identity) as keeper:
        keeper.ask("finished")
"""


def test_health_is_dockers(home: Home) -> None:
    health = {"test": ["CMD-SHELL", "echo checked; test -e /fine"], "interval_s": 0.1, "retries": 2}
    box = home.create("sleep", "1000", health=health)
    box.start()
    assert box.state()["health"]["status"] == "starting"
    eventually(lambda: box.state()["health"]["status"] == "unhealthy")
    assert box.state()["health"]["failing_streak"] >= 2
    assert box.execute("touch", "/fine")[0] == 0
    eventually(lambda: box.state()["health"]["status"] == "healthy")
    record = box.state()["health"]
    assert record["failing_streak"] == 0
    assert record["log"][-1]["output"] == "checked\n"
    assert len(record["log"]) <= 5

    def told() -> list[str]:
        actions = [event["action"] for event in eventlog.read(str(home.run))]
        return [action for action in actions if "health" in action]

    eventually(lambda: told() == ["health_status: unhealthy", "health_status: healthy"], why="the state comes first")


def test_a_check_that_takes_too_long_has_failed(home: Home) -> None:
    health = {"test": ["CMD", "sleep", "1000"], "interval_s": 0.1, "timeout_s": 0.2, "retries": 1}
    box = home.create("sleep", "1000", health=health)
    box.start()
    eventually(lambda: box.state()["health"]["status"] == "unhealthy")
    assert "exceeded timeout" in box.state()["health"]["log"][0]["output"]


def test_failures_of_the_start_period_do_not_count(home: Home) -> None:
    health = {
        "test": ["CMD", "false"],
        "interval_s": 0.1,
        "start_interval_s": 0.05,
        "start_period_s": 1000,
        "retries": 1,
    }
    box = home.create("sleep", "1000", health=health)
    box.start()
    eventually(lambda: len(box.state()["health"]["log"]) >= 3)
    assert (box.state()["health"]["status"], box.state()["health"]["failing_streak"]) == ("starting", 0)


def _keeper_of(pid: int) -> int:
    """The keeper of a container's first process: its parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
