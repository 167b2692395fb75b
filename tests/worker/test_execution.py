"""One attempt's end: whatever ends it, the run has one state afterwards, and no attempt is left that nobody is at."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from builder.cacheio.used import UsedCache
from builder.errors import BuildCancelledError
from core.digests import DiffID, Digest
from core.settings import ServiceSettings
from core.trust import of_branch
from images.oci import Descriptor
from images.records import CacheRecord
from pipelines.accounts.runtokens import CACHE_S, RunTokens
from pipelines.logs.lines import decode_line
from pipelines.model import BuildOptions, ContextSource, RunRequest, RunResult
from pipelines.owning.policies import RunAsks
from pipelines.runs.claims import Claims
from pipelines.runs.faults import pause_s
from pipelines.runs.logwriter import LogWriter
from pipelines.service import Service
from worker.building import Done, Pipelined
from worker.cacheexport import CacheExport, Outlet, receive
from worker.execution import Execution
from worker.processresources import Resources, WorkerSettings
from worker.work import Work

Build = Callable[[Work, LogWriter, Callable[[Pipelined], Done]], Done]


@pytest.fixture
def resources(service: Service, settings: ServiceSettings) -> Iterator[Resources]:
    opened = Resources(WorkerSettings(settings, "w"))
    yield opened
    opened.close()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two of the socket over which runs hand over what they leave for the shared cache."""
    inner, outer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with inner, outer:
        yield inner, outer


class Unused(Outlet):
    """For builds that leave nothing."""

    def __init__(self) -> None: ...


def begun(
    resources: Resources,
    monkeypatch: pytest.MonkeyPatch,
    build: Build,
    end: socket.socket | None = None,
    **options: float,
) -> Execution:
    """An attempt at a new run, whose build is a stand-in. end: where it hands over what it leaves."""
    monkeypatch.setattr("worker.execution.build_and_push", build)
    source = ContextSource("sha256:" + "0" * 64)
    resources.service.runs.submit(RunRequest(source, "app", options=BuildOptions(**options)))  # type: ignore[arg-type]
    claim = resources.service.claims.take("w", ())
    assert claim is not None
    return Execution(claim, resources, Unused() if end is None else Outlet(end))


def last_word(service: Service) -> str:
    """The last line of the only run's log."""
    (run,) = service.runs.list()
    return decode_line(service.logs.read(run.number)[-1][1]).text


def test_interrupted_build_stops_and_its_run_goes_back(
    resources: Resources, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[bool] = []

    def build(work: Work, writer: LogWriter, plan: Callable[[Pipelined], Done]) -> Done:
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
    def build(work: Work, writer: LogWriter, plan: Callable[[Pipelined], Done]) -> Done:
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
    begun(resources, monkeypatch, lambda work, writer, plan: Done(RunResult(executed=2), None)).run()
    (run,) = service.runs.list()
    assert run.state == "succeeded"
    assert run.result is not None
    assert run.result.executed == 2


LEFT = UsedCache(
    (CacheRecord("k" * 64, "o" * 64, DiffID("sha256:" + "1" * 64), 1.0, 2.0, "RUN make", b"\xff"),),
    ("l" * 64,),
    {DiffID("sha256:" + "1" * 64): Descriptor(media_type="a/b", digest=Digest("sha256:" + "2" * 64), size=3)},
)


def leaving(work: Work, writer: LogWriter, plan: Callable[[Pipelined], Done]) -> Done:
    """A build that leaves something for the shared cache."""
    export = CacheExport(
        work.claim, RunAsks(of_branch("app", "x"), "push", "x"), "ci:5000/cache/app:x", ("ci:5000/app",), LEFT
    )
    return Done(RunResult(executed=2), export)


def test_what_a_run_leaves_is_handed_over_and_its_token_writes_the_cache_alone(
    resources: Resources,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    ends: tuple[socket.socket, socket.socket],
) -> None:
    begun(resources, monkeypatch, leaving, ends[1]).run()
    (run,) = service.runs.list()
    assert run.state == "succeeded"
    export = receive(ends[0])
    assert export is not None
    assert (export.used, export.asks.domain, export.claim.number) == (LEFT, of_branch("app", "x"), run.number)
    assert isinstance(next(iter(export.used.elsewhere)), DiffID)
    rights = service.run_tokens.log_in(export.claim.token)
    assert rights is not None
    allowed = [
        (repository, action)
        for repository in ("app", "app/web", "cache/app", "cache/app/deep", "cache/other", "other", "tool")
        for action in ("pull", "push", "delete")
        if rights.covers(repository, action)
    ]
    assert allowed == [
        ("app", "pull"), ("app/web", "pull"), ("cache/app", "pull"), ("cache/app", "push"),
        ("cache/app/deep", "pull"), ("cache/app/deep", "push"),
    ]  # fmt: skip
    assert service.run_tokens.source(export.claim.token, "app") is None
    later = RunTokens(service.database, clock=lambda: time.time() + CACHE_S + 1)
    assert later.log_in(export.claim.token) is None
    assert later.standing(run.number, rights.known) is None
    service.run_tokens.forget(run.number, run.attempt)
    assert service.run_tokens.log_in(export.claim.token) is None


def test_token_ends_with_the_run_where_nobody_takes_what_it_leaves(
    resources: Resources,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ends[0].close()
    execution = begun(resources, monkeypatch, leaving, ends[1])
    execution.run()
    (run,) = service.runs.list()
    assert run.state == "succeeded"
    assert service.run_tokens.log_in(execution._claim.token) is None


def test_nobody_waits_for_one_who_does_not_take(ends: tuple[socket.socket, socket.socket], service: Service) -> None:
    service.runs.submit(RunRequest(ContextSource("sha256:" + "0" * 64)))
    claim = service.claims.take("w", ())
    assert claim is not None
    outlet = Outlet(ends[1])
    export = CacheExport(claim, RunAsks(of_branch("app", "x"), "push", "x"), "ci:5000/cache/app:x", (), LEFT)
    taken = 0
    while outlet.offer(export):
        taken += 1
        assert taken < 10_000
    before = len(os.listdir("/proc/self/fd"))
    assert not outlet.offer(export)
    assert len(os.listdir("/proc/self/fd")) == before
    assert receive(ends[0]) == export
    assert outlet.offer(export)
