"""Parameters of runs by hand: by the API, and by the form of a run's page."""

from __future__ import annotations

from flask.testing import FlaskClient

from ci.graph import JobNode
from ci.model import Param
from pipelines.model import GitSource, RunRequest, Trigger
from pipelines.runs.graphs import RunPlan
from pipelines.runs.pipelines import PlannedRun, PlannedWork
from pipelines.service import Service
from tests.web.conftest import Api
from tests.web.guard.signing import csrf, sign_in
from tests.web.test_jobs_api import COMMIT, claimed, nothing

PARAMS = {
    "LEVEL": Param("low", "choice", ("low", "high"), about="How <much>"),
    "DRY": Param("true", "boolean"),
    "COUNT": Param("3", "number"),
}
SOURCE = {"type": "git", "url": "https://git.example/app.git", "ref": "main"}


def planned(service: Service) -> int:
    """The number of a run of a pipeline with parameters."""
    trigger = Trigger("push", "ada", branch="main", commit=COMMIT, default_branch="main")
    source = GitSource("https://git.example/app.git", "main")
    service.runs.submit(RunRequest(source, "app"), trigger)
    plan = RunPlan(".shiplap.yml", COMMIT, "refs/heads/main", facts={"LEVEL": "high"}, params=PARAMS)
    found = PlannedRun("main", plan, (PlannedWork(JobNode("a"), {}),))
    head = claimed(service)
    service.pipelines.write(head, [("main", lambda _: found)], mark="", own_secrets={}, store=nothing)
    return head.run.number


def test_parameters_go_with_a_run_of_a_named_pipeline_and_are_noted(api: Api, service: Service) -> None:
    body = {"source": SOURCE, "project": "app", "pipeline": "main", "params": {"LEVEL": "$(high);"}}
    run = api("POST", "/runs", body, status=201)
    assert (run["trigger"]["params"], run["trigger"]["pipeline"]) == ({"LEVEL": "$(high);"}, "main")
    (entry,) = service.audit.list(action="run with")
    assert (entry.subject, entry.detail) == (f"run={run['number']}", "LEVEL=$(high);")


def test_parameters_that_can_be_none_are_refused(api: Api) -> None:
    body = {"source": SOURCE, "project": "app", "pipeline": "main"}
    api("POST", "/runs", {**body, "pipeline": "", "params": {"A": "b"}}, status=422)
    api("POST", "/runs", {**body, "params": {"A-B": "c"}}, status=422)
    api("POST", "/runs", {**body, "params": {"A": "x" * 4097}}, status=422)
    api("POST", "/runs", {**body, "params": {"A": "\0"}}, status=422)
    api("POST", "/runs", {**body, "params": {f"A{n}": "" for n in range(51)}}, status=422)
    api("POST", "/runs", {**body, "params": {"A": 3}}, status=422)


def test_form_has_what_the_file_says_and_makes_a_run_of_the_same_commit(client: FlaskClient, service: Service) -> None:
    number = planned(service)
    service.runs.cancel(number)
    sign_in(client, service, "eva", "member")
    shown = client.get(f"/runs/{number}").get_data(as_text=True)
    assert f'href="/runs/{number}/again"' in shown
    form = client.get(f"/runs/{number}/again").get_data(as_text=True)
    assert "How &lt;much&gt;" in form
    assert '<option value="high" selected>' in form
    wanted = {"_csrf": csrf(client), "p-LEVEL": "low", "p-DRY": "false", "p-COUNT": "12"}
    answer = client.post(f"/runs/{number}/again", data=wanted)
    assert answer.status_code == 303
    made = service.runs.get(number + 1)
    assert made.trigger.params == {"LEVEL": "low", "DRY": "false", "COUNT": "12"}
    assert (made.trigger.kind, made.trigger.by, made.trigger.pipeline) == ("manual", "eva", "main")
    assert isinstance(made.source, GitSource)
    assert (made.source.ref, made.source.branch) == (COMMIT, "main")
    (entry,) = service.audit.list(action="run with")
    assert (entry.actor, entry.detail) == ("eva", "LEVEL=low DRY=false COUNT=12")


def test_form_with_a_wrong_value_says_so_and_starts_nothing(client: FlaskClient, service: Service) -> None:
    number = planned(service)
    sign_in(client, service, "eva", "member")
    wanted = {"_csrf": csrf(client), "p-LEVEL": "low", "p-COUNT": "many"}
    answer = client.post(f"/runs/{number}/again", data=wanted)
    assert answer.status_code == 422
    assert "parameter COUNT: expected a number" in answer.get_data(as_text=True)
    assert len(service.runs.list()) == 1
