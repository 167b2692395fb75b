"""What may go wrong with a service that runs, done for real: every run still ends, once, with its whole log."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import ServiceSettings
from pipelines.database import migrate
from pipelines.logs.lines import LogLine, decode_line
from pipelines.model import BuildOptions, Run, RunRequest
from pipelines.service import Service
from tests.toolkit.bounds import stretched
from tests.toolkit.service import (
    PostgresServer,
    RedisServer,
    Workforce,
    eventually,
    finished,
    postgres_server,
    upload,
    workforce,
)

SLOW = "FROM base\nRUN for n in $(seq 40); do echo line $n; sleep 0.1; done\n"


def submit(service: Service, dockerfile: str, *, no_cache: bool = False) -> Run:
    source = upload(service.contexts, {"Dockerfile": dockerfile})
    return service.runs.submit(RunRequest(source, options=BuildOptions(no_cache=no_cache)))


class Follower:
    """Follows a run from its first line in a thread of its own, across whatever happens."""

    def __init__(self, service: Service, number: int) -> None:
        self.lines: list[LogLine] = []
        self._service = service
        self._number = number
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def _follow(self) -> None:
        for batch in self._service.logs.follow(self._number):
            self.lines += [decode_line(data) for _, data in batch]

    def output(self) -> list[str]:
        return [line.text for line in self.lines if line.kind == "output"]

    def ended(self) -> list[LogLine]:
        """Everything, once the run has ended: numbered without gap or double, and the same as what is stored."""
        self._thread.join(stretched(60))
        assert not self._thread.is_alive()
        assert [line.n for line in self.lines] == list(range(1, len(self.lines) + 1))
        stored = self._service.logs.read(self._number, 1, len(self.lines) + 1)
        assert [decode_line(data) for _, data in stored] == self.lines
        return self.lines


def attempts(lines: list[LogLine]) -> list[list[str]]:
    """The output of each attempt."""
    found: list[list[str]] = []
    for line in lines:
        if line.kind == "status" and line.text.startswith("attempt") and " on worker " in line.text:
            found.append([])
        elif line.kind == "output":
            found[-1].append(line.text)
    return found


def final_lines(lines: list[LogLine]) -> list[str]:
    return [line.text for line in lines if line.kind == "status" and not line.text.startswith("attempt")]


WHOLE = [f"line {number}" for number in range(1, 41)]


def test_worker_killed_in_the_middle_of_a_step(service: Service, workers: Workforce) -> None:
    first = workers.start("--concurrency", "1")
    run = submit(service, SLOW)
    follower = Follower(service, run.number)
    eventually(lambda: len(follower.output()) >= 5, why="the step runs")
    first.kill()
    workers.start("--concurrency", "1")
    ended = finished(service, run.number)
    assert (ended.state, ended.attempt, ended.worker) == ("succeeded", 2, "worker-2")
    lines = follower.ended()
    before, after = attempts(lines)
    assert before == WHOLE[: len(before)]
    assert after == WHOLE
    assert final_lines(lines) == ["succeeded"]


def test_paused_worker_that_still_believes_it_owns_the_run(service: Service, workers: Workforce) -> None:
    first = workers.start("--concurrency", "1")
    run = submit(service, SLOW, no_cache=True)
    follower = Follower(service, run.number)
    eventually(lambda: len(follower.output()) >= 5, why="the step runs")
    first.pause()
    workers.start("--concurrency", "1")
    eventually(lambda: service.runs.get(run.number).attempt == 2, why="the second worker takes over")
    first.go_on()
    ended = finished(service, run.number)
    assert (ended.state, ended.attempt, ended.worker) == ("succeeded", 2, "worker-2")
    lines = follower.ended()
    assert attempts(lines)[1] == WHOLE
    assert final_lines(lines) == ["succeeded"]
    told = ("attempt 1 lost it", "its result comes too late")  # as its build has ended meanwhile, or not
    eventually(lambda: any(text in first.log.read_text() for text in told), why="the first worker gives up")
    again = finished(service, submit(service, "FROM base\nRUN echo still here\n").number)
    assert again.state == "succeeded"


def test_redis_killed_and_started_empty_while_runs_run_and_wait(
    service: Service, workers: Workforce, broker: RedisServer
) -> None:
    workers.start("--concurrency", "1")
    running = submit(service, SLOW)
    follower = Follower(service, running.number)
    eventually(lambda: len(follower.output()) >= 5, why="the step runs")
    waiting = submit(service, "FROM base\nRUN echo two\n")
    broker.kill()
    unheard = submit(service, "FROM base\nRUN echo three\n")
    broker.start()
    for number in (running.number, waiting.number, unheard.number):
        assert finished(service, number).state == "succeeded"
    lines = follower.ended()
    assert attempts(lines)[-1] == WHOLE
    assert final_lines(lines) == ["succeeded"]


def test_redis_emptied_while_runs_run_and_wait(service: Service, workers: Workforce, broker: RedisServer) -> None:
    workers.start("--concurrency", "1")
    running = submit(service, SLOW)
    follower = Follower(service, running.number)
    eventually(lambda: len(follower.output()) >= 5, why="the step runs")
    others = [submit(service, f"FROM base\nRUN echo {number}\n").number for number in range(3)]
    broker.empty()
    for number in (running.number, *others):
        ended = finished(service, number)
        assert (ended.state, ended.attempt) == ("succeeded", 1)
    assert attempts(follower.ended()) == [WHOLE]


def test_two_hundred_runs_on_two_workers_all_end_once(service: Service, workers: Workforce) -> None:
    numbers = [submit(service, f"FROM base\nLABEL n={number}\n").number for number in range(200)]
    for _ in range(2):
        workers.start("--concurrency", "1")
    eventually(lambda: not service.runs.list(state="queued") and not service.runs.list(state="running"), timeout_s=120)
    ended = service.runs.list(limit=500)
    assert sorted(run.number for run in ended) == numbers
    assert {(run.state, run.attempt) for run in ended} == {("succeeded", 1)}
    assert {run.worker for run in ended} == {"worker-1", "worker-2"}


def test_build_of_fifty_thousand_lines_is_logged_whole(service: Service, workers: Workforce) -> None:
    workers.start("--concurrency", "1")
    run = submit(service, "FROM base\nRUN seq 50000\n")
    follower = Follower(service, run.number)
    assert finished(service, run.number).state == "succeeded"
    follower.ended()
    assert follower.output() == [str(number) for number in range(1, 50_001)]


def test_clock_that_is_set_forwards_and_back_while_a_run_runs(
    service: Service, workers: Workforce, tmp_path: Path
) -> None:
    """The worker's and its heart's clock: these here, and so other workers', go on as before."""
    clock = tmp_path / "clock"
    set_clock(clock, "+0")
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert found, "libfaketime is not installed: scripts/install-debian test"
    faked = {"LD_PRELOAD": str(found[0]), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    workers.start("--concurrency", "1", environ={**faked, "FAKETIME_DONT_FAKE_MONOTONIC": "1"})
    run = submit(service, SLOW)
    for after, offset in ((5, "+7200"), (15, "-7200"), (25, "+0")):
        eventually(lambda: len(output(service, run.number)) > after, why="the step runs")  # noqa: B023
        set_clock(clock, offset)
    ended = finished(service, run.number)
    assert (ended.state, ended.attempt) == ("succeeded", 1), workers.workers[0].log.read_text()
    assert output(service, run.number) == WHOLE
    times = [line.at for line in (decode_line(data) for _, data in service.logs.read(run.number))]
    assert max(times) - min(times) > 7200, "the clock was set"


def set_clock(clock: Path, offset: str) -> None:
    """For the processes that libfaketime tells the time. It ends one that finds the file empty."""
    aside = clock.with_name("clock.new")
    aside.write_text(offset)
    aside.replace(clock)


def output(service: Service, number: int) -> list[str]:
    lines = [decode_line(data) for _, data in service.logs.read(number)]
    return [line.text for line in lines if line.kind == "output"]


@pytest.fixture
def postgres(privileged: None) -> Iterator[PostgresServer]:
    directory = Path(tempfile.mkdtemp(prefix="shiplap-postgres-"))
    directory.chmod(0o755)
    with postgres_server(directory / "pg") as server:
        yield server
    shutil.rmtree(directory)


def test_postgresql_restarted_while_a_run_runs(
    settings: ServiceSettings, postgres: PostgresServer, tmp_path: Path
) -> None:
    on_postgres = settings._replace(database_url=postgres.url)
    migrate(on_postgres)
    with Service.open(on_postgres) as service, workforce(on_postgres, tmp_path) as workers:
        workers.start("--concurrency", "1")
        run = submit(service, SLOW)
        eventually(lambda: service.runs.get(run.number).lines > 0, why="the step runs")
        postgres.restart()
        ended = finished(service, run.number)
        assert (ended.state, ended.attempt) == ("succeeded", 1)
        lines = [decode_line(data) for _, data in service.logs.read(run.number)]
        assert [line.n for line in lines] == list(range(1, ended.lines + 1))
        assert attempts(lines) == [WHOLE]
