"""What jobs reported, kept for the run's page and for the history of each test.

A test is known within its project, pipeline and job of the file: that of all values of a matrix is one. Runs of forks
are shown, and count in no history: a stranger says nothing of how reliable a project's tests are. Nor do results that
were reused.

Adding up a history of 100,000 failures takes a tenth of a second. So it is kept until the job reports again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, update
from sqlalchemy.engine import Connection

from ci.reports.model import Case, Reports, Tally, tally
from ci.reports.packing import packed, unpacked
from pipelines.database import Database
from pipelines.model import Claim
from pipelines.schema import job_reports, jobs, runs, test_failures

COUNTED: Final = 100
"""Of so many of a job's last reports the history of its tests is told."""

_KEPT: Final = 200  # reports of a job whose tests are kept one by one; of others only how many there were
_MOST_FAILURES: Final = 1_000  # of one report, in the history
_COMPARED: Final = 10  # reports of the same job and commit
_MOST_GROUPS: Final = 100
_EMPTIED: Final = 400  # reports, each time
_KNOWN: Final = 50_000  # tests and reports of all histories that are kept in memory


class JobReports(NamedTuple):
    """What one attempt reported, and what it was of.

    base: the job's name in the file.
    commit: that was tested.
    counts: whether it is part of the history of its tests.
    """

    base: str
    commit: str
    counts: bool
    reports: Reports


class ReportView(msgspec.Struct, frozen=True):
    """What a job reported.

    place: the job's in its run.
    coverage: in per cent; null: none.
    """

    place: int
    job: str
    attempt: int
    tests: Tally
    coverage: float | None
    at: float


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

    pipeline: str
    job: str
    suite: str
    name: str
    history: History
    last_run: int
    last_at: float


class CoveragePoint(msgspec.Struct, frozen=True):
    """What a run's job covered, in per cent."""

    run: int
    at: float
    coverage: float


class Course(msgspec.Struct, frozen=True):
    """The coverage of one job over its last runs, the oldest first."""

    pipeline: str
    job: str
    points: tuple[CoveragePoint, ...]


class _Group(NamedTuple):
    """Whose history it is."""

    project: str
    pipeline: str
    base: str

    def of(self, table: Any) -> ColumnElement[bool]:
        return and_(table.c.project == self.project, table.c.pipeline == self.pipeline, table.c.base == self.base)


class _Window(NamedTuple):
    """The reports that a history is told of, the newest first: whichever run goes or comes, it is another window.

    reports: job, attempt, time.
    """

    reports: tuple[tuple[int, int, float], ...]

    @property
    def since(self) -> float:
        return self.reports[-1][2] if self.reports else 0.0


