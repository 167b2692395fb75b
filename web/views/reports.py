"""What jobs reported: tests, coverage, summaries; and the history of a project's tests."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from ci.reports.model import Case, CaseOutcome, Tally
from pipelines.errors import NotFoundError
from pipelines.runs.histories import History, TestView
from pipelines.runs.reports import Course, ReportView
from web.calls import Call
from web.endpoints import Api
from web.views.jobs import Name
from web.views.names import ProjectName
from web.views.runs import Number

api: Final = Api("reports")


class ReportList(msgspec.Struct, frozen=True):
    """Of the jobs of a run that reported something, in their order."""

    reports: list[ReportView]


class CaseView(msgspec.Struct, frozen=True):
    """One test.

    seconds: that it took.
    message: why it failed, or was skipped.
    output: of a test that failed.
    is_flaky: it failed, and passed when it was tried again in the same job.
    history: how often it failed lately.
    """

    suite: str
    name: str
    outcome: CaseOutcome
    seconds: float
    message: str
    output: str
    is_flaky: bool
    history: History


class JobReport(msgspec.Struct, frozen=True):
    """What a job reported.

    cases: those that failed first, then those that are flaky, then all others as they came.
    notes: what could not be read.
    """

    job: str
    attempt: int
    tests: Tally
    coverage: float | None
    summary: str
    notes: list[str]
    cases: list[CaseView]


class CasesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """first: of the tests, from 1. limit: of them."""

    first: Annotated[int, msgspec.Meta(ge=1, le=10**6)] = 1
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1_000


class TestList(msgspec.Struct, frozen=True):
    """Tests that failed in the last 100 reports of their jobs, and how coverage went."""

    __test__ = False

    tests: list[TestView]
    coverage: list[Course]


class TestsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """flaky: only tests that failed and passed with one commit."""

    __test__ = False

    flaky: bool = False


@api.endpoint("GET", "/runs/{run}/reports", scope="read", errors={404: "There is no such run"})
def list_reports(call: Call, run: Number) -> ReportList:
    """List what the jobs of a run reported: how many tests, how many failed, coverage."""
    call.service.runs.get(run)
    return ReportList(list(call.service.reports.of_run(run)))


@api.endpoint(
    "GET", "/runs/{run}/jobs/{job}/reports", scope="read",
    errors={404: "There is no such run or job, or it reported nothing"},
)  # fmt: skip
def show_report(call: Call, run: Number, job: Name, query: CasesQuery) -> JobReport:
    """Show what a job reported, a page of its tests at a time."""
    place = call.service.jobs.get(run, job).place
    found = call.service.reports.of_job(run, place)
    if found is None:
        raise NotFoundError(f"job {job[:100]} of run {run} reported nothing")
    view, reports = found
    cases = reports.ordered()[query.first - 1 : query.first - 1 + query.limit]
    histories = call.service.reports.histories(run, place, cases)
    return JobReport(
        view.job, view.attempt, view.tests, view.coverage, reports.summary, list(reports.notes),
        [_case_view(case, history) for case, history in zip(cases, histories, strict=True)],
    )  # fmt: skip


def _case_view(case: Case, history: History) -> CaseView:
    return CaseView(
        case.suite, case.name, case.outcome, case.seconds, case.message, case.output, case.is_flaky, history
    )  # fmt: skip


@api.endpoint("GET", "/projects/{project}/tests", scope="read", errors={404: "There is no such project"})
def list_tests(call: Call, project: ProjectName, query: TestsQuery) -> TestList:
    """List the tests of a project that failed lately, and the course of its coverage."""
    call.service.projects.get(project)
    reports = call.service.reports
    return TestList(list(reports.of_project(project, flaky=query.flaky)), list(reports.coverage(project)))
