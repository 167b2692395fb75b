"""Pages of projects without a browser: what their forms do, and for whom."""

from __future__ import annotations

import re
from html import unescape

import msgspec
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from pipelines.changes import in_words
from pipelines.model import ContextSource, GitSource, HookSettings, Project, RunRequest
from pipelines.service import Service
from tests.toolkit.forgepayloads import AFTER, SECRET, github_pull_request
from tests.web.guard.signing import csrf, sign_in

REPOSITORY = "https://github.com/octo-org/hello.git"


@pytest.fixture
def admin(client: FlaskClient, service: Service) -> FlaskClient:
    sign_in(client, service, "ada", "admin")
    service.projects.put(Project("app", hook=HookSettings(repository=REPOSITORY, pull_requests="approve")))
    service.projects.set_webhook_secret("app", SECRET)
    return client


def post(client: FlaskClient, path: str, **form: str) -> TestResponse:
    return client.post(path, data={"_csrf": csrf(client), **form})


def test_connecting_makes_project_and_webhook(admin: FlaskClient, service: Service) -> None:
    answer = post(admin, "/projects/-/new", name="web", repository=REPOSITORY, forge="", secret="")
    assert answer.headers["Cache-Control"] == "no-store"
    shown = re.findall(r"<code>([0-9a-f]{48})</code>", answer.text)
    assert service.projects.webhook_secret("web") == shown[0].encode()
    assert service.projects.get("web").hook.forge == "github"
    assert service.projects.get("web").hook.cancel_superseded
    assert shown[0] not in admin.get("/projects/web/settings/webhook").text


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"name": "web", "repository": "ftp://x/y"}, "are not fetched"),
        ({"name": "web", "repository": ""}, "needs the repository"),
        ({"name": "Web", "repository": REPOSITORY}, "invalid project name"),
        ({"name": "web", "repository": REPOSITORY, "secret": "short"}, "16 to 500"),
        ({"name": "web", "repository": REPOSITORY, "forge": "svn"}, "it can be bitbucket, forgejo"),
    ],
)
def test_mistakes_are_told_in_the_form(admin: FlaskClient, form: dict[str, str], told: str) -> None:
    answer = post(admin, "/projects/-/new", **form)
    assert answer.status_code == 422
    assert told in answer.text


@pytest.mark.parametrize("text", ["many", "-1", "1.5", "²", "٣", "12345678"])
def test_what_is_no_number_is_told_in_the_form(admin: FlaskClient, service: Service, text: str) -> None:
    before = service.projects.get("app")
    answer = post(admin, "/projects/app/settings/builds", branches="main", concurrency=text)
    assert answer.status_code == 422
    assert f"concurrency is '{text}'" in unescape(answer.text)
    assert service.projects.get("app") == before


def test_a_form_changes_its_section_alone_and_the_trail_says_from_what_to_what(
    admin: FlaskClient, service: Service
) -> None:
    odd = HookSettings(repository=REPOSITORY, forge="github", build_args={"A": " a\nb "}, cancel_superseded=False)
    service.projects.put(Project("app", hook=odd))  # an API sets what no form can say
    before = service.projects.get("app")
    form = {"keep_runs": "50", "keep_days": "30", "repository": "https://evil.example/x", "tag_template": "x"}
    assert post(admin, "/projects/app/settings/retention", **form).status_code == 303
    hook = msgspec.structs.replace(before.hook, public_badge=True)
    assert post(admin, "/projects/app/settings/general", public_badge="1", build_args="").status_code == 303
    assert service.projects.get("app") == msgspec.structs.replace(before, keep_runs=50, hook=hook)
    badge, kept = service.audit.list(action="change settings")
    assert (kept.actor, kept.project, kept.detail) == ("ada", "app", "Retention")
    assert [in_words(each) for each in kept.changes] == ["keep_runs: 200 → 50"]
    assert [in_words(each) for each in badge.changes] == ["hook.public_badge: no → yes"]
    page = admin.get("/audit?action=change+settings").text
    assert "<del><bdi>200</bdi></del>" in page
    assert "<ins><bdi>50</bdi></ins>" in page
    for path, status in (("nothing", 404), ("danger", 422)):
        assert post(admin, f"/projects/app/settings/{path}").status_code == status
    assert admin.get("/projects/app/settings/nothing").status_code == 404


