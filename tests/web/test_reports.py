"""What jobs reported, by the API and on pages: whose it is, in pages, and harmless whatever a test is called."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from sqlalchemy.engine import Connection

from ci.ends import JobOutcome
from ci.graph import JobNode
from ci.reports.model import Case, Reports
from pipelines.model import Project
from pipelines.runs.reports import JobReports, keep_reports
from pipelines.service import Service
from tests.web.conftest import Api
from tests.web.guard.signing import sign_in
from tests.web.test_jobs_api import COMMIT, claimed, planned
from web.pages.reports import drawn

EVIL = "<script>alert(1)</script>\u202egnp"


@pytest.fixture
def run(service: Service) -> int:
    number = planned(service, JobNode("test"), JobNode("silent"))
    claim = claimed(service)
    cases = (
        Case("s", "passes", "passed", 3.5),
        Case("s", "again", "passed", 0.1, "late", "", True),
        Case(EVIL, EVIL, "failed", 0.2, EVIL, f"one\n\x1b[31m{EVIL}"),
        Case("s", "left", "skipped", 0.0, "why"),
    )
    found = JobReports("test", COMMIT, True, Reports(cases, 81.5, f"# {EVIL}", ("a.xml cannot be read: no",)))

    def store(connection: Connection) -> None:
        keep_reports(connection, claim, found, 1000.0)

    service.claims.finish(claim, "failed", "", JobOutcome("failed"), store=store)
    return number


def test_report_of_a_job_has_what_failed_first(api: Api, run: int) -> None:
    assert api("GET", f"/runs/{run}/reports")["reports"] == [
        {"place": 2, "job": "test", "attempt": 1, "coverage": 81.5, "at": 1000.0,
         "tests": {"total": 4, "failed": 1, "skipped": 1, "flaky": 1, "seconds": 3.8}},
    ]  # fmt: skip
    found = api("GET", f"/runs/{run}/jobs/test/reports")
    assert [case["name"] for case in found["cases"]] == [EVIL, "again", "passes", "left"]
    assert found["cases"][0]["history"] == {"failed": 1, "flaky": 0, "of": 1}
    assert found["notes"] == ["a.xml cannot be read: no"]
    page = api("GET", f"/runs/{run}/jobs/2/reports?first=3&limit=1")
    assert [case["name"] for case in page["cases"]] == ["passes"]


def test_job_that_reported_nothing_has_no_report(api: Api, run: int) -> None:
    assert api("GET", f"/runs/{run}/jobs/silent/reports", status=404)["error"]["code"] == "not_found"
    api("GET", "/runs/999/reports", status=404)
    api("GET", f"/runs/{run}/jobs/none/reports", status=404)


def test_tests_of_a_project(api: Api, service: Service, run: int) -> None:
    service.projects.put(Project("other"))
    found = api("GET", "/projects/app/tests")
    assert [(test["name"], test["history"], test["last_run"]) for test in found["tests"]] == [
        ("again", {"failed": 0, "flaky": 1, "of": 1}, run),
        (EVIL, {"failed": 1, "flaky": 0, "of": 1}, run),
    ]
    assert [test["name"] for test in api("GET", "/projects/app/tests?flaky=true")["tests"]] == ["again"]
    assert found["coverage"][0]["points"] == [{"run": run, "at": 1000.0, "coverage": 81.5}]
    assert api("GET", "/projects/other/tests") == {"tests": [], "coverage": []}
    api("GET", "/projects/none/tests", status=404)


def test_pages_show_it_and_execute_none_of_it(client: FlaskClient, service: Service, run: int) -> None:
    sign_in(client, service, "grace", "member")
    job = client.get(f"/runs/{run}/jobs/2")
    assert "4 tests: 1 failed" in job.text
    page = client.get(f"/runs/{run}/jobs/2/tests")
    assert page.status_code == 200
    for text in ("1 failed", "1 flaky", "coverage 81.5 %", "a.xml cannot be read", "failed in 1 of the last 1", "late"):
        assert text in page.text, text
    assert "one\n&lt;script&gt;alert(1)" in page.text
    of_project = client.get("/projects/app/tests")
    assert "1 of 1" in of_project.text
    for text in (page.text, of_project.text):
        assert "<script>alert" not in text
        assert "\x1b" not in text
        assert "&lt;script&gt;alert(1)" in text
    found = client.get(f"/runs/{run}/jobs/2/tests?name=PASS").text
    assert "passes" in found.partition('id="others"')[2]
    assert "left" not in found.partition('id="others"')[2]
    assert client.get(f"/runs/{run}/jobs/3/tests").status_code == 404


def test_who_may_not_see_the_project_sees_none_of_it(client: FlaskClient, service: Service, run: int) -> None:
    sign_in(client, service, "guest", "guest")
    for path in (f"/runs/{run}/jobs/2/tests", "/projects/app/tests", f"/api/v1/runs/{run}/jobs/2/reports"):
        assert client.get(path).status_code in (403, 404), path


def test_one_point_is_a_line_too(service: Service, run: int) -> None:
    (course,) = service.reports.coverage("app")
    assert drawn(course) == "0.0,20.4 720.0,20.4"
