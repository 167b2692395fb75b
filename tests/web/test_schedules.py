"""When a project's pipelines run by themselves, by the API and on its page."""

from __future__ import annotations

from flask.testing import FlaskClient

from ci.model import Schedule
from pipelines.model import HookSettings, Project
from pipelines.runs.schedules import write_schedules
from pipelines.service import Service
from tests.web.conftest import Api
from tests.web.guard.signing import sign_in


def written(service: Service) -> None:
    service.projects.put(Project("app", hook=HookSettings("https://git.example/app.git", "plain")))
    with service.database.write() as connection:
        times = (Schedule("30 2 * * *", "<b>next", "Europe/Berlin"),)
        write_schedules(connection, "app", 1, {"nightly": times}, 1_795_910_400.0)


def test_times_of_a_project_with_the_next_three(api: Api, service: Service) -> None:
    written(service)
    (found,) = api("GET", "/projects/app/schedules")["schedules"]
    assert (found["pipeline"], found["at"], found["zone"], found["branch"]) == (
        "nightly", "30 2 * * *", "Europe/Berlin", "<b>next",
    )  # fmt: skip
    assert len(found["next"]) == 3
    assert found["last_run"] is None
    service.projects.put(Project("other"))
    assert api("GET", "/projects/other/schedules") == {"schedules": []}
    api("GET", "/projects/none/schedules", status=404)


def test_page_of_a_project_has_its_times(client: FlaskClient, service: Service) -> None:
    written(service)
    sign_in(client, service, "grace", "member")
    page = client.get("/projects/app").text
    assert "Runs by themselves" in page
    assert "30 2 * * *" in page
    assert "&lt;b&gt;next" in page
    assert "none yet" in page
