"""Rows in bulk for a service that has worked for months: its runs, what their tests reported, what their jobs output.

They are written past the service, but for single reports. It reads them as if jobs had left them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ci.reports.model import Case, Reports, tally
from ci.reports.packing import packed
from pipelines.database import Database
from pipelines.model import FIRST_PLACE, BuildOptions, Claim, Source, Trigger
from pipelines.runs.reports import JobReports, keep_reports
from pipelines.runs.rows import run_from_row, select_runs
from pipelines.runs.texts import text_of
from pipelines.schema import runs

APP: Final = "app"
"""The project of most runs."""

TESTED: Final = "tested"
"""The project whose runs have tests, of which one in a hundred fails."""

BROKEN: Final = "broken"
"""The project whose runs have tests, all of which fail."""

REPORTED: Final = 100
"""Of a job, so many reports are in the history of its tests."""

HALF_UNTIL_S: Final = 3_700.0
"""For how long the first half of the outputs is wanted: what is younger than an hour is never collected."""

_NOTED: Final = 1_000  # failed tests of one report that the history knows
_STATES: Final = ("succeeded", "failed", "cancelled", "error")
_BATCH: Final = 1_000
_STEPS: Final = 40
_DAY_S: Final = 86_400.0
_FORKS: Final = 10  # one run of so many is a fork's: what it outputs has a repository of its own
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"


class Tables:
    """The tables of a database, through a driver. mark: how its statements name a value."""

    def __init__(self, cursor: Any, mark: str) -> None:
        self.cursor = cursor
        self._mark = mark

    def row(self, table: str, number: int) -> dict[str, Any]:
        """The row with this number."""
        self.cursor.execute(f"SELECT * FROM {table} WHERE number = {number:d}")
        names = [column[0] for column in self.cursor.description]
        return dict(zip(names, self.cursor.fetchone(), strict=True))

    def newest(self, table: str) -> int:
        """The highest number."""
        self.cursor.execute(f"SELECT max(number) FROM {table}")
        return int(self.cursor.fetchone()[0])

    def rows(self, statement: str) -> list[Sequence[Any]]:
        """What a statement finds."""
        self.cursor.execute(statement)
        return list(self.cursor.fetchall())

    def insert(self, table: str, rows: Iterable[Mapping[str, object]], like: Iterable[str]) -> None:
        """Insert rows with these columns."""
        columns = list(like)
        names = ", ".join(f'"{name}"' for name in columns)
        marks = ", ".join(self._mark % name for name in columns)
        self.cursor.executemany(
            f"INSERT INTO {table} ({names}) VALUES ({marks})", ({name: row[name] for name in columns} for row in rows)
        )


@contextlib.contextmanager
def tables(root: Path, database: str = "") -> Iterator[Tables]:
    """Those of the service with this root, in one transaction. database: a PostgreSQL's URL; empty: SQLite."""
    if database:
        import psycopg

        with psycopg.connect(database) as connection, connection.cursor() as cursor:
            yield Tables(cursor, "%%(%s)s")
            cursor.execute("ANALYSE")  # the planner has to learn of the rows before it is asked
        return
    with contextlib.closing(sqlite3.connect(root / "serve" / "service.db", timeout=30)) as opened, opened:
        yield Tables(opened.cursor(), ":%s")


def add_runs(found: Tables, first: int, rows: int, now: float) -> int:
    """Copies of one run and its job, in all states that a run ends in. Returns the newest one's number.

    first: the number of the run. rows: how many there are then.
    """
    for table in ("runs", "jobs"):
        row = found.row(table, first)
        copies = ({**row, **_facts(first + n, now - 60.0 * (rows - n))} for n in range(1, rows))
        found.insert(table, copies, row)
    ended = Counter(_STATES[(first + n) % len(_STATES)] for n in range(1, rows))  # as the end of each has counted it
    found.insert("counters", [{"name": f"ended.{state}", "value": n} for state, n in ended.items()], ("name", "value"))
    note_texts(found, first + 1, first + rows - 1)
    steps = [_step(first + rows - 1, n, now) for n in range(_STEPS)]
    found.insert("steps", steps, steps[0])
    return first + rows - 1


