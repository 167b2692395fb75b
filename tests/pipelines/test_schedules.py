"""Runs that begin by themselves: one for each time, whoever looks and whoever dies, made up for within an hour."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import func, select, update

from ci.model import Schedule
from pipelines.hooks import scheduling
from pipelines.hooks.scheduling import BY, start_due
from pipelines.model import GitSource, HookSettings, Project, Run
from pipelines.runs.schedules import Schedules, write_schedules
from pipelines.schema import runs, schedules
from pipelines.service import Service

URL = "https://git.example/app.git"
NIGHT = Schedule("0 3 * * *")
HALF = Schedule("*/30 * * * *", branch="next", zone="Europe/Berlin")


class Times:
    """The times of a project, by a clock that the test sets."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.now = at("2026-11-28T12:00")
        self.schedules = Schedules(service.database, clock=lambda: self.now)
        service.projects.put(Project("app", hook=HookSettings(URL, "plain")))

    def write(self, run: int = 1, **found: Any) -> None:
        with self.service.database.write() as connection:
            write_schedules(connection, "app", run, found, self.now)

    def start(self) -> list[Run]:
        return start_due(self.schedules, self.service.projects, self.service.runs)

    def shown(self) -> list[tuple[str, str, str]]:
        """Pipeline, fields and the next time in UTC."""
        return [(view.pipeline, view.at, text(view.next[0])) for view in self.schedules.list("app")]


def at(moment: str) -> float:
    return datetime.datetime.fromisoformat(moment).replace(tzinfo=datetime.UTC).timestamp()


def text(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%m-%d %H:%M")


@pytest.fixture
def times(service: Service) -> Iterator[Times]:
    return Times(service)  # type: ignore[return-value]


def test_a_run_begins_when_its_time_has_come_and_once(times: Times) -> None:
    times.write(main=[NIGHT], other=[HALF])
    assert times.shown() == [("main", "0 3 * * *", "11-29 03:00"), ("other", "*/30 * * * *", "11-28 12:30")]
    times.now = at("2026-11-28T12:29")
    assert times.start() == []
    times.now = at("2026-11-28T12:30")
    (run,) = times.start()
    assert isinstance(run.source, GitSource)
    assert (run.project, run.source.url, run.source.branch) == ("app", URL, "next")
    assert (run.trigger.kind, run.trigger.by, run.trigger.pipeline) == ("cron", BY, "other")
    assert times.start() == []
    assert [view.last_run for view in times.schedules.list("app")] == [None, run.number]
    assert len(times.schedules.list("app")[1].next) == 3
    times.now = at("2026-11-29T03:00")
    assert {run.trigger.pipeline for run in times.start()} == {"main", "other"}


def test_one_that_was_missed_is_made_up_for_within_an_hour(times: Times) -> None:
    times.write(main=[NIGHT])
    times.now = at("2026-11-29T03:59")
    assert len(times.start()) == 1
    assert times.shown()[0][2] == "11-30 03:00"
    times.now = at("2026-12-02T04:01")
    assert times.start() == []
    assert times.shown()[0][2] == "12-03 03:00"


def test_of_several_that_were_missed_one_is_made_up_for(times: Times) -> None:
    times.write(main=[Schedule("*/10 * * * *")])
    for now, following in (("2026-11-28T12:55", "11-28 13:00"), ("2026-11-30T08:05", "11-30 08:10")):
        times.now = at(now)
        assert len(times.start()) == 1
        assert times.start() == []
        assert times.shown()[0][2] == following


def test_whoever_looks_at_the_same_moment_starts_one(times: Times) -> None:
    times.write(main=[HALF])
    for half in range(1, 6):
        times.now = at("2026-11-28T12:00") + half * 1800
        started: list[Run] = []
        threads = [threading.Thread(target=lambda into=started: into.extend(times.start())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(started) == 1
    with times.service.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(runs)).scalar() == 5


def test_whoever_dies_in_the_transaction_leaves_the_time_due(times: Times, monkeypatch: pytest.MonkeyPatch) -> None:
    times.write(main=[HALF])
    times.now += 1800

    class KilledError(Exception):
        pass

    def killed(*_: object) -> None:
        raise KilledError

    monkeypatch.setattr(Schedules, "note_run", killed)
    with pytest.raises(KilledError):
        times.start()
    with times.service.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(runs)).scalar() == 0
    monkeypatch.undo()
    assert len(times.start()) == 1


def test_times_stay_as_long_as_the_file_says_so(times: Times) -> None:
    times.write(main=[NIGHT, HALF])
    times.now += 1800
    (run,) = times.start()
    times.write(2, main=[HALF, HALF, NIGHT])  # the same twice is once
    views = times.schedules.list("app")
    assert [(view.at, view.last_run) for view in views] == [(HALF.at, run.number), (NIGHT.at, None)]
    assert times.start() == []  # its time was not lost, nor did it come again
    times.write(3, main=[NIGHT])
    assert [view.at for view in times.schedules.list("app")] == [NIGHT.at]
    times.write(4, other=[HALF])
    assert [view.pipeline for view in times.schedules.list("app")] == ["other"]
    times.write(5)
    assert times.schedules.list("app") == []


def test_a_wrong_file_changes_no_times_and_an_older_commit_neither(times: Times) -> None:
    times.write(5, main=[NIGHT], other=[HALF])
    times.write(6, main=None, other=[])
    assert [view.pipeline for view in times.schedules.list("app")] == ["main"]
    times.write(4, other=[HALF])
    assert [view.pipeline for view in times.schedules.list("app")] == ["main"]


def test_a_project_that_cannot_be_run_has_its_time_pass(times: Times, caplog: pytest.LogCaptureFixture) -> None:
    times.write(main=[HALF])
    times.service.projects.put(Project("app"))
    times.now += 1800
    assert times.start() == []
    assert "pipeline main cannot run: project app has no repository" in caplog.text
    assert times.shown()[0][2] == "11-28 13:00"


def test_times_that_this_release_cannot_read_stop_nobody(times: Times) -> None:
    times.write(main=[HALF], other=[HALF])
    with times.service.database.write() as connection:
        this = update(schedules).where(schedules.c.pipeline == "main")
        connection.execute(this.values(at="at tea time"))
    times.now += 1800
    assert {run.trigger.pipeline for run in times.start()} == {"main", "other"}
    assert times.start() == []
    assert times.schedules.list("app")[0].next == ()


def test_times_go_with_their_project(times: Times) -> None:
    times.write(main=[NIGHT])
    times.service.projects.remove("app")
    with times.service.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(schedules)).scalar() == 0
    assert scheduling.start_due(times.schedules, times.service.projects, times.service.runs) == []