class _Histories:
    """The failed tests of jobs, as long as their reports are the same. Thread-safe.

    What changes rows of a history's older reports, a new report of the same commit, changes the window, too.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[_Group, tuple[_Window, tuple[TestView, ...]]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def failing(self, connection: Connection, group: _Group) -> tuple[_Window, tuple[TestView, ...]]:
        """The reports that count, and the tests that failed in them."""
        window = _window(connection, group)  # first: what is added up then is never older than this says
        with self._lock:
            known = self._known.get(group)
            if known is not None and known[0] == window:
                self._known.move_to_end(group)
                return known
        found = window, tuple(_failing(connection, group, window))
        with self._lock:
            self._forget(group)
            self._known[group] = found
            self._size += _size(found)
            while self._size > _KNOWN:
                self._forget(next(iter(self._known)))
        return found

    def _forget(self, group: _Group) -> None:
        if group in self._known:
            self._size -= _size(self._known.pop(group))


def _size(known: tuple[_Window, tuple[TestView, ...]]) -> int:
    return len(known[0].reports) + len(known[1])


def keep_reports(connection: Connection, claim: Claim, found: JobReports, now: float) -> None:
    """Keep what an attempt reported, in the transaction that ends it: once for an attempt."""
    pipeline: str = connection.execute(select(runs.c.pipeline).where(runs.c.number == claim.run.number)).scalar_one()
    group = _Group(claim.run.project, pipeline, found.base)
    counted = tally(found.reports.cases)
    this = {"job": claim.number, "attempt": claim.attempt}
    where = {**group._asdict(), "commit": found.commit, "at": now}
    connection.execute(
        insert(job_reports).values(
            **this, **where, counts=found.counts, run=claim.run.number, name=claim.name,
            total=counted.total, failed=counted.failed, skipped=counted.skipped, flaky=counted.flaky,
            seconds=counted.seconds, coverage=found.reports.coverage, document=packed(found.reports),
        )
    )  # fmt: skip
    if found.counts and found.reports.cases:
        _note_tests(connection, claim, group, found, this | where)
    _forget_old(connection, group, counts=found.counts)


def _note_tests(
    connection: Connection, claim: Claim, group: _Group, found: JobReports, common: dict[str, object]
) -> None:
    failed = {(case.suite, case.name) for case in found.reports.cases if case.has_failed}
    passed = {(case.suite, case.name) for case in found.reports.cases if case.outcome == "passed"} - failed
    shaky = {(case.suite, case.name) for case in found.reports.cases if case.is_flaky} - failed
    both: set[tuple[str, str]] = set()
    for job, attempt, other in _same_commit(connection, claim, group, found.commit):
        both |= failed & {(case.suite, case.name) for case in other.cases if case.outcome == "passed"}
        now_good = passed & {(case.suite, case.name) for case in other.cases if case.has_failed}
        _call_flaky(connection, job, attempt, now_good)
    noted = sorted(failed | shaky)[:_MOST_FAILURES]
    rows = [
        {
            **common, "place": place, "suite": test[0], "name": test[1],
            "has_failed": test in failed, "is_flaky": test in both or test in shaky,
        }
        for place, test in enumerate(noted)
    ]  # fmt: skip
    if rows:
        connection.execute(insert(test_failures), rows)


def _same_commit(
    connection: Connection, claim: Claim, group: _Group, commit: str
) -> Iterator[tuple[int, int, Reports]]:
    """Other reports of the same job, with its values of the matrix, on the same commit: job, attempt, what they say."""
    columns = (job_reports.c.job, job_reports.c.attempt, job_reports.c.document)
    others = select(*columns).where(
        group.of(job_reports),
        job_reports.c.name == claim.name,
        job_reports.c.commit == commit,
        job_reports.c.counts,
        or_(job_reports.c.job != claim.number, job_reports.c.attempt != claim.attempt),
    )
    for row in connection.execute(others.order_by(job_reports.c.at.desc()).limit(_COMPARED)).all():
        reports = unpacked(row.document)
        if reports is not None:
            yield row.job, row.attempt, reports


def _call_flaky(connection: Connection, job: int, attempt: int, tests: Collection[tuple[str, str]]) -> None:
    """Tests that failed in this report have passed with the same commit.

    By the report, not by their names: looked for by these, each would cost all that the history has.
    """
    if not tests:
        return
    its = and_(test_failures.c.job == job, test_failures.c.attempt == attempt)
    noted = connection.execute(select(test_failures.c.place, test_failures.c.suite, test_failures.c.name).where(its))
    places = [row.place for row in noted if (row.suite, row.name) in tests]
    if places:
        connection.execute(update(test_failures).where(its, test_failures.c.place.in_(places)).values(is_flaky=True))


def _forget_old(connection: Connection, group: _Group, *, counts: bool) -> None:
    """So that a job's history takes no more in the database, however often it runs.

    Reports that count and others are apart: however often a fork's runs report, the project's history stays.
    """
    alike = and_(group.of(job_reports), job_reports.c.counts == counts)
    newest = select(job_reports.c.at).where(alike).order_by(job_reports.c.at.desc())
    old = connection.execute(newest.offset(_KEPT).limit(_EMPTIED)).scalars().all()  # older ones went before
    if old:
        if counts:
            connection.execute(delete(test_failures).where(group.of(test_failures), test_failures.c.at <= old[0]))
        whole = and_(alike, job_reports.c.at.between(old[-1], old[0]), job_reports.c.document != b"")
        connection.execute(update(job_reports).where(whole).values(document=b""))


class TestReports:
    """Reads what was kept. Thread-safe."""

    __test__ = False  # no test, whatever its name

    def __init__(self, database: Database) -> None:
        self._database = database
        self._histories = _Histories()

    def of_run(self, run: int) -> Sequence[ReportView]:
        """What the jobs of a run reported, of each its last attempt with a report, in their order."""
        wanted = select(job_reports, jobs.c.place).where(job_reports.c.run == run, jobs.c.number == job_reports.c.job)
        with self._database.read() as connection:
            rows = connection.execute(wanted.order_by(jobs.c.place, job_reports.c.attempt)).all()
        return list({row.job: _view(row) for row in rows}.values())

    def of_job(self, run: int, place: int) -> tuple[ReportView, Reports] | None:
        """What a job reported at its last attempt that did; None: nothing.

        The tests are gone from it when there are 200 newer reports of the job.
        """
        wanted = select(job_reports, jobs.c.place).where(
            job_reports.c.run == run, jobs.c.number == job_reports.c.job, jobs.c.place == place
        )
        with self._database.read() as connection:
            row = connection.execute(wanted.order_by(job_reports.c.attempt.desc()).limit(1)).first()
        if row is None:
            return None
        return _view(row), unpacked(row.document) or Reports(notes=("the tests are not kept any more",))

    def histories(self, run: int, place: int, cases: Sequence[Case]) -> list[History]:
        """Of each of a job's tests, how often it failed lately."""
        groups = select(job_reports.c.project, job_reports.c.pipeline, job_reports.c.base).where(
            job_reports.c.run == run, jobs.c.number == job_reports.c.job, jobs.c.place == place
        )
        with self._database.read() as connection:
            row = connection.execute(groups.limit(1)).first()
            if row is None:
                return [History()] * len(cases)
            window, failing = self._histories.failing(connection, _Group(*row))
        found = {(view.suite, view.name): view.history for view in failing}
        nothing = History(of=len(window.reports))
        return [found.get((case.suite, case.name), nothing) for case in cases]

    def of_project(self, project: str, *, flaky: bool = False) -> Sequence[TestView]:
        """Tests that failed in the last reports of their jobs, the most often first. flaky: only these."""
        with self._database.read() as connection:
            groups = _groups(connection, project)
            found = [test for group in groups for test in self._histories.failing(connection, group)[1]]
        wanted = [test for test in found if test.history.flaky] if flaky else found
        return sorted(wanted, key=lambda test: (-test.history.flaky, -test.history.failed, test.suite, test.name))

    def coverage(self, project: str) -> Sequence[Course]:
        """How the coverage of a project's jobs went."""
        with self._database.read() as connection:
            courses = [_course(connection, group) for group in _groups(connection, project)]
        return [course for course in courses if course.points]


