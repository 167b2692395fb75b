"""Gates by the API and on the page of a run: who sees which buttons, and what an answer does."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from ci.graph import JobNode
from pipelines.model import GitSource, RunRequest, Trigger
from pipelines.runs.gaterows import Changes, CommitTold, GateTerms
from pipelines.runs.graphs import RunPlan
from pipelines.runs.pipelines import PlannedRun, PlannedWork
from pipelines.service import Service
from tests.web.conftest import Api
from tests.web.guard.signing import csrf, sign_in
from tests.web.test_jobs_api import COMMIT, claimed, nothing

GATE = 2
MISSING = "deploy needs the secret <KEY>, which this run has not"
CHANGES = Changes(3, "c" * 40, (CommitTold("d" * 40, "Eva <b>", "Round <i>up</i>"),), 7, 5)


def asking(service: Service, terms: GateTerms) -> int:
    """The number of a run of ada's push that begins with a gate, which asks."""
    trigger = Trigger("push", "ada", branch="main", commit=COMMIT, default_branch="main")
    service.runs.submit(RunRequest(GitSource("https://git.example/app.git", "main"), "app"), trigger)
    nodes = (JobNode("go-live", is_gate=True), JobNode("deploy", needs=("go-live",)))
    work = tuple(PlannedWork(node, {}, gate=terms if node.is_gate else None) for node in nodes)
    head = claimed(service)
    found = PlannedRun("main", RunPlan(".shiplap.yml", COMMIT), work)
    service.pipelines.write(head, [("main", lambda _: found)], mark="", own_secrets={}, store=nothing)
    return head.run.number


@pytest.fixture
def run(service: Service) -> int:
    return asking(service, GateTerms("Ship <b>it</b>?", changes=CHANGES, missing=(MISSING,)))


def gate(api: Api, run: int, **more: Any) -> Any:
    return api("GET", f"/runs/{run}/jobs/go-live/gate", **more)


def test_gate_is_shown_answered_once_and_noted(api: Api, service: Service, run: int) -> None:
    shown = gate(api, run)
    assert (shown["message"], shown["decision"], shown["author"]) == ("Ship <b>it</b>?", "", "ada")
    assert shown["changes"]["commits"] == [{"id": "d" * 40, "author": "Eva <b>", "title": "Round <i>up</i>"}]
    assert shown["missing"] == [MISSING]
    (job,) = [job for job in api("GET", f"/runs/{run}/jobs")["jobs"] if job["is_gate"]]
    assert (job["state"], job["reason"]) == ("blocked", "waits for an answer: Ship <b>it</b>?")
    assert api("GET", f"/runs/{run}")["state"] == "blocked"
    assert api("GET", "/runs?state=blocked")["runs"][0]["number"] == run
    answered = api("POST", f"/runs/{run}/jobs/go-live/approve", {"comment": "fine"})
    assert (answered["decision"], answered["comment"]) == ("approved", "fine")
    refused = api("POST", f"/runs/{run}/jobs/{GATE}/refuse", {}, status=409)
    assert "was approved already" in refused["error"]["message"]
    assert [entry.action for entry in service.audit.list()] == ["approve gate"]
    assert api("GET", f"/runs/{run}/jobs/deploy")["state"] == "queued"


def test_refusal_by_the_api_fails_the_run(api: Api, run: int) -> None:
    api("POST", f"/runs/{run}/jobs/go-live/refuse", {"comment": "no"})
    assert api("GET", f"/runs/{run}")["state"] == "failed"


def test_garbage_is_refused(api: Api, run: int) -> None:
    api("POST", f"/runs/{run}/jobs/go-live/approve", {"comment": "x" * 1001}, status=422)
    api("POST", f"/runs/{run}/jobs/go-live/approve", {"by": "ana"}, status=422)
    api("POST", f"/runs/{run}/jobs/nobody/approve", {}, status=404)
    api("POST", f"/runs/{run}/jobs/deploy/approve", {}, status=409)
    api("POST", "/runs/999/jobs/1/approve", {}, status=404)
    gate(api, run, status=200)
    api("GET", f"/runs/{run}/jobs/deploy/gate", status=404)
    assert gate(api, run)["decision"] == ""


def page(client: FlaskClient, run: int) -> str:
    answer = client.get(f"/runs/{run}")
    assert answer.status_code == 200
    return answer.get_data(as_text=True)


def test_page_shows_the_question_and_what_changed_and_the_buttons_answer(
    client: FlaskClient, service: Service, run: int
) -> None:
    sign_in(client, service, "root", "admin")
    shown = page(client, run)
    assert "Ship &lt;b&gt;it&lt;/b&gt;?" in shown
    assert "Round &lt;i&gt;up&lt;/i&gt;" in shown
    assert "7 commits, 5 files" in shown
    assert "deploy needs the secret &lt;KEY&gt;, which this run has not" in shown
    assert "Approve and go on with deploy" in shown
    assert "go-live waits for an answer: Ship" in shown
    form = {"_csrf": csrf(client), "comment": "on Monday"}
    answer = client.post(f"/runs/{run}/jobs/{GATE}/refuse", data=form)
    assert answer.status_code == 303
    shown = page(client, run)
    assert "refused by root: on Monday" in shown
    assert "deploy needs the secret" not in shown
    assert "Refuse…" not in shown
    assert [(entry.actor, entry.action) for entry in service.audit.list()] == [("root", "refuse gate")]


def test_who_may_not_answer_sees_why_and_no_button(client: FlaskClient, service: Service) -> None:
    run = asking(service, GateTerms("Ship it?", not_author=True))
    sign_in(client, service, "ada", "admin")
    shown = page(client, run)
    assert "You may not answer: the run is of ada, and somebody else has to answer." in shown
    assert "/approve" not in shown
    answer = client.post(f"/runs/{run}/jobs/{GATE}/approve", data={"_csrf": csrf(client)})
    assert answer.status_code == 403
    assert service.jobs.get(run, "go-live").state == "blocked"


def test_member_who_may_only_build_is_not_asked(client: FlaskClient, service: Service, run: int) -> None:
    sign_in(client, service, "bob", "member")
    shown = page(client, run)
    assert "Who maintains app may answer; you may not." in shown
    assert "/approve" not in shown
    answer = client.post(f"/runs/{run}/jobs/{GATE}/approve", data={"_csrf": csrf(client)})
    assert answer.status_code == 403
