"""Pages of what jobs reported: the tests of one job, and how a project's tests and coverage went."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, request
from werkzeug.wrappers import Response

from ci.reports.model import Case
from pipelines.errors import NotFoundError
from pipelines.runs.reports import Course, TestReports
from web.backing import service
from web.pages.frame import page
from web.pages.projects import frame_of

of_runs: Final = Blueprint("run_report_pages", __name__)
of_projects: Final = Blueprint("project_report_pages", __name__)

_MOST_FAILED: Final = 200
_SLOWEST: Final = 20
_LISTED: Final = 500
_WIDTH: Final = 720
_HEIGHT: Final = 90
_EDGE: Final = 6


@of_runs.get("/runs/<int:number>/jobs/<int:place>/tests")
def show_tests(number: int, place: int) -> Response:
    """The tests of one job: those that failed first, with what they printed."""
    run = service().runs.get(number)
    found = service().reports.of_job(number, place)
    if found is None:
        raise NotFoundError(f"job {place} of run {number} reported nothing")
    view, reports = found
    ordered = reports.ordered()
    failed = [case for case in ordered if case.has_failed]
    flaky = [case for case in ordered if case.is_flaky and not case.has_failed]
    wanted = request.args.get("name", "").strip()
    others = [case for case in ordered if not case.has_failed and _is_meant(case, wanted)]
    slowest = sorted(reports.cases, key=lambda case: -case.seconds)[:_SLOWEST]
    return page(
        "run_tests.html",
        run=run,
        view=view,
        reports=reports,
        failed=_with_history(number, place, failed[:_MOST_FAILED]),
        more_failed=max(0, len(failed) - _MOST_FAILED),
        flaky=_with_history(number, place, flaky[:_MOST_FAILED]),
        slowest=[case for case in slowest if case.seconds],
        others=others[:_LISTED],
        more_others=max(0, len(others) - _LISTED),
        wanted=wanted,
    )


@of_projects.get("/projects/<name>/tests")
def show_project_tests(name: str) -> Response:
    """The tests of a project that failed lately, and the course of its coverage."""
    project = service().projects.get(name)
    reports: TestReports = service().reports
    found = reports.of_project(name)
    return page(
        "project_tests.html",
        **frame_of(project),
        tests=found[:_LISTED],
        more=max(0, len(found) - _LISTED),
        courses=[(course, drawn(course)) for course in reports.coverage(name)],
        width=_WIDTH,
        height=_HEIGHT,
    )


def _is_meant(case: Case, text: str) -> bool:
    return text.casefold() in f"{case.suite} {case.name}".casefold()


def _with_history(number: int, place: int, cases: list[Case]) -> list[tuple[Case, Any]]:
    return list(zip(cases, service().reports.histories(number, place, cases), strict=True))


def drawn(course: Course) -> str:
    """The points of a line from 0 at the bottom to 100 % at the top. One point is a line, too."""
    room = _HEIGHT - 2 * _EDGE
    points = course.points if len(course.points) > 1 else course.points * 2
    step = _WIDTH / (len(points) - 1)
    return " ".join(
        f"{at * step:.1f},{_EDGE + room * (1 - point.coverage / 100):.1f}" for at, point in enumerate(points)
    )
