"""What runs leave for the shared cache is written beside the runs that follow, bounded, and nobody's trouble."""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from builder.cacheio.used import UsedCache
from core.settings import ServiceSettings
from core.trust import protected
from images.records import CacheRecord
from images.store import Store
from pipelines.metrics import snapshot
from pipelines.model import Claim, ContextSource, RunRequest, RunResult
from pipelines.owning.policies import RunAsks
from pipelines.service import Service
from tests.toolkit.bounds import stretched
from tests.toolkit.ports import free_port
from tests.toolkit.service import eventually
from worker.cacheexport import CacheExport, Outlet
from worker.exporter import Exporter
from worker.exportqueue import ExportQueue, Waiting
from worker.processresources import WorkerSettings
from worker.sideprocess import ExporterProcess

NOTHING = UsedCache((), (), {})


@contextlib.contextmanager
def exporting(settings: ServiceSettings, registry: str, end: socket.socket, idle_s: float = 30.0) -> Iterator[Exporter]:
    """An exporter of a service whose registry this is."""
    own = settings._replace(registry=registry)
    with Service.open(own) as service:
        yield Exporter(WorkerSettings(own, "w"), service, end, idle_s)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    inner, outer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with inner, outer:
        yield inner, outer


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A registry that takes connections and answers nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(stretched(20))
        yield listener


def address(listener: socket.socket) -> str:
    return f"127.0.0.1:{listener.getsockname()[1]}"


def succeeded(service: Service) -> Claim:
    """A run that has succeeded just now."""
    service.runs.submit(RunRequest(ContextSource("sha256:" + "0" * 64), "app"))
    claim = service.claims.take("w", ())
    assert claim is not None
    service.claims.finish(claim, "succeeded", "", RunResult(), store=lambda connection: None)
    return claim


def left_by(claim: Claim, registry: str, tag: str = "protected-1", used: UsedCache = NOTHING) -> CacheExport:
    return CacheExport(claim, RunAsks(protected("app"), "push", "main"), f"{registry}/cache/app:{tag}", (), used)


@pytest.fixture
def waits(service: Service, tmp_path: Path) -> Iterator[Callable[..., Waiting]]:
    """Makes something that waits, of the run with a number, for a place."""
    claim = succeeded(service)
    with ExitStack() as stack:

        def make(number: int, tag: str) -> Waiting:
            run = msgspec.structs.replace(claim.run, number=number)
            export = left_by(Claim(run, run.number, 1, "w", 1), "ci:5000", tag)
            return Waiting(export, stack.enter_context(Store.open(tmp_path / "store")), 0.0)

        yield make


def test_newest_run_s_is_written_and_older_ones_give_way(waits: Callable[..., Waiting]) -> None:
    queue = ExportQueue()
    first, second, other = waits(1, "a"), waits(2, "a"), waits(1, "b")
    assert queue.put(first) == []
    assert queue.put(other) == []
    assert queue.put(second) == [first]
    late = waits(1, "a")
    assert queue.put(late) == [late]
    assert queue.take() == other
    assert not queue.is_idle
    assert queue.take() == second
    late = waits(1, "a")
    assert queue.put(late) == [late], "what was taken is known still"


def test_what_waited_longest_goes_when_too_many_wait(waits: Callable[..., Waiting]) -> None:
    queue = ExportQueue(most=2)
    one, two, three = (waits(1, tag) for tag in "abc")
    assert [queue.put(one), queue.put(two), queue.put(three)] == [[], [], [one]]
    assert queue.close() == [two, three]
    assert queue.put(one) == [one]
    assert queue.take() is None


def test_cache_that_cannot_be_written_is_told_in_the_worker_s_log_and_counted(
    service: Service,
    settings: ServiceSettings,
    ends: tuple[socket.socket, socket.socket],
    caplog: pytest.LogCaptureFixture,
) -> None:
    claim = succeeded(service)
    lines = service.runs.get(claim.number).lines
    away = f"127.0.0.1:{free_port()}"
    assert Outlet(ends[1]).offer(left_by(claim, away))
    with caplog.at_level(logging.INFO), exporting(settings, away, ends[0], 0.1) as exporter:
        assert exporter.run()
    (told,) = [record for record in caplog.records if record.name == "worker.exporter"]
    assert told.levelno == logging.WARNING
    assert f"run {claim.number}:" in told.getMessage()
    assert claim.token not in caplog.text
    assert snapshot(service).cache_written == {"written": 0, "unchanged": 0, "failed": 1, "dropped": 0}
    after = service.runs.get(claim.number)
    assert (after.state, after.reason, after.lines) == ("succeeded", "", lines)
    assert service.run_tokens.log_in(claim.token) is None


