"""How often the tests of a job failed in its last reports: kept as each report comes, so that a look is quick.

The rows of ``test_failures`` are the truth. To add up 100 reports with 1,000 failures each takes a tenth of a second.
So each job of a file has a document beside them: who failed in which report, as few bytes. Whoever ends a job that
reports adds to it, in that transaction. A look adds up what the document says of exactly those reports that are there
now, so that it does not matter which run was removed. What the document lacks is looked for in the rows.
"""

from __future__ import annotations

import threading
import zlib
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, and_, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from ci.reports.packing import inflated
from pipelines.schema import job_reports, jobs, test_failures, test_histories

COUNTED: Final = 100
"""Of so many of a job's last reports the history of its tests is told."""

Test: TypeAlias = tuple[str, str]
"""Suite and name."""

_MOST_TESTS: Final = 20_000  # of one document; the reports that have more are told by their rows
_MOST_DOCUMENTS: Final = 200  # of one project
_KNOWN: Final = 50_000  # tests and reports of all histories that are kept in memory


class History(msgspec.Struct, frozen=True):
    """How often a test failed in the last reports of its job.

    of: how many reports there were, 100 at most.
    flaky: how often it failed and passed with one commit, or in one run.
    """

    failed: int = 0
    flaky: int = 0
    of: int = 0


class TestView(msgspec.Struct, frozen=True):
    """A test that failed lately. last_run: the newest run in which it did."""

    __test__ = False  # no test, whatever its name

    pipeline: str
    job: str
    suite: str
    name: str
    history: History
    last_run: int
    last_at: float


class Group(NamedTuple):
    """Whose history it is. base: the job's name in the file, that of all of its matrix."""

    project: str
    pipeline: str
    base: str

    def of(self, table: Any) -> ColumnElement[bool]:
        """The rows of it in a table."""
        return and_(table.c.project == self.project, table.c.pipeline == self.pipeline, table.c.base == self.base)


class Noted(NamedTuple):
    """What is noted of one report. flaky: of the failed ones, and of those that passed when they were tried again."""

    job: int
    attempt: int
    run: int
    at: float
    failed: Collection[Test]
    flaky: Collection[Test]


class _Window(NamedTuple):
    """The reports that a history is told of, the newest first: whichever run goes or comes, it is another window.

    reports: job, attempt, time.
    """

    reports: tuple[tuple[int, int, float], ...]

    @property
    def since(self) -> float:
        return self.reports[-1][2] if self.reports else 0.0


class _Report(msgspec.Struct, frozen=True, array_like=True):
    """One report in a document. failed, flaky: places of tests in the document, in their order."""

    job: int
    attempt: int
    run: int
    at: float
    failed: list[int]
    flaky: list[int]


class _Document(msgspec.Struct, frozen=True, array_like=True):
    """The last reports of a job, the newest first, and the tests that they name."""

    tests: list[Test]
    reports: list[_Report]


_decoder: Final = msgspec.msgpack.Decoder(_Document)


def note(
    connection: Connection, group: Group, report: Noted, passed: Mapping[tuple[int, int], Collection[Test]]
) -> None:
    """Add a report to its job's document, once its rows are written.

    passed: by job and attempt of earlier reports, tests that have passed since with their commit.
    Whoever ends a job of the same name at this moment waits for this transaction.
    """
    found = _held(connection, group, report.at)
    window = _window(connection, group)
    if found is None:
        document = _of_rows(connection, window)
    else:
        document = _added(found, report, passed, {(job, attempt) for job, attempt, _ in window.reports})
    data = zlib.compress(msgspec.msgpack.encode(_bounded(document)), 1)
    connection.execute(update(test_histories).where(group.of(test_histories)).values(document=data, at=report.at))


class Histories:
    """The failed tests of jobs, in memory as long as their reports are the same. Thread-safe.

    What changes rows of a history's older reports, a new report of the same commit, changes the window, too.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[Group, tuple[_Window, tuple[TestView, ...]]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def failing(self, connection: Connection, group: Group) -> tuple[int, tuple[TestView, ...]]:
        """How many reports count, and the tests that failed in them."""
        window = _window(connection, group)  # first: what is added up then is never older than this says
        with self._lock:
            known = self._known.get(group)
            if known is not None and known[0] == window:
                self._known.move_to_end(group)
                return len(window.reports), known[1]
        wanted = select(test_histories.c.document).where(group.of(test_histories))
        document = inflated(connection.execute(wanted).scalar(), _decoder)
        told = None if document is None else _told(group, document, window)
        views = tuple(_from_rows(connection, group, window) if told is None else told)
        with self._lock:
            self._forget(group)
            self._known[group] = window, views
            self._size += len(window.reports) + len(views)
            while self._size > _KNOWN:
                self._forget(next(iter(self._known)))
        return len(window.reports), views

    def _forget(self, group: Group) -> None:
        if group in self._known:
            window, views = self._known.pop(group)
            self._size -= len(window.reports) + len(views)


def _window(connection: Connection, group: Group) -> _Window:
    """The reports of the group that count."""
    columns = (job_reports.c.job, job_reports.c.attempt, job_reports.c.at)
    newest = select(*columns).where(group.of(job_reports), job_reports.c.counts, job_reports.c.total > 0)
    rows = connection.execute(newest.order_by(job_reports.c.at.desc(), job_reports.c.job.desc()).limit(COUNTED))
    return _Window(tuple((row.job, row.attempt, row.at) for row in rows))


def _held(connection: Connection, group: Group, now: float) -> _Document | None:
    """The document, which nobody else changes until the transaction ends. None: there is none yet."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    row = dialect.insert(test_histories).values({**group._asdict(), "at": now, "document": b""})
    if connection.execute(row.on_conflict_do_nothing()).rowcount == 1:
        newest = select(test_histories.c.at).where(test_histories.c.project == group.project)
        bound = connection.execute(
            newest.order_by(test_histories.c.at.desc()).offset(_MOST_DOCUMENTS).limit(1)
        ).scalar()
        if bound is not None:
            of_project = test_histories.c.project == group.project
            connection.execute(delete(test_histories).where(of_project, test_histories.c.at <= bound))
    wanted = select(test_histories.c.document).where(group.of(test_histories)).with_for_update()
    return inflated(connection.execute(wanted).scalar(), _decoder)


