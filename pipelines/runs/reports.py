"""What jobs reported, kept for the run's page and for the history of each test.

A test is known within its project, pipeline and job of the file: that of all values of a matrix is one. Runs of forks
are shown, and count in no history: a stranger says nothing of how reliable a project's tests are. Nor do results that
were reused. How often each test failed is told by ``histories``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import and_, delete, insert, or_, select, update
from sqlalchemy.engine import Connection

from ci.reports.model import Case, Reports, Tally, tally
from ci.reports.packing import packed, unpacked
from pipelines.database import Database
from pipelines.model import Claim
from pipelines.runs.histories import COUNTED, Group, Histories, History, Noted, Test, TestView, note
from pipelines.schema import job_reports, jobs, runs, test_failures

_KEPT: Final = 200  # reports of a job whose tests are kept one by one; of others only how many there were
_MOST_FAILURES: Final = 1_000  # of one report, in the history
_COMPARED: Final = 10  # reports of the same job and commit
_MOST_GROUPS: Final = 100
_EMPTIED: Final = 400  # reports, each time


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


def keep_reports(connection: Connection, claim: Claim, found: JobReports, now: float) -> None:
    """Keep what an attempt reported, in the transaction that ends it: once for an attempt."""
    pipeline: str = connection.execute(select(runs.c.pipeline).where(runs.c.number == claim.run.number)).scalar_one()
    group = Group(claim.run.project, pipeline, found.base)
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
        _note_tests(connection, claim, group, found, this | where, now)
    _forget_old(connection, group, counts=found.counts)


def _note_tests(
    connection: Connection, claim: Claim, group: Group, found: JobReports, common: dict[str, object], now: float
) -> None:
    failed = {(case.suite, case.name) for case in found.reports.cases if case.has_failed}
    passed = {(case.suite, case.name) for case in found.reports.cases if case.outcome == "passed"} - failed
    shaky = {(case.suite, case.name) for case in found.reports.cases if case.is_flaky} - failed
    both: set[Test] = set()
    passed_since: dict[tuple[int, int], set[Test]] = {}
    for job, attempt, other in _same_commit(connection, claim, group, found.commit):
        both |= failed & {(case.suite, case.name) for case in other.cases if case.outcome == "passed"}
        now_good = passed & {(case.suite, case.name) for case in other.cases if case.has_failed}
        _call_flaky(connection, job, attempt, now_good)
        passed_since[job, attempt] = now_good
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
    report = Noted(
        claim.number, claim.attempt, claim.run.number, now,
        [test for test in noted if test in failed], [test for test in noted if test in both or test in shaky],
    )  # fmt: skip
    note(connection, group, report, passed_since)


def _same_commit(connection: Connection, claim: Claim, group: Group, commit: str) -> Iterator[tuple[int, int, Reports]]:
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


def _forget_old(connection: Connection, group: Group, *, counts: bool) -> None:
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
        self._histories = Histories()

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
            of, failing = self._histories.failing(connection, Group(*row))
        found = {(view.suite, view.name): view.history for view in failing}
        nothing = History(of=of)
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


def _groups(connection: Connection, project: str) -> list[Group]:
    columns = (job_reports.c.project, job_reports.c.pipeline, job_reports.c.base)
    wanted = select(*columns).where(job_reports.c.project == project).distinct().order_by(*columns)
    return [Group(*row) for row in connection.execute(wanted.limit(_MOST_GROUPS))]


def _course(connection: Connection, group: Group) -> Course:
    columns = (job_reports.c.run, job_reports.c.at, job_reports.c.coverage)
    wanted = select(*columns).where(group.of(job_reports), job_reports.c.counts, job_reports.c.coverage.is_not(None))
    rows = connection.execute(wanted.order_by(job_reports.c.at.desc()).limit(COUNTED)).all()
    points = tuple(CoveragePoint(row.run, row.at, row.coverage) for row in reversed(rows))
    return Course(group.pipeline, group.base, points)


def _view(row: Any) -> ReportView:
    counted = Tally(row.total, row.failed, row.skipped, row.flaky, row.seconds)
    return ReportView(row.place, row.name, row.attempt, counted, row.coverage, row.at)
