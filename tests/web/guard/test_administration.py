"""Users, tokens and the audit trail, by pages and by the API."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from flask.testing import FlaskClient

from pipelines.accounts.users import Role
from pipelines.errors import ConflictError, ScopeError, TokenError
from pipelines.service import Service
from tests.web.conftest import Api
from tests.web.guard.signing import PASSWORD, csrf, sign_in
from web.guard.cookies import SESSION


def post(client: FlaskClient, path: str, **form: str) -> Any:
    return client.post(path, data={"_csrf": csrf(client), **form})


def secret_in(text: str) -> str:
    match = re.search(r'data-copy="([^"]+)"', text)
    assert match is not None
    return html.unescape(match[1])


def test_administrator_adds_a_user_who_chooses_a_password(client: FlaskClient, service: Service) -> None:
    sign_in(client, service)
    page = post(client, "/users", name="Bob", role="viewer")
    assert page.status_code == 201
    link = secret_in(page.text)
    assert link.startswith("http://localhost/welcome?link=")
    visitor = client.application.test_client()
    assert "Choose a password, bob" in visitor.get(link.removeprefix("http://localhost")).text
    assert post(client, "/users", name="bob", role="viewer").status_code == 422
    assert post(client, "/users", name="../x", role="viewer").status_code == 422
    actions = [(entry.actor, entry.action, entry.subject) for entry in service.audit.list(limit=1)]
    assert actions == [("alice", "create user", "bob")]


def test_role_decides_at_once(client: FlaskClient, service: Service) -> None:
    sign_in(client, service)
    other = client.application.test_client()
    sign_in(other, service, "bob", "viewer")
    assert other.get("/users").status_code == 403
    assert post(client, "/users/bob/role", role="admin").status_code == 303
    assert other.get("/users").status_code == 200
    assert post(client, "/users/bob/role", role="king").status_code == 422


def test_last_administrator_stays_one(client: FlaskClient, service: Service) -> None:
    sign_in(client, service)
    assert post(client, "/users/alice/role", role="viewer").status_code == 409
    assert post(client, "/users/alice/disable").status_code == 409
    assert service.users.get("alice").is_at_least("admin")
    with pytest.raises(ConflictError):
        service.users.set_disabled("alice", True)


def test_disabling_ends_sessions_and_enabling_does_not_bring_them_back(client: FlaskClient, service: Service) -> None:
    sign_in(client, service)
    other = client.application.test_client()
    sign_in(other, service, "bob", "member")
    post(client, "/users/bob/disable")
    assert other.get("/runs").status_code == 303
    post(client, "/users/bob/enable")
    assert other.get("/runs").status_code == 303


def test_own_password_is_changed_by_the_present_one_and_ends_other_sessions(
    client: FlaskClient, service: Service
) -> None:
    service.users.create("bob", "viewer", PASSWORD)
    other = client.application.test_client()
    for browser in (client, other):
        sign_in(browser, service, "bob")
    new = {"new": "a new password", "again": "a new password"}
    assert post(client, "/account/password", password="wrong", **new).status_code == 422
    assert post(client, "/account/password", password=PASSWORD, new="a new password", again="x").status_code == 422
    assert post(client, "/account/password", password=PASSWORD, **new).status_code == 303
    assert client.get("/account").status_code == 200
    assert other.get("/account").status_code == 303


def test_sessions_are_listed_and_ended_one_by_one_and_all(client: FlaskClient, service: Service) -> None:
    sign_in(client, service, "bob", "viewer")
    others = [client.application.test_client() for _ in range(2)]
    for other in others:
        sign_in(other, service, "bob")
    sessions = {session.id for session in service.sessions.list("bob")}
    cookie = others[0].get_cookie(SESSION)
    assert cookie is not None
    found = service.sessions.find(cookie.value)
    assert found is not None
    assert post(client, f"/account/sessions/{found[0].id}/end").status_code == 303
    assert others[0].get("/account").status_code == 303
    assert {session.id for session in service.sessions.list("bob")} == sessions - {found[0].id}
    assert post(client, "/account/sessions/end-all").headers["Location"] == "/login"
    assert service.sessions.list("bob") == []


def test_sessions_and_tokens_of_others_are_out_of_reach(client: FlaskClient, service: Service) -> None:
    mallory = client.application.test_client()
    sign_in(client, service, "bob", "member")
    sign_in(mallory, service, "mallory", "member")
    session = service.sessions.list("bob")[0]
    token = service.tokens.create("bob's", ["read"], owner="bob")[0]
    assert post(mallory, f"/account/sessions/{session.id}/end").status_code == 404
    assert post(mallory, f"/account/tokens/{token.id}/revoke").status_code == 404
    assert len(service.tokens.list(owner="bob")) == 1


def test_own_token_may_do_what_its_owner_may(client: FlaskClient, service: Service) -> None:
    sign_in(client, service, "bob", "member")
    page = post(client, "/account/tokens", name="laptop", scope="build", days="90")
    assert page.status_code == 201
    secret = secret_in(page.text)
    assert Api(client, secret)("GET", "/whoami")["user"] == "bob"
    assert post(client, "/account/tokens", name="x", scope="admin", days="90").status_code == 403
    assert post(client, "/account/tokens", name="x", scope="god", days="90").status_code == 422
    service.users.create("boss", "admin")
    service.users.set_role("bob", "viewer")
    with pytest.raises(ScopeError):
        service.tokens.verify(secret, "build")
    assert service.tokens.verify(secret, "read").owner == "bob"
    service.users.set_disabled("bob", True)
    with pytest.raises(TokenError):
        service.tokens.verify(secret, "read")


def test_robots_token_belongs_to_nobody(client: FlaskClient, service: Service) -> None:
    sign_in(client, service)
    secret = secret_in(post(client, "/tokens", name="<script>ci", scope="build", days="").text)
    assert Api(client, secret)("GET", "/whoami") == {
        "name": "<script>ci", "scopes": ["build"], "user": None, "expires_at": None,
    }  # fmt: skip
    page = client.get("/tokens").text
    assert "&lt;script&gt;ci" in page
    assert "<script>ci" not in page
    token = service.tokens.list()[0]
    assert post(client, f"/tokens/{token.id}/revoke").status_code == 303
    assert service.tokens.list() == []


def test_actions_are_noted_with_who_and_from_where(client: FlaskClient, service: Service, api: Api) -> None:
    sign_in(client, service)
    post(client, "/users/alice/end-sessions")
    client.delete_cookie(SESSION)
    api("PUT", "/secrets/KEY", {"value": "geheim, sehr"}, status=204)
    api("POST", "/users", {"name": "x"}, status=201)
    api("POST", "/users", {"name": "x"}, status=409)
    noted = [(entry.actor, entry.action, entry.subject, entry.address) for entry in service.audit.list()]
    assert noted == [
        ("token test", "create user", "name=x", "127.0.0.1"),
        ("token test", "put secret", "secret=KEY", "127.0.0.1"),
        ("alice", "end sessions users", "name=alice", "127.0.0.1"),
    ]


def test_audit_trail_is_filtered_and_paged(client: FlaskClient, service: Service, api: Api) -> None:
    sign_in(client, service)
    for number in range(105):
        service.audit.add("bob" if number % 2 else "eve", "cancel run", f"run={number}", "<b>why</b>")
    service.audit._clock = lambda: 0.0
    service.audit.add("old", "cancel run", "100% wrong")
    page = client.get("/audit").text
    assert "run=104" in page
    assert "run=3<" not in page
    assert "<b>why" not in page
    older = re.search(r'href="(/audit\?before=[^"]+)"', page)
    assert older is not None
    assert "run=3<" in client.get(html.unescape(older[1])).text
    assert "run=104" not in client.get("/audit?actor=bob").text
    assert "run=103" in client.get("/audit?actor=bob&action=cancel+run&subject=103").text
    assert "100% wrong" in client.get("/audit?until=1970-01-01&subject=%25").text
    assert "100% wrong" not in client.get("/audit?since=1970-01-02&subject=%25").text
    assert client.get("/audit?since=yesterday").status_code == 422
    assert client.get("/audit?before=x").status_code == 422
    assert [entry["subject"] for entry in api("GET", "/audit?actor=eve&limit=2")["entries"]] == ["run=104", "run=102"]


def test_audit_trail_is_kept_for_a_year(service: Service) -> None:
    service.audit._clock = lambda: 1e9
    service.audit.add("a", "b", "c")
    service.audit._clock = lambda: 1e9 + 366 * 86400
    service.audit.sweep()
    assert len(service.audit.list()) == 1
    service.audit._clock = lambda: 1e9 + 401 * 86400
    service.audit.sweep()
    assert service.audit.list() == []


def test_users_are_managed_by_the_api(client: FlaskClient, service: Service, api: Api) -> None:
    made = api("POST", "/users", {"name": "bob", "role": "viewer"}, status=201)
    assert made["link"].startswith("http://localhost/welcome?link=")
    assert api("POST", "/users", {"name": "eve", "password": PASSWORD}, status=201)["link"] is None
    assert service.users.sign_in("eve", PASSWORD).role == "member"
    assert api("PATCH", "/users/bob", {"role": "admin", "password": "another one"})["role"] == "admin"
    assert service.users.sign_in("bob", "another one").name == "bob"
    sign_in(client, service, "eve")
    api("POST", "/users/eve/sign-out", status=204)
    assert service.sessions.list("eve") == []
    assert api("PATCH", "/users/eve", {"disabled": True})["disabled"]
    assert [user["name"] for user in api("GET", "/users")["users"]] == ["bob", "eve"]
    assert "welcome" in api("POST", "/users/bob/link", status=201)["link"]
    api("PATCH", "/users/nobody", {}, status=404)
    api("POST", "/users/nobody/link", status=404)
    api("POST", "/users", {"name": "x", "password": "short"}, status=422)


def test_links_name_the_public_address(service: Service, api: Api) -> None:
    service.settings = service.settings._replace(public_url="https://ci.example")
    link = api("POST", "/users", {"name": "bob"}, status=201)["link"]
    assert link.startswith("https://ci.example/welcome?")


@pytest.mark.parametrize(("scope", "role"), [("read", "viewer"), ("build", "member"), ("admin", "admin")])
def test_scopes_of_tokens_and_roles_of_users_are_the_same_three_steps(service: Service, scope: str, role: Role) -> None:
    service.users.create("bob", role)
    secret = service.tokens.create("all", ["admin"], owner="bob")[1]
    assert service.tokens.verify(secret, scope).owner == "bob"
