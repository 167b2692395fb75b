"""Each form of the pages, once it did what it is for, leads to a page that says so."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask.testing import FlaskClient

from pipelines.accounts.users import Role
from pipelines.changes import in_words
from pipelines.model import Project
from pipelines.service import Service
from tests.web.guard.signing import PASSWORD, csrf, sign_in


def post(client: FlaskClient, path: str, **form: str) -> Any:
    return client.post(path, data={"_csrf": csrf(client), **form})


@pytest.fixture
def admin(client: FlaskClient, service: Service) -> FlaskClient:
    sign_in(client, service)
    role: Role = "member"
    service.users.create("bob", role, PASSWORD)
    service.projects.put(Project("app"))
    return client


def leads_to(client: FlaskClient, answer: Any, place: str, notice: str) -> None:
    """The answer leads to a page of ours with a notice."""
    assert (answer.status_code, answer.headers["Location"]) == (303, place)
    page = client.get(place.partition("#")[0])
    assert page.status_code == 200
    assert notice in re.sub(r"\s+", " ", page.text)


@pytest.mark.parametrize(
    ("form", "fields", "done", "notice"),
    [
        ("role", {"role": "viewer"}, "role", "The role is changed."),
        ("disable", {}, "disabled", "The user is disabled: all sessions have ended, tokens are refused."),
        ("enable", {}, "enabled", "The user is enabled."),
        ("end-sessions", {}, "sessions", "All sessions of the user have ended."),
    ],
)
def test_users(admin: FlaskClient, service: Service, form: str, fields: dict[str, str], done: str, notice: str) -> None:
    leads_to(admin, post(admin, f"/users/bob/{form}", **fields), f"/users?done={done}", notice)
    bob = service.users.get("bob")
    assert bob.role == ("viewer" if form == "role" else "member")
    assert bob.disabled is (form == "disable")
    assert post(admin, f"/users/nobody/{form}", **fields).status_code == 404


def test_link_for_a_new_password_is_shown_once(admin: FlaskClient) -> None:
    answer = post(admin, "/users/bob/link")
    assert answer.status_code == 201
    assert "/welcome?link=" in answer.text
    assert "/welcome?link=" not in admin.get("/users").text


def test_tokens(admin: FlaskClient, service: Service) -> None:
    token = service.tokens.create("robot", ["read"])[0]
    leads_to(admin, post(admin, f"/tokens/{token.id}/revoke"), "/tokens?done=1", "The token is revoked.")
    assert service.tokens.list() == []
    own = service.tokens.create("mine", ["read"], owner="alice")[0]
    leads_to(admin, post(admin, f"/account/tokens/{own.id}/revoke"), "/account?done=token", "revoked")
    assert service.tokens.list() == []


SETTINGS = "/projects/app/settings"


def test_settings_of_a_project(admin: FlaskClient, service: Service) -> None:
    forms: list[tuple[str, dict[str, str], str, str]] = [
        ("status-token", {"token": "t0ken"}, "webhook?done=token#statuses", "The token is stored"),
        ("status-token", {"forget": "1"}, "webhook?done=no-token#statuses", "The token is forgotten"),
        (
            "secrets",
            {"secret": "NPM", "value": "hunter2-1\r\nhunter2-2"},
            "secrets?done=secret",
            "The secret is stored.",
        ),
        (
            "secret-policy",
            {"secret": "NPM", "branches": "main", "events": "push"},
            "secrets?done=policy",
            "for other runs",
        ),
        ("secrets", {"secret": "NPM", "value": "hunter3"}, "secrets?done=secret", "for branches main; events push<"),
        ("secret-policy", {"secret": "NPM"}, "secrets?done=policy", "for protected branches and tags<"),
        ("secrets/NPM/delete", {}, "secrets?done=no-secret", "The secret is deleted."),
        ("members", {"subject": "bob", "role": "build"}, "access?done=member", "The role is given."),
        ("members/remove", {"kind": "user", "subject": "bob"}, "access?done=no-member", "The role is taken away."),
    ]
    for form, fields, done, notice in forms:
        leads_to(admin, post(admin, f"/projects/app/{form}", **fields), f"{SETTINGS}/{done}", notice)
    assert [(entry.action, *map(in_words, entry.changes)) for entry in reversed(service.audit.list(limit=9))] == [
        ("set status token", "status token: nothing → set"),
        ("set status token", "status token: set → nothing"),
        ("put secret", "value: nothing → set"),
        ("set secret policy", "policy.branches: nothing → main", "policy.events: nothing → push"),
        ("put secret", "value: set → changed"),
        ("set secret policy", "policy.branches: main → nothing", "policy.events: push → nothing"),
        ("delete secret", "value: set → nothing"),
        ("set member", "role: nothing → build"),
        ("remove member", "role: build → nothing"),
    ]
    assert "hunter" not in admin.get("/audit").text


@pytest.mark.parametrize(
    ("form", "fields", "status"),
    [
        ("secrets", {"secret": "../x", "value": "v"}, 422),
        ("members", {"subject": "nobody", "role": "build"}, 422),
        ("members", {"subject": "bob", "role": "king"}, 422),
        ("secrets/NONE/delete", {}, 404),
        ("secret-policy", {"secret": "NONE"}, 422),
        ("secret-policy", {"secret": "NPM", "events": "pushes"}, 422),
        ("secrets", {"secret": "NPM", "value": "value", "branches": "["}, 422),
        ("tokens", {"name": "", "role": "build"}, 422),
        ("tokens", {"name": "robot", "role": "king"}, 422),
    ],
)
def test_form_that_cannot_be(admin: FlaskClient, form: str, fields: dict[str, str], status: int) -> None:
    assert post(admin, f"/projects/app/{form}", **fields).status_code == status


def test_token_of_a_project_is_shown_once_and_kept_by_nobody(admin: FlaskClient, service: Service) -> None:
    answer = post(admin, "/projects/app/tokens", name="robot", role="build")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    [token] = service.tokens.list()
    assert token.name == "robot"
    entry = service.audit.list(limit=1)[0]
    assert (entry.action, entry.detail) == ("create token", "robot: build")


def test_project_is_removed_with_its_runs(admin: FlaskClient, service: Service) -> None:
    answer = post(admin, "/projects/app/remove", typed="app")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/projects")
    assert admin.get("/projects/app").status_code == 404
    assert service.projects.list() == []