def _of_rows(connection: Connection, window: _Window) -> _Document:
    """A document of the reports in the window, by their rows."""
    numbers = {job for job, _, _ in window.reports}
    found = connection.execute(
        select(
            test_failures.c.job, test_failures.c.attempt, test_failures.c.suite, test_failures.c.name,
            test_failures.c.has_failed, test_failures.c.is_flaky,
        ).where(test_failures.c.job.in_(numbers))
    )  # fmt: skip
    of_runs = connection.execute(select(jobs.c.number, jobs.c.run).where(jobs.c.number.in_(numbers)))
    runs = {row.number: row.run for row in of_runs}
    places: dict[Test, int] = {}
    of: dict[tuple[int, int], tuple[list[int], list[int]]] = {}
    for row in found:
        place = places.setdefault((row.suite, row.name), len(places))
        failed, flaky = of.setdefault((row.job, row.attempt), ([], []))
        if row.has_failed:
            failed.append(place)
        if row.is_flaky:
            flaky.append(place)
    reports = [
        _Report(job, attempt, runs[job], at, *map(sorted, of.get((job, attempt), ([], []))))
        for job, attempt, at in window.reports
    ]
    return _Document(list(places), reports)


def _added(
    document: _Document,
    new: Noted,
    passed: Mapping[tuple[int, int], Collection[Test]],
    wanted: Collection[tuple[int, int]],
) -> _Document:
    """The document with a report more, and without those that are not wanted any more."""
    places = {test: place for place, test in enumerate(document.tests)}
    reports = []
    for old in document.reports:
        if (old.job, old.attempt) in wanted:
            good = {places[test] for test in passed.get((old.job, old.attempt), ()) if test in places}
            shaky = good.intersection(old.failed)
            reports.append(msgspec.structs.replace(old, flaky=sorted(shaky.union(old.flaky))) if shaky else old)
    failed, flaky = (
        sorted(places.setdefault(test, len(places)) for test in tests) for tests in (new.failed, new.flaky)
    )
    return _Document(list(places), [_Report(new.job, new.attempt, new.run, new.at, failed, flaky), *reports])


def _bounded(document: _Document) -> _Document:
    """Without tests that no report names, once these are many, and without the oldest reports if there are too many."""
    used: set[int] = set()
    kept: list[_Report] = []
    for report in document.reports:
        more = used.union(_named(report))
        if len(more) > _MOST_TESTS:
            break
        used = more
        kept.append(report)
    if len(document.tests) <= 2 * len(used) and len(kept) == len(document.reports):
        return document
    again = {place: number for number, place in enumerate(sorted(used))}
    return _Document(
        [document.tests[place] for place in again],
        [
            msgspec.structs.replace(
                report, failed=[again[place] for place in report.failed], flaky=[again[place] for place in report.flaky]
            )
            for report in kept
        ],
    )


def _told(group: Group, document: _Document, window: _Window) -> list[TestView] | None:
    """The tests that failed in the reports of the window; None: the document does not have all of these."""
    known = {(report.job, report.attempt): report for report in document.reports}
    reports = [known[job, attempt] for job, attempt, _ in window.reports if (job, attempt) in known]
    if len(reports) != len(window.reports):
        return None
    failed = Counter(chain.from_iterable(report.failed for report in reports))
    flaky = Counter(chain.from_iterable(report.flaky for report in reports))
    last_run: dict[int, int] = {}
    for report in sorted(reports, key=lambda report: report.run):
        last_run.update(dict.fromkeys(_named(report), report.run))
    last_at: dict[int, float] = {}
    for report in sorted(reports, key=lambda report: report.at):
        last_at.update(dict.fromkeys(_named(report), report.at))
    of = len(reports)
    return [
        TestView(
            group.pipeline, group.base, *document.tests[place], History(failed[place], flaky[place], of),
            run, last_at[place],
        )
        for place, run in last_run.items()
    ]  # fmt: skip


def _from_rows(connection: Connection, group: Group, window: _Window) -> list[TestView]:
    """What ``_told`` says, by the rows."""
    wanted = (
        select(
            test_failures.c.suite,
            test_failures.c.name,
            func.count().filter(test_failures.c.has_failed).label("failed"),
            func.count().filter(test_failures.c.is_flaky).label("flaky"),
            func.max(test_failures.c.at).label("at"),
            func.max(jobs.c.run).label("run"),
        )
        .where(group.of(test_failures), test_failures.c.at >= window.since, jobs.c.number == test_failures.c.job)
        .group_by(test_failures.c.suite, test_failures.c.name)
    )
    of = len(window.reports)
    return [
        TestView(group.pipeline, group.base, row.suite, row.name, History(row.failed, row.flaky, of), row.run, row.at)
        for row in connection.execute(wanted)
    ]


def _named(report: _Report) -> Iterable[int]:
    return chain(report.failed, report.flaky)
