"""Webhooks, badges and projects over HTTP, without a socket."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from pipelines.model import ContextSource, HookSettings, Project, RunRequest, RunResult, RunState, Trigger
from pipelines.service import Service
from tests.toolkit import forgepayloads as sent
from tests.toolkit.forgepayloads import AFTER, SECRET, Hook
from tests.web.conftest import Api

REPOSITORY = "https://github.com/octo-org/hello.git"


@pytest.fixture
def project(service: Service) -> str:
    service.projects.put(Project("app", hook=HookSettings(repository=REPOSITORY)))
    service.projects.set_webhook_secret("app", SECRET)
    return "app"


def post(client: FlaskClient, hook: Hook, path: str = "/hooks/app", secret: str = SECRET) -> TestResponse:
    headers, body = hook.request(secret)
    return client.post(path, headers=headers, data=body)


def test_push_is_answered_with_its_run_before_anything_is_built(
    client: FlaskClient, service: Service, project: str
) -> None:
    answer = post(client, sent.github_push())
    assert answer.status_code == 202
    (run,) = service.runs.list()
    assert run.state == "queued"
    assert answer.get_json()["runs"] == [run.number]
    assert answer.get_json()["links"][0].endswith(f"/runs/{run.number}")


def test_forge_is_known_by_the_repository_s_host(service: Service, project: str) -> None:
    assert service.projects.get("app").hook.forge == "github"


@pytest.mark.parametrize(
    ("hook", "secret", "path", "status", "code"),
    [
        (sent.github_push(), "another secret here", "/hooks/app", 403, "forbidden"),
        (sent.github_push(), SECRET, "/hooks/nothing", 403, "forbidden"),
        (sent.gitlab_push(), SECRET, "/hooks/app", 400, "bad_request"),
        (sent.github_push(), SECRET, "/hooks/app/gitlab", 400, "bad_request"),
    ],
)
def test_refusals_have_their_codes(
    client: FlaskClient, project: str, hook: Hook, secret: str, path: str, status: int, code: str
) -> None:
    answer = post(client, hook, path, secret)
    assert answer.status_code == status
    assert answer.get_json()["error"]["code"] == code


def test_unsigned_requests_are_told_so_without_a_challenge(client: FlaskClient, project: str) -> None:
    answer = client.post("/hooks/app", headers={"X-GitHub-Event": "push"}, json={})
    assert answer.status_code == 401
    assert "WWW-Authenticate" not in answer.headers


def test_ignored_and_repeated_deliveries_are_200_with_the_reason(client: FlaskClient, project: str) -> None:
    ping = post(client, sent.github_ping(), "/hooks/app/github")
    assert (ping.status_code, ping.get_json()["outcome"]) == (200, "ignored")
    hook = sent.github_push()
    post(client, hook)
    again = post(client, hook)
    assert (again.status_code, again.get_json()["repeated"]) == (200, True)
    assert "came before: run 1" in again.get_json()["reason"]


def test_big_bodies_are_not_read(client: FlaskClient, project: str) -> None:
    answer = client.post("/hooks/app", environ_overrides={"CONTENT_LENGTH": str(26 << 20)})
    assert answer.status_code == 413


def test_other_methods_are_refused(client: FlaskClient, project: str) -> None:
    assert client.get("/hooks/app").status_code == 405


def test_secret_is_answered_once_and_opens_the_webhook(api: Api, service: Service, client: FlaskClient) -> None:
    hook = {"repository": REPOSITORY, "branches": ["main"]}
    made = api("PUT", "/projects/app", {"hook": hook})
    assert made["hook"] == {**hook, "forge": "github"}
    assert "has_webhook_secret" not in made
    webhook = api("POST", "/projects/app/webhook", {}, status=201)
    assert webhook["url"].endswith("/hooks/app")
    assert post(client, sent.github_push(), secret=webhook["secret"]).status_code == 202
    shown = api("GET", "/projects/app")
    assert shown["has_webhook_secret"] is True
    assert webhook["secret"] not in str(shown)
    api("PUT", "/projects/app/status-token", {"token": "ghp_secret"}, status=204)
    assert "ghp_secret" not in str(api("GET", "/projects"))


def test_deliveries_are_listed_shown_and_acted_on_again(api: Api, client: FlaskClient, project: str) -> None:
    post(client, sent.github_push())
    post(client, sent.github_push(), secret="not the secret")
    refused, taken = api("GET", "/projects/app/deliveries")["deliveries"]
    assert (refused["outcome"], taken["outcome"]) == ("refused", "queued")
    shown = api("GET", f"/projects/app/deliveries/{taken['id']}")
    assert shown["headers"]["x-hub-signature-256"] == "(withheld)"
    assert '"refs/heads/main"' in shown["body"]
    assert api("GET", f"/projects/app/deliveries/{refused['id']}")["body"] is None
    again = api("POST", f"/projects/app/deliveries/{taken['id']}/redeliver", status=201)
    assert again["redelivery_of"] == taken["id"]
    api("POST", f"/projects/app/deliveries/{refused['id']}/redeliver", status=409)
    api("GET", "/projects/app/deliveries/999", status=404)


def test_approvals_are_for_the_commit_that_was_looked_at(api: Api, client: FlaskClient, service: Service) -> None:
    service.projects.put(Project("app", hook=HookSettings(repository=REPOSITORY, pull_requests="approve")))
    service.projects.set_webhook_secret("app", SECRET)
    post(client, sent.github_pull_request(fork=True))
    (waiting,) = api("GET", "/projects/app/approvals?state=waiting")["approvals"]
    where = f"/projects/app/approvals/{waiting['id']}"
    api("POST", f"{where}/approve", {"commit": "0" * 40}, status=409)
    run = api("POST", f"{where}/approve", {"commit": AFTER}, status=201)
    assert run["source"]["trusted"] is False
    api("POST", f"{where}/reject", {"commit": AFTER}, status=409)


def ended(service: Service, state: RunState, trigger: Trigger, *, executed: int = 1, cached: int = 3) -> int:
    number = service.runs.submit(RunRequest(ContextSource("sha256:" + "0" * 64), "app"), trigger).number
    claim = service.claims.take("w", ())
    assert claim is not None
    result = RunResult(executed=executed, cached=cached)
    service.claims.finish(claim, state, "", result, store=lambda connection: None)
    return number


def test_history_has_durations_and_what_the_cache_answered(api: Api, service: Service, project: str) -> None:
    numbers = [ended(service, state, Trigger("push", branch="main")) for state in ("succeeded", "failed")]
    points = api("GET", "/projects/app/history?branch=main")["runs"]
    assert [(point["number"], point["state"], point["cached"]) for point in points] == [
        (numbers[0], "succeeded", 3), (numbers[1], "failed", 3),
    ]  # fmt: skip
    assert api("GET", "/projects/app/history?branch=other")["runs"] == []


def test_badge_says_how_the_newest_push_went_and_only_to_whom_it_may(
    client: FlaskClient, service: Service, project: str
) -> None:
    ended(service, "succeeded", Trigger("push", branch="main"))
    assert "build: unknown" in client.get("/badge/app.svg").get_data(as_text=True)
    service.projects.put(Project("app", hook=HookSettings(repository=REPOSITORY, public_badge=True)))
    badge = client.get("/badge/app.svg")
    assert badge.mimetype == "image/svg+xml"
    assert "build: passing" in badge.get_data(as_text=True)
    assert badge.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert "no-cache" in badge.headers["Cache-Control"]
    tag = badge.headers["ETag"]
    assert client.get("/badge/app.svg", headers={"If-None-Match": tag}).status_code == 304
    ended(service, "failed", Trigger("pull_request", branch="topic", pull_request=7))
    assert client.get("/badge/app.svg", headers={"If-None-Match": tag}).status_code == 304
    ended(service, "failed", Trigger("push", branch="main"))
    assert "build: failing" in client.get("/badge/app.svg", headers={"If-None-Match": tag}).get_data(as_text=True)
    assert "no runs" in client.get("/badge/app.svg?branch=other").get_data(as_text=True)
    hidden = client.get("/badge/other.svg")
    assert (hidden.status_code, hidden.mimetype) == (200, "image/svg+xml")
    assert "build: unknown" in hidden.get_data(as_text=True)
    assert hidden.headers["Cache-Control"].startswith("private")
    assert hidden.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


def test_names_of_images_are_tried(api: Api) -> None:
    query: dict[str, Any] = {"template": "{registry}/{project}:{branch}", "branch": "feature/x"}
    assert api("GET", "/projects/app/image-names", query_string=query) == {"names": ["registry.example/app:feature-x"]}
    api("GET", "/projects/app/image-names", query_string={"template": "{nothing}"}, status=422)
    query = {"template": "{defaults}", "branch": "main", "default": "true"}
    names = [f"registry.example/app:{tag}" for tag in ("1", "main", "latest")]
    assert api("GET", "/projects/app/image-names", query_string=query) == {"names": names}


def test_run_says_who_asked_for_it(api: Api) -> None:
    context = api("POST", "/contexts", {"entries": []})["context"]
    run = api("POST", "/runs", {"source": {"type": "context", "context": context}}, status=201)
    assert run["trigger"]["by"] == "token test"