def note_texts(found: Tables, first: int, last: int) -> None:
    """What these runs are found by, as the service writes it with each."""
    for begin in range(first, last + 1, _BATCH):
        end = min(last, begin + _BATCH - 1)
        rows = found.rows(
            "SELECT runs.number, runs.project, source, trigger, spec FROM runs JOIN jobs ON jobs.run = runs.number"
            f" WHERE runs.number BETWEEN {begin:d} AND {end:d} AND place = {FIRST_PLACE:d}"
        )
        found.insert("run_texts", [{"run": number, "text": _text(*its)} for number, *its in rows], ("run", "text"))


def _text(project: str, source: str, trigger: str, spec: str) -> str:
    decode = msgspec.json.decode
    return text_of(project, decode(source, type=Source), decode(trigger, type=Trigger), decode(spec, type=BuildOptions))


def add_reports(found: Tables, first: int, cases: int, now: float) -> int:
    """Two projects with 100 runs each of so many tests. Returns the number of the newest run of ``BROKEN``.

    first: of a run to make copies of.
    """
    number = first
    for project in (TESTED, BROKEN):
        found.cursor.execute(
            "INSERT INTO projects (name, concurrency, tag_template, keep_runs, keep_days)"
            f" SELECT '{project}', concurrency, tag_template, keep_runs, keep_days FROM projects WHERE name = '{APP}'"
        )
        for n in range(REPORTED):
            at = now - 60.0 * (REPORTED - n)
            number = add_run(found, first, project, at)
            _report(found, project, number, _cases(cases, None if project == BROKEN else number), at)
    return number


def add_run(found: Tables, first: int, project: str, at: float) -> int:
    """Another run of ``TESTED`` or ``BROKEN``. Returns its number."""
    number = found.newest("runs") + 1
    for table in ("runs", "jobs"):
        row = found.row(table, first)
        found.insert(table, [{**row, **_facts(number, at), "project": project}], row)
    note_texts(found, number, number)
    return number


def report(database: Database, number: int, cases: int, at: float) -> None:
    """Let the service keep what the job of a run of ``add_run`` reported."""
    with database.read() as connection:
        run = run_from_row(connection.execute(select_runs().where(runs.c.number == number)).one())
    found = Reports(_cases(cases, None if run.project == BROKEN else number), 80.0 + number % 10)
    claim = Claim(run, number, 1, "worker-1", 1, kind="job", name="test")
    with database.write() as connection:
        keep_reports(connection, claim, JobReports("test", f"{number:040x}", True, found), at)


def add_outputs(found: Tables, root: Path, first: int, count: int, now: float) -> None:
    """An output for people of each of so many runs, as artifacts in the service's registry.

    One run of ten is a fork's. Half of them are wanted no more after ``HALF_UNTIL_S``, the other half for a month.
    """
    names = {f"runs/{APP}": 1}
    with contextlib.closing(sqlite3.connect(root / "store.db", timeout=60)) as store, store:
        begin = store.execute("SELECT coalesce(max(id), 0) FROM registry_repositories").fetchone()[0]
        for n in range(0, count, _FORKS):
            names[f"runs/{APP}/{_hex(f'domain {n}')[:32]}"] = len(names) + 1
        store.executemany(
            "INSERT INTO registry_repositories VALUES (?, ?, ?)",
            [(begin + place, name, now) for name, place in names.items()],
        )
        made = [_output(first + n, n, count, now) for n in range(count)]
        for row in made:
            its = (begin + names[str(row["repository"])], row["manifest"])
            store.execute(
                "INSERT INTO registry_manifests VALUES (?, ?, ?, 600, ?, '', NULL, '{}', 0, ?)",
                (*its, row["manifest"], _MANIFEST, now),
            )
            store.execute(
                "INSERT INTO registry_blobs VALUES (?, ?, ?, 5000, ?)", (its[0], row["blob"], row["blob"], now)
            )
            store.execute("INSERT INTO registry_edges VALUES (?, ?, ?)", (*its, row["blob"]))
            tag = f"{row['job']}-1-{row['name']}"
            store.execute("INSERT INTO registry_tags VALUES (?, ?, ?, ?)", (its[0], tag, its[1], now))
    found.insert("artifacts", made, made[0])