def _groups(connection: Connection, project: str) -> list[_Group]:
    columns = (job_reports.c.project, job_reports.c.pipeline, job_reports.c.base)
    wanted = select(*columns).where(job_reports.c.project == project).distinct().order_by(*columns)
    return [_Group(*row) for row in connection.execute(wanted.limit(_MOST_GROUPS))]


def _window(connection: Connection, group: _Group) -> _Window:
    """The reports of the group that count."""
    columns = (job_reports.c.job, job_reports.c.attempt, job_reports.c.at)
    newest = select(*columns).where(group.of(job_reports), job_reports.c.counts, job_reports.c.total > 0)
    rows = connection.execute(newest.order_by(job_reports.c.at.desc(), job_reports.c.job.desc()).limit(COUNTED))
    return _Window(tuple((row.job, row.attempt, row.at) for row in rows))


def _failing(connection: Connection, group: _Group, window: _Window) -> list[TestView]:
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


def _course(connection: Connection, group: _Group) -> Course:
    columns = (job_reports.c.run, job_reports.c.at, job_reports.c.coverage)
    wanted = select(*columns).where(group.of(job_reports), job_reports.c.counts, job_reports.c.coverage.is_not(None))
    rows = connection.execute(wanted.order_by(job_reports.c.at.desc()).limit(COUNTED)).all()
    points = tuple(CoveragePoint(row.run, row.at, row.coverage) for row in reversed(rows))
    return Course(group.pipeline, group.base, points)


def _view(row: Any) -> ReportView:
    counted = Tally(row.total, row.failed, row.skipped, row.flaky, row.seconds)
    return ReportView(row.place, row.name, row.attempt, counted, row.coverage, row.at)
