"""Events: docker's documents, filters, and what follows; order and time agree."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path
from typing import Any

import pytest

from containers.keeper import eventlog
from engine.errors import InvalidRequestError
from engine.events import EventReader


def note(run: Path, action: str, identity: str = "ab" * 32, kind: str = "container", **attributes: str) -> int:
    return eventlog.append(str(run), kind, action, identity, {"image": "app:1", "name": "one", **attributes})


def read(run: Path, filters: dict[str, Any] | None = None, since_ns: int = 1, until_ns: int = 0) -> list[str]:
    found = EventReader(run).read(since_ns=since_ns, until_ns=until_ns, filters=filters, follow=False)
    return [event["Action"] for event in found]


def test_an_event_is_dockers_document(tmp_path: Path) -> None:
    moment = note(tmp_path, "die", exitCode="3")
    (event,) = EventReader(tmp_path).read(since_ns=1, until_ns=0, filters=None, follow=False)
    assert event == {
        "status": "die",
        "id": "ab" * 32,
        "from": "app:1",
        "Type": "container",
        "Action": "die",
        "Actor": {"ID": "ab" * 32, "Attributes": {"exitCode": "3", "image": "app:1", "name": "one"}},
        "scope": "local",
        "time": moment // 10**9,
        "timeNano": moment,
    }


def test_filters_choose(tmp_path: Path) -> None:
    note(tmp_path, "create", label="x")
    note(tmp_path, "health_status: healthy")
    note(tmp_path, "create", identity="data", kind="volume")
    note(tmp_path, "start", identity="cd" * 32, name="two", image="other")
    every = ["create", "health_status: healthy", "create", "start"]
    for filters, wanted in (
        ({}, every),
        ({"type": ["volume"]}, ["create"]),
        ({"event": ["health_status", "start"]}, ["health_status: healthy", "start"]),
        ({"container": ["two"]}, ["start"]),
        ({"container": ["abab"]}, ["create", "health_status: healthy"]),
        ({"container": ["one", "two"], "event": ["create"]}, ["create"]),
        ({"volume": ["data"]}, ["create"]),
        ({"image": ["app"]}, ["create", "health_status: healthy", "create"]),
        ({"label": ["label=x"]}, ["create"]),
        ({"label": ["label=y"]}, []),
        ({"scope": ["swarm"]}, []),
        ({"event": {"start": True, "create": False}}, ["start"]),
    ):
        assert read(tmp_path, filters) == wanted, filters
    with pytest.raises(InvalidRequestError, match="invalid filter 'pumpkin'"):
        read(tmp_path, {"pumpkin": ["1"]})


def test_since_and_until_bound(tmp_path: Path) -> None:
    moments = [note(tmp_path, action) for action in ("a", "b", "c")]
    assert read(tmp_path, since_ns=moments[1]) == ["b", "c"]
    assert read(tmp_path, until_ns=moments[1]) == ["a", "b"]
    assert read(tmp_path, since_ns=0) == []  # from now on


def test_a_follower_gets_each_event_once_across_files(tmp_path: Path) -> None:
    note(tmp_path, "old")
    seen: list[str] = []
    begun = threading.Event()

    def follow() -> None:
        for event in EventReader(tmp_path).read(since_ns=1, until_ns=0, filters=None, follow=True):
            seen.append(event["Action"])
            begun.set()
            if event["Action"] == "last":
                return

    following = threading.Thread(target=follow)
    following.start()
    begun.wait()
    for number in range(600):
        note(tmp_path, f"n{number}", padding="x" * 2_000)  # more than a file takes
    note(tmp_path, "last")
    following.join()
    assert seen == ["old", *(f"n{number}" for number in range(600)), "last"]
    assert len(eventlog.numbers(str(tmp_path))) == eventlog.KEPT


def test_a_follower_ends_at_the_time_that_was_asked_for(tmp_path: Path) -> None:
    moment = note(tmp_path, "a")
    found = EventReader(tmp_path).read(since_ns=1, until_ns=moment + 50_000_000, filters=None, follow=True)
    assert [event["Action"] for event in found] == ["a"]


def test_somebody_who_is_stopped_with_the_lock_costs_an_event_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(tmp_path, "start")
    monkeypatch.setattr(eventlog, "_PATIENCE_S", 0.1)
    with open(tmp_path / "events" / "lock", "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match="somebody has held"):
            note(tmp_path, "die")
    note(tmp_path, "stop")
    assert [event["action"] for event in eventlog.read(str(tmp_path))] == ["start", "stop"]


def test_what_somebody_was_killed_over_is_passed_over(tmp_path: Path) -> None:
    note(tmp_path, "create")
    with open(eventlog.path(str(tmp_path), 1), "ab") as file:
        file.write(b'{"time_ns": 12, "type": "contai')
    assert read(tmp_path) == ["create"]
    note(tmp_path, "start")
    note(tmp_path, "die")
    assert read(tmp_path) == ["create", "start", "die"]
    assert [event["action"] for event in eventlog.read(str(tmp_path))] == ["create", "start", "die"]


def test_labels_without_bounds_leave_what_others_have_seen(tmp_path: Path) -> None:
    note(tmp_path, "create")
    labels = {f"label{number}": "x" * 1000 for number in range(5000)}
    whole = {**labels, "image": "app:1", "name": "one", "exitCode": "3"}
    eventlog.append(str(tmp_path), "container", "exec_create: " + "y" * (4 << 20), "ab" * 32, whole)
    events = list(EventReader(tmp_path).read(since_ns=1, until_ns=0, filters={"container": ["one"]}, follow=False))
    assert [event["Action"].partition(":")[0] for event in events] == ["create", "exec_create"]
    assert events[1]["Actor"]["Attributes"]["exitCode"] == "3"
    assert sum(path.stat().st_size for path in (tmp_path / "events").iterdir()) < 256 << 10