def _facts(number: int, at: float) -> dict[str, object]:
    """Of a run, and of its job."""
    trigger = {
        "kind": "push", "by": f"user-{number % 30}", "branch": f"branch-{number % 50}", "commit": f"{number:040x}",
        "title": f"Change number {number} of many to come",
    }  # fmt: skip
    return {
        "number": number, "run": number, "state": _STATES[number % len(_STATES)], "attempt": 1, "worker": "worker-1",
        "is_counted": True, "created_at": at, "queued_at": at, "started_at": at + 1, "finished_at": at + 40,
        "trigger": json.dumps(trigger, separators=(",", ":")), "branch": trigger["branch"],
        "commit": trigger["commit"],
        "result": json.dumps({"names": [f"registry/app:{number}"], "executed": 4, "cached": 9}),
    }  # fmt: skip


def _step(job: int, number: int, at: float) -> dict[str, object]:
    return {
        "job": job, "attempt": 1, "step": number, "name": f"[stage-{number // 8} {number % 8 + 1}/8] RUN make {number}",
        "stage": f"stage-{number // 8}", "line": number, "state": "done", "reason": "the file src/main.c changed",
        "started_at": at + number, "duration_s": 1.0, "first_line": number, "last_line": number,
    }  # fmt: skip


def _cases(count: int, number: int | None) -> tuple[Case, ...]:
    """The tests of a run. number: of the run, in which one test of a hundred fails; None: all tests fail."""
    return tuple(
        Case(
            f"tests.test_module_{n // 50}", f"test_that_number_{n}_of_many_holds",
            *(("failed", 0.25, "assert 1 == 2", "E   assert 1 == 2\n" * 20) if fails else ("passed", 0.25)),
        )
        for n in range(count)
        for fails in [number is None or (n // 10 % 10 == number % 10 and n % 10 == 0)]
    )  # fmt: skip


def _report(found: Tables, project: str, number: int, cases: tuple[Case, ...], at: float) -> None:
    counted = tally(cases)
    group: dict[str, object] = {
        "job": number, "attempt": 1, "project": project, "pipeline": "main", "base": "test",
        "commit": f"{number:040x}", "at": at,
    }  # fmt: skip
    report = {
        **group, "counts": True, "run": number, "name": "test", "total": counted.total, "failed": counted.failed,
        "skipped": counted.skipped, "flaky": counted.flaky, "seconds": counted.seconds, "coverage": 80.0 + number % 10,
        "document": packed(Reports(cases, 80.0 + number % 10)),
    }  # fmt: skip
    found.insert("job_reports", [report], report)
    failed = [case for case in cases if case.has_failed][:_NOTED]
    noted = [
        {**group, "place": n, "suite": case.suite, "name": case.name, "has_failed": True, "is_flaky": n % 5 == 0}
        for n, case in enumerate(failed)
    ]
    if noted:
        found.insert("test_failures", noted, noted[0])


def _output(run: int, number: int, count: int, now: float) -> dict[str, object]:
    own = f"/{_hex(f'domain {number}')[:32]}" if number % _FORKS == 0 else ""
    return {
        "job": run, "kind": "output", "name": "site", "repository": f"runs/{APP}{own}",
        "manifest": f"sha256:{_hex(f'manifest {run}')}", "content": f"sha256:{_hex(f'content {run}')}",
        "blob": f"sha256:{_hex(f'blob {run}')}", "media_type": "application/vnd.oci.image.layer.v1.tar+zstd",
        "size": 5000, "until": now + (HALF_UNTIL_S if number < count // 2 else 30 * _DAY_S),
    }  # fmt: skip


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