def test_secrets_and_tokens_are_stored_and_never_shown(admin: FlaskClient, service: Service) -> None:
    assert post(admin, "/projects/app/secrets", secret="npm", value="s3cret\r\nline").status_code == 303
    assert service.secrets.reveal(["npm"], project="app") == {"npm": b"s3cret\nline"}
    assert post(admin, "/projects/app/status-token", token="ghp_token").status_code == 303
    assert service.projects.status_token("app") == "ghp_token"
    page = admin.get("/projects/app/settings/secrets").text + admin.get("/projects/app/settings/webhook").text
    assert "npm" in page
    assert "s3cret" not in page
    assert "ghp_token" not in page
    assert post(admin, "/projects/app/status-token", forget="1").status_code == 303
    assert not service.projects.get("app").has_status_token
    assert post(admin, "/projects/app/secrets/npm/delete").status_code == 303
    assert service.secrets.list(project="app") == []
    assert "at most 100" in post(admin, "/projects/app/secrets", secret="a b", value="long enough").text


def test_a_secret_that_the_forge_has_is_taken(admin: FlaskClient, service: Service) -> None:
    assert "only now" in post(admin, "/projects/app/webhook", secret="the forge's own secret").text
    assert service.projects.webhook_secret("app") == b"the forge's own secret"
    assert post(admin, "/projects/app/webhook", secret="short").status_code == 422


def test_a_project_is_removed_once_nothing_runs(admin: FlaskClient, service: Service) -> None:
    run = service.runs.submit(RunRequest(ContextSource("sha256:" + "0" * 64), "app"))
    for typed in ("", "App", "app2"):
        assert "nothing was removed: type app" in post(admin, "/projects/app/remove", typed=typed).text
    assert "has not ended" in post(admin, "/projects/app/remove", typed="app").text
    service.runs.cancel(run.number)
    assert post(admin, "/projects/app/remove", typed="app").headers["Location"] == "/projects"
    assert admin.get("/projects/app").status_code == 404


def test_members_decide_about_forks_and_viewers_do_not(admin: FlaskClient, service: Service) -> None:
    headers, body = github_pull_request(fork=True).request()
    assert admin.post("/hooks/app", headers=headers, data=body).status_code == 200
    (waiting,) = service.approvals.list("app")
    where = f"/projects/app/approvals/{waiting.id}"
    sign_in(admin, service, "linus", "viewer")
    assert post(admin, f"{where}/approve", commit=AFTER).status_code == 403
    sign_in(admin, service, "grace", "member")
    assert post(admin, f"{where}/approve", commit="0" * 40).status_code == 409
    assert post(admin, f"{where}/reject", commit=AFTER).status_code == 303
    assert service.approvals.list("app")[0].decided_by == "grace"
    for path in ("/projects/app/settings", "/projects/-/new", "/projects/app/names"):
        assert admin.get(path).status_code == 403


def test_what_was_done_is_in_the_audit_trail(admin: FlaskClient, service: Service) -> None:
    post(admin, "/projects/app/status-token", token="ghp_token")
    entry = service.audit.list(limit=1)[0]
    assert entry.actor == "ada"
    assert "app" in entry.subject
    assert "ghp_token" not in str(entry)


def test_a_branch_is_built_without_waiting_for_a_push(admin: FlaskClient, service: Service) -> None:
    answer = post(admin, "/projects/app/build", branch=" release/2 ")
    run = service.runs.get(int(answer.location.rpartition("/")[2]))
    assert isinstance(run.source, GitSource)
    assert (run.source.url, run.source.ref, run.source.branch) == (REPOSITORY, "refs/heads/release/2", "release/2")
    assert (run.trigger.kind, run.trigger.by, run.trigger.branch) == ("manual", "ada", "release/2")
    assert f"run={run.number}" in service.audit.list()[0].subject
    default = service.runs.get(int(post(admin, "/projects/app/build").location.rpartition("/")[2]))
    assert isinstance(default.source, GitSource)
    assert default.source.ref == ""


def test_nothing_is_built_of_a_project_without_repository(admin: FlaskClient, service: Service) -> None:
    service.projects.put(Project("bare"))
    assert "/projects/bare/build" not in admin.get("/projects/bare").text
    assert post(admin, "/projects/bare/build").status_code == 422
    assert post(admin, "/projects/app/build", branch="a..b").status_code == 422


def test_a_token_that_no_header_can_carry_is_told_in_the_form(admin: FlaskClient, service: Service) -> None:
    answer = post(admin, "/projects/app/status-token", token="gh\u00e9")
    assert answer.status_code == 422
    assert "printable ASCII" in answer.text
    assert not service.projects.get("app").has_status_token
