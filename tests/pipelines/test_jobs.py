"""Runs and their jobs: what the migration makes of the runs before it, and numbers of jobs that are not their runs'."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import MetaData, Table, event, func, insert, select, text
from sqlalchemy.engine import Connection

from core.errors import ShiplapError
from core.events import BuildPlanned, StepFinished, StepInfo, StepOutput
from core.masking import Masker
from core.settings import ServiceSettings
from core.trust import protected
from pipelines.database import Database, _engine, migrate
from pipelines.errors import ConflictError, NotFoundError, StaleAttemptError
from pipelines.keeping.backup import backup, restore
from pipelines.keys.keyring import KeyRing
from pipelines.logs.lines import LogLine, decode_line, encode_line
from pipelines.metrics import snapshot
from pipelines.model import Claim, GitSource, HookSettings, Project, RunRequest, RunResult, Trigger
from pipelines.runs.logwriter import LogWriter
from pipelines.runs.reaper import Reaper
from pipelines.schema import HEAD, jobs, runs
from pipelines.service import Service
from pipelines.statuses.outbox import list_statuses
from tests.pipelines.test_borders import at

SOURCE = GitSource("https://git.example/app.git", "main")
COMMIT = "a" * 40
_SOURCE = '{"type":"git","url":"https://git.example/app.git","ref":"main"}'
_TRIGGER = f'{{"kind":"push","by":"ada","branch":"main","commit":"{COMMIT}","context":"shiplap"}}'


def before_jobs(settings: ServiceSettings) -> None:
    """A service as 0.2.0 left it: run 1 was removed; 2 succeeded, 3 failed, 4 runs, 5 waits, 6 was removed, too."""
    at(settings, "0013")
    key = KeyRing(settings.key_file).current()
    nonce = os.urandom(12)
    line = encode_line(LogLine(1, "output", "hello", 1.0))
    database = Database(_engine(settings))
    with database.write() as connection:

        def add(table: str, **values: object) -> None:
            known = Table(table, MetaData(), autoload_with=connection, resolve_fks=False)
            connection.execute(insert(known).values(**values))

        add("projects", name="app", concurrency=0, tag_template="{defaults}", keep_runs=9, keep_days=9)
        for number, state in enumerate(("failed", "succeeded", "failed", "running", "queued", "failed"), 1):
            ended, began = state in ("succeeded", "failed"), state != "queued"
            more: dict[str, Any] = {} if database.is_sqlite else {"number": number}
            add("runs", project="app", state=state, priority=number, attempt=int(began), max_attempts=3,
                worker="w" if began else "", pulse=7, lease_until=1.0, cancel_requested=False, source=_SOURCE,
                options='{"tags":["app:1"]}', worker_labels='["linux"]', created_at=1.0, queued_at=2.0,
                started_at=3.0 if began else None, finished_at=4.0 if ended else None, reason="why" if ended else "",
                result='{"executed":1}' if ended else None, lines=1, log_bytes=6, own_secrets='["own"]',
                trigger=_TRIGGER, branch="main", domain="branch main", failed_on='["w"]',
                cancelled_by="bob" if number == 3 else "", superseded_by=9 if number == 3 else 0, **more)  # fmt: skip
            add("log_chunks", run=number, first_line=1, attempt=1, line_count=1, byte_offset=0,
                data=zstandard.compress(line))  # fmt: skip
            add("steps", run=number, attempt=1, step=0, name="[1/1] RUN make", stage="", line=1, state="done",
                reason="", duration_s=1.0, first_line=1, last_line=1)  # fmt: skip
            sealed = nonce + AESGCM(key).encrypt(nonce, b"hunter22", f"#{number}/own".encode())
            add("run_secrets", run=number, name="own", value=sealed)
            add("worker_faults", worker="w", run=number, times=1, at=1.0, why="no space")
            add("statuses", project="app", run=number, commit=COMMIT, context="shiplap", state="pending",
                description="waits", created_at=1.0, outcome="waiting", attempts=0, due_at=1.0, error="")  # fmt: skip
        if not database.is_sqlite:
            connection.execute(text("SELECT setval('runs_number_seq', 6)"))
        connection.execute(text("DELETE FROM runs WHERE number IN (1, 6)"))
    database.close()


def test_migration_makes_one_job_of_each_run(settings: ServiceSettings) -> None:
    before_jobs(settings)
    assert migrate(settings) == [
        "0014",
        "0015",
        "0016",
        "0017",
        "0018",
        "0019",
        "0020",
        "0021",
        "0022",
        "0023",
        "0024",
        "0025",
        "0026",
        "0027",
        "0028",
        "0029",
        "0030",
        "0031",
        "0032",
    ]
    with Service.open(settings) as service:
        found = service.runs.list()
        assert [(run.number, run.state, run.attempt, run.priority) for run in found] == [
            (5, "queued", 0, 5), (4, "running", 1, 4), (3, "failed", 1, 3), (2, "succeeded", 1, 2),
        ]  # fmt: skip
        failed = found[2]
        assert (failed.project, failed.source, failed.options.tags) == ("app", SOURCE, ("app:1",))
        assert (failed.created_at, failed.queued_at, failed.started_at, failed.finished_at) == (1.0, 2.0, 3.0, 4.0)
        assert (failed.reason, failed.result, failed.worker) == ("why", RunResult(executed=1), "w")
        assert (failed.trigger.by, failed.domain, failed.worker_labels) == ("ada", "branch main", ("linux",))
        assert (failed.cancelled_by, failed.superseded_by, failed.own_secrets) == ("bob", 9, ("own",))
        for run in found:
            assert service.runs.job(run.number).number == run.number
            assert [decode_line(data).text for _, data in service.logs.read(run.number)] == ["hello"]
            assert [step.name for step in service.runs.steps(run.number)] == (["[1/1] RUN make"] if run.attempt else [])
            assert service.secrets.reveal(["own"], job=run.number) == {"own": b"hunter22"}
        assert [status.run for status in list_statuses(service.database, "app")] == [5, 4, 3, 2]


def test_runs_go_on_after_the_migration(settings: ServiceSettings) -> None:
    """A worker that had a run has its job, what waited is taken, and no number is given again."""
    before_jobs(settings)
    migrate(settings)
    with Service.open(settings) as service:
        went_on = Claim(service.runs.get(4), 4, 1, "w", 2)
        service.claims.renew(went_on)
        service.claims.finish(went_on, "succeeded", "", RunResult(), store=lambda connection: None)
        assert service.runs.get(4).state == "succeeded"
        claim = service.claims.take("other", ("linux",))
        assert claim is not None
        assert (claim.run.number, claim.number, claim.attempt, claim.next_line) == (5, 5, 1, 2)
        later = service.runs.submit(RunRequest(SOURCE, "app"))
        assert (later.number, service.runs.job(later.number).number) == (7, 7)
        service.claims.release(claim.number, claim.attempt, "over")
        service.runs.cancel(5)
        service.runs.cancel(later.number)
        service.projects.remove("app")
        with service.database.read() as connection:
            for table in ("runs", "jobs", "log_chunks", "steps", "run_secrets", "worker_faults", "statuses"):
                assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 0, table


def test_nothing_refers_to_what_is_not_there_after_the_migration(settings: ServiceSettings) -> None:
    before_jobs(settings)
    migrate(settings)
    database = Database.open(settings)
    with database.read() as connection:
        if database.is_sqlite:
            assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
            assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
        else:  # PostgreSQL itself sees to that; what is left to see is that no name is of the table before
            old = "SELECT conrelid::regclass, conname FROM pg_constraint WHERE conname LIKE '%_run_fkey'"
            tables = {str(row[0]) for row in connection.execute(text(old))}
            assert tables == {"heads", "jobs", "run_images", "run_texts", "statuses"}
    database.close()


def test_migration_is_refused_where_foreign_keys_would_take_the_logs_along(settings: ServiceSettings) -> None:
    before_jobs(settings)
    if not settings.database_url.startswith("sqlite:"):
        assert len(migrate(settings)) == int(HEAD) - 13  # PostgreSQL makes no table anew
        return
    with pytest.raises(RuntimeError, match="foreign keys have to be off"):
        at(settings, "0014")
    database = Database(_engine(settings))
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM log_chunks")).scalar() == 4
    database.close()


@pytest.fixture
def apart(service: Service) -> Service:
    """A service whose jobs have other numbers than their runs: whoever takes one for the other is found out."""
    statement = "UPDATE sqlite_sequence SET seq = 1000 WHERE name = 'jobs'"
    if not service.database.is_sqlite:
        statement = "SELECT setval('jobs_number_seq', 1000)"
    with service.database.write() as connection:
        connection.execute(text(statement))
    return service


def taken(service: Service) -> Claim:
    claim = service.claims.take("w", ())
    assert claim is not None
    assert claim.number == claim.run.number + 1000
    return claim


def submitted(service: Service, **more: Any) -> int:
    trigger = Trigger("push", by="ada", branch="main", commit=COMMIT, context="shiplap", default_branch="main")
    return service.runs.submit(RunRequest(SOURCE, "app", **more), trigger).number


def built(service: Service, claim: Claim) -> None:
    """A step that fails, with what it printed."""
    writer = LogWriter(claim, service.database, service.live, Masker(), lost=lambda: None)
    writer.emit(BuildPlanned((StepInfo(0, "[1/1] RUN make", "", 1),)))
    writer.emit(StepOutput(0, 1, b"no such file\n", 1.0))
    writer.emit(StepFinished(0, "failed", 1.0, 1.0, "exit code: 2"))
    writer.close()
    service.claims.finish(claim, "failed", "exit code: 2", RunResult(), store=writer.store)
    writer.end()


def test_run_and_job_are_found_by_their_own_numbers(apart: Service) -> None:
    number = submitted(apart, secrets={"own": b"hunter22"})
    claim = taken(apart)
    assert apart.secrets.reveal(["own"], job=claim.number) == {"own": b"hunter22"}
    rights = apart.run_tokens.log_in(claim.token)
    assert rights is not None
    assert apart.run_tokens.standing(claim.number, rights.known) == rights
    sources = apart.run_tokens.source(claim.token, "app")
    assert sources is not None
    assert sources.run == number
    apart.workers.beat("w", (), 1)
    assert [worker.runs for worker in apart.workers.list()] == [(number,)]
    built(apart, claim)
    run = apart.runs.get(number)
    assert (run.state, run.lines) == ("failed", 3)
    assert [step.state for step in apart.runs.steps(number)] == ["failed"]
    assert [line for line, _ in apart.logs.read(claim.number)] == [1, 2, 3]
    assert [line for batch in apart.logs.follow(claim.number) for line, _ in batch] == [1, 2, 3]
    with pytest.raises(NotFoundError):
        apart.logs.read(number)
    with pytest.raises(NotFoundError):
        apart.secrets.reveal(["own"], job=claim.number)  # it ended with the job


def test_marks_of_a_failure_have_the_job_s_last_line(apart: Service) -> None:
    apart.projects.put(Project("app", hook=HookSettings("https://github.com/o/r.git", "github")))
    submitted(apart)
    built(apart, taken(apart))
    assert list_statuses(apart.database, "app")[0].description == "exit code: 2: no such file"


def test_job_of_a_worker_that_died_is_tried_again(apart: Service) -> None:
    number = submitted(apart)
    first = taken(apart)
    now = 0.0

    def clock() -> float:
        return now

    reaper = Reaper(apart.database, apart.claims, apart.queue, lease_s=9.0, clock=clock)
    for _ in range(5):
        reaper.reap()
        now += 3.0
    assert apart.runs.get(number).state == "queued"
    with pytest.raises(StaleAttemptError):
        apart.claims.renew(first)
    again = taken(apart)
    assert (again.number, again.attempt) == (first.number, 2)
    apart.workers.beat("another", (), 1)
    apart.claims.fail(again, "no space left", "worker")
    assert [run.number for run in apart.listing.waiting()] == [number]
    assert "is tried again in" in apart.runs.get(number).reason


def test_backup_keeps_jobs_with_their_runs(apart: Service, settings: ServiceSettings, tmp_path: Path) -> None:
    ended, going = submitted(apart), submitted(apart)
    built(apart, taken(apart))
    claim = taken(apart)
    backup(settings, tmp_path / "backup.tar")
    root = tmp_path / "elsewhere"
    for target in (settings, ServiceSettings(root, f"sqlite:///{root}/serve/service.db", settings.redis_url)):
        restore(target, tmp_path / "backup.tar")
        with Service.open(target) as restored:
            assert [run.state for run in restored.runs.list()] == ["queued", "failed"]
            assert restored.runs.job(ended).number == ended + 1000
            assert len(restored.logs.read(ended + 1000)) == 3
            again = taken(restored)
            assert (again.run.number, again.attempt) == (going, 2)
            assert restored.runs.job(submitted(restored)).number > claim.number


_TAKES = re.compile(
    r"UPDATE (runs|jobs) |DELETE FROM (runs|jobs)|FROM (runs|jobs) .*FOR (?:NO KEY )?UPDATE$"
    r"|FOR UPDATE OF (runs), jobs",
    re.DOTALL,
)

on_postgresql = pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
"""For what SQLite has by nature: there a transaction that writes is alone."""


@on_postgresql
def test_who_takes_a_run_and_its_job_takes_the_run_first(apart: Service) -> None:
    transactions: list[list[str]] = []

    def begin(connection: Connection) -> None:
        transactions.append([])

    def execute(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if found := _TAKES.search(statement):
            transactions[-1].append(next(filter(None, found.groups())))

    event.listen(apart.database.engine, "begin", begin)
    event.listen(apart.database.engine, "before_cursor_execute", execute)
    waited, cancelled, failed, ended = (submitted(apart, priority=-number) for number in range(4))
    apart.runs.cancel(waited)
    claims = {claim.run.number: claim for claim in (taken(apart) for _ in range(3))}
    apart.runs.cancel(cancelled)
    apart.claims.release(claims[cancelled].number, 1, "over")
    apart.claims.fail(claims[failed], "no space left", "worker")
    apart.claims.settle_domain(claims[ended], protected("app"), SOURCE)
    built(apart, claims[ended])
    apart.runs.cancel(failed)
    apart.projects.remove("app")
    both = [rows for rows in transactions if set(rows) == {"runs", "jobs"}]
    assert len(both) >= 7  # so many of these steps change the state of a run
    assert [rows for rows in both if rows.index("runs") > rows.index("jobs")] == []


@on_postgresql
def test_ends_and_cancellations_at_once_never_wait_for_each_other_in_a_circle(apart: Service) -> None:
    numbers = [submitted(apart) for _ in range(60)]
    claims = [taken(apart) for _ in numbers]
    faults: list[BaseException] = []

    def each(act: Callable[[Claim], object]) -> None:
        for claim in claims:
            try:
                act(claim)
            except (ConflictError, StaleAttemptError):  # the other was earlier
                pass
            except ShiplapError as error:
                faults.append(error)

    acts: list[Callable[[Claim], object]] = [
        lambda claim: apart.runs.cancel(claim.run.number),
        lambda claim: apart.claims.release(claim.number, claim.attempt, "over"),
        lambda claim: apart.claims.finish(claim, "succeeded", "", RunResult(), store=lambda connection: None),
        lambda claim: apart.claims.settle_domain(claim, protected("app"), SOURCE),
    ]
    threads = [threading.Thread(target=each, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    with apart.database.read() as connection:
        apart_states = select(runs.c.number).join(jobs, jobs.c.run == runs.c.number).where(runs.c.state != jobs.c.state)
        assert connection.execute(apart_states).all() == []
        ended = connection.execute(select(func.count()).where(runs.c.finished_at.is_not(None))).scalar_one()
    assert sum(snapshot(apart).ended_by_state.values()) == ended > 0
