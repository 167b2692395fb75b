"""One attempt's end: whatever ends it, the run has one state afterwards, and no attempt is left that nobody is at."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from builder.errors import BuildCancelledError
from core.settings import ServiceSettings
from pipelines.claims import Claims
from pipelines.faults import pause_s
from pipelines.loglines import decode_line
from pipelines.logwriter import LogWriter
from pipelines.model import BuildOptions, ContextSource, RunRequest, RunResult
from pipelines.service import Service
from worker.building import Work
from worker.execution import Execution
from worker.resources import Resources, WorkerSettings

Build = Callable[[Work, LogWriter], RunResult]


@pytest.fixture
def resources(service: Service, settings: ServiceSettings) -> Iterator[Resources]:
    opened = Resources(WorkerSettings(settings, "w"))
    yield opened
    opened.close()


def begun(resources: Resources, monkeypatch: pytest.MonkeyPatch, build: Build, **options: float) -> Execution:
    """An attempt at a new run, whose build is a stand-in."""
    monkeypatch.setattr("worker.execution.build_and_push", build)
    source = ContextSource("sha256:" + "0" * 64)
    resources.service.runs.submit(RunRequest(source, options=BuildOptions(**options)))  # type: ignore[arg-type]
    claim = resources.service.claims.take("w", ())
    assert claim is not None
    return Execution(claim, resources)


def last_word(service: Service) -> str:
    """The last line of the only run's log."""
    (run,) = service.runs.list()
    return decode_line(service.logs.read(run.number)[-1][1]).text


def test_interrupted_build_stops_and_its_run_goes_back(
    resources: Resources, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[bool] = []

    def build(work: Work, writer: LogWriter) -> RunResult:
        execution.interrupt()
        stopped.append(work.keeper.stopped.is_set())
        raise BuildCancelledError("cancelled")

    execution = begun(resources, monkeypatch, build)
    execution.run()
    assert stopped == [True]
    (run,) = service.runs.list()
    assert (run.state, run.attempt) == ("queued", 1)
    assert last_word(service).startswith("attempt 1 of 3 came to nothing: its worker was told to stop")


def test_run_goes_back_from_a_bug_of_ours(
    resources: Resources, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(work: Work, writer: LogWriter) -> RunResult:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):  # for the worker's log
        begun(resources, monkeypatch, build).run()
    (run,) = service.runs.list()
    assert (run.state, run.attempt) == ("queued", 1)
    assert last_word(service) == "attempt 1 of 3 came to nothing: an internal error, see the worker's log"
    assert service.claims.take("other", ()) is None  # not at once
    later = Claims(service.database, service.live, clock=lambda: time.time() + pause_s(1))
    assert later.take("other", ()) is not None


def test_build_that_ended_well_ends_the_run(
    resources: Resources, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(resources, monkeypatch, lambda work, writer: RunResult(executed=2)).run()
    (run,) = service.runs.list()
    assert run.state == "succeeded"
    assert run.result is not None
    assert run.result.executed == 2