def test_end_of_the_worker_drops_what_waits_and_what_is_under_way(
    service: Service,
    settings: ServiceSettings,
    ends: tuple[socket.socket, socket.socket],
    silent: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one under way hears of it while it waits for the registry's answer: that never comes."""
    monkeypatch.setattr("registry.client.origins.READ_TIMEOUT_S", 3600.0)  # so it is not this that ends it
    monkeypatch.setattr("worker.exporter._END_S", 3600.0)
    claims = offered(service, Outlet(ends[1]), silent)
    with exporting(settings, address(silent), ends[0]) as exporter, running(exporter) as ended:
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(1), "it asks"
            eventually(lambda: len(exporter._queue._waiting) == 2, why="the others wait")
            exporter.stop()
            eventually(lambda: ended == [True], timeout_s=10.0, why="who does not answer is not waited for")
    assert_dropped(service, claims)


def test_end_of_the_worker_waits_for_nothing_that_does_not_hear_of_it(
    service: Service,
    settings: ServiceSettings,
    ends: tuple[socket.socket, socket.socket],
    silent: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def deaf(*_: object, **__: object) -> bool:
        begun.set()
        return not goes_on.wait(stretched(120))

    monkeypatch.setattr("worker.exporter.renew_cache", deaf)
    claims = offered(service, Outlet(ends[1]), silent)
    with exporting(settings, address(silent), ends[0]) as exporter, running(exporter) as ended:
        try:
            assert begun.wait(stretched(20))
            eventually(lambda: len(exporter._queue._waiting) == 2, why="the others wait")
            exporter.stop()
            eventually(lambda: ended == [False], why="the process is to end")
            assert_dropped(service, claims)
        finally:
            goes_on.set()
            exporter._thread.join(stretched(60))  # in a process of its own it would have ended with that
    assert_dropped(service, claims)  # and not once more


def offered(service: Service, outlet: Outlet, listener: socket.socket) -> list[Claim]:
    """Three runs, each with something to write to a place of its own."""
    claims = [succeeded(service) for _ in range(3)]
    for claim in claims:
        assert outlet.offer(left_by(claim, address(listener), f"protected-{claim.number}"))
    return claims


@contextlib.contextmanager
def running(exporter: Exporter) -> Iterator[list[bool]]:
    """Runs it in a thread; what ``run`` returned is in the list as soon as it has."""
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(exporter.run()))
    thread.start()
    try:
        yield ended
    finally:
        exporter.stop()
        thread.join(stretched(60))


def assert_dropped(service: Service, claims: list[Claim]) -> None:
    dropped = {"written": 0, "unchanged": 0, "failed": 0, "dropped": len(claims)}
    assert snapshot(service).cache_written == dropped
    assert [service.run_tokens.log_in(claim.token) for claim in claims] == [None] * len(claims)


def test_what_takes_too_long_is_given_up(
    service: Service,
    settings: ServiceSettings,
    ends: tuple[socket.socket, socket.socket],
    silent: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.exporter.CACHE_S", 0.3)
    assert Outlet(ends[1]).offer(left_by(succeeded(service), address(silent)))
    with exporting(settings, address(silent), ends[0], 0.1) as exporter:
        assert exporter.run()
    assert snapshot(service).cache_written["dropped"] == 1


def test_layers_are_kept_while_they_wait_to_be_written(
    service: Service, settings: ServiceSettings, ends: tuple[socket.socket, socket.socket]
) -> None:
    claim = succeeded(service)
    with Store.open(settings.root) as store:
        with store.layers.writer() as layer:
            layer.write(b"a layer")
            diff_id = layer.commit()
        record = CacheRecord("k" * 64, "o" * 64, diff_id, time.time(), 1.0, "RUN make")
        store.cache.put(record)
    used = UsedCache((record,), (record.key,), {})
    with exporting(settings, "ci:5000", ends[0]) as exporter:
        waiting = exporter._leased(left_by(claim, "ci:5000", used=used))
    with waiting.store, Store.open(settings.root) as other:
        other.images.prune(all_unused=True, cache=True)
        assert waiting.store.layers.has(diff_id)
    with Store.open(settings.root) as other:
        other.images.prune(all_unused=True, cache=True)
        assert not other.layers.is_stored(diff_id)


def test_process_runs_only_while_there_is_something_and_ends_with_the_worker(
    service: Service, settings: ServiceSettings, silent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHIPLAP_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("SHIPLAP_REDIS_URL", settings.redis_url)
    monkeypatch.setenv("SHIPLAP_REGISTRY", address(silent))
    claim = succeeded(service)
    with ExporterProcess(WorkerSettings(settings, "w")) as exporter:
        exporter.look()
        assert process_of(exporter) is None
        assert exporter.outlet.offer(left_by(claim, address(silent)))
        exporter.look()
        process = process_of(exporter)
        assert process is not None
        silent.accept()[0].close()  # it is at work
        exporter.look()
        assert process_of(exporter) is process
        began = time.monotonic()
    assert time.monotonic() - began < stretched(4)
    assert snapshot(service).cache_written["dropped"] == 1


def test_runs_that_end_while_the_worker_drains_leave_nothing(service: Service, settings: ServiceSettings) -> None:
    claim = succeeded(service)
    with ExporterProcess(WorkerSettings(settings, "w")) as exporter:
        exporter._drain()
        assert not exporter.outlet.offer(left_by(claim, "ci:5000"))
        exporter.look()
        assert process_of(exporter) is None


def test_half_a_message_hurts_nobody(
    service: Service, settings: ServiceSettings, ends: tuple[socket.socket, socket.socket]
) -> None:
    with open("/dev/null", "rb") as nothing:
        socket.send_fds(ends[1], [b"export"], [nothing.fileno()])
    ends[1].send(b"export")
    claim = succeeded(service)
    assert Outlet(ends[1]).offer(left_by(claim, f"127.0.0.1:{free_port()}"))
    with exporting(settings, "ci:5000", ends[0], 0.1) as exporter:
        assert exporter.run()
    assert snapshot(service).cache_written["failed"] == 1


def process_of(exporter: ExporterProcess) -> subprocess.Popen[bytes] | None:
    return exporter._process
