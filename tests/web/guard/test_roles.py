"""Who may do what: every route of the application is in the table, and holds what it says for every role."""

from __future__ import annotations

from typing import Final

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from pipelines.accounts.users import ROLES, Role
from pipelines.service import Service
from tests.web.guard.signing import csrf, sign_in
from web.app import APIS, PREFIX, create_app
from web.guard.gate import SAFE, required_role, target_of
from web.guard.rights import Target
from web.pages.installing import PAGES

OPEN: Final = {"openapi", "index", "healthz", "readyz", "metrics", "static"}
"""For everybody, tokens or not: no data of runs is in them."""

BY_THEMSELVES: Final = {"hooks", "follow", "badge", "previews"}
"""Blueprints whose requests come from elsewhere: a forge and a bare repository's hook sign their own, a badge is public
where the project says so, a preview is for whoever has an address that the service signed."""

PUBLIC_PAGES: Final = {"login.show_login", "login.log_in", "login.show_welcome", "login.welcome"}

NEEDS: Final[dict[str, Role]] = {"read": "viewer", "build": "member", "maintain": "admin", "admin": "admin"}
"""Which role of the service allows it in all projects."""

OF_PAGES: Final[dict[str, Role]] = {"maintainer": "admin"}


def lowest(rule: Rule, needed: str) -> Role:
    """The lowest role of the service that opens a page: a guest sees what is about no project."""
    role: Role = OF_PAGES.get(needed, needed)  # type: ignore[arg-type] # all others are roles
    return "viewer" if role == "guest" and rule.arguments and not is_ones_own(rule) else role


def is_ones_own(rule: Rule) -> bool:
    return str(rule.endpoint).startswith(("account.", "api_pages."))  # the API's documentation is everybody's


def page_rules(app: Flask) -> list[Rule]:
    names = {blueprint.name for blueprint in PAGES}
    return [rule for rule in app.url_map.iter_rules() if rule.endpoint.partition(".")[0] in names]


def address(rule: Rule) -> str:
    """The rule's address with something in place of each variable."""
    with_values = rule.build({name: _anything(rule, name) for name in rule.arguments})
    assert with_values is not None
    return with_values[1]


def _anything(rule: Rule, name: str) -> object:
    kind = type(rule._converters[name]).__name__
    return 999_999 if kind == "IntegerConverter" else "nothing"


@pytest.fixture
def app(service: Service) -> Flask:
    return create_app(service)


def test_every_route_is_guarded_by_something_that_is_known(app: Flask) -> None:
    api = {endpoint.name for group in APIS for endpoint in group}
    pages = {rule.endpoint for rule in page_rules(app)}
    others = {rule.endpoint for rule in app.url_map.iter_rules()} - api - pages - OPEN
    assert {endpoint for endpoint in others if endpoint.partition(".")[0] not in BY_THEMSELVES} == set()
    public = {endpoint for endpoint in pages if required_role(app.view_functions[endpoint]) is None}
    assert {endpoint for endpoint in public if not endpoint.startswith("oidc.")} == PUBLIC_PAGES


def test_every_page_holds_its_role(app: Flask, service: Service) -> None:
    """Who is below the role gets a refusal, who is not gets whatever the page says, never an error of ours."""
    clients = {role: app.test_client() for role in ROLES}
    for role, client in clients.items():
        sign_in(client, service, role, role)
    visitor = app.test_client()
    for rule in page_rules(app):
        needed = required_role(app.view_functions[rule.endpoint])
        if needed is None or rule.endpoint in ("login.log_out", "account.end_all_sessions"):
            continue
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            where = f"{method} {rule.rule}"
            response = visitor.open(address(rule), method=method)
            assert (response.status_code, response.headers["Location"].partition("?")[0]) == (303, "/login"), where
            for role, client in clients.items():
                data = None if method in SAFE else {"_csrf": csrf(client)}
                response = client.open(address(rule), method=method, data=data)
                if ROLES.index(role) < ROLES.index(lowest(rule, needed)):
                    blueprint = rule.endpoint.partition(".")[0]
                    values = {name: _anything(rule, name) for name in rule.arguments}
                    hidden = role == "guest" and target_of(blueprint, values) != Target()
                    assert response.status_code == (404 if hidden else 403), f"{where} as {role}"
                else:
                    assert response.status_code not in (401, 403), f"{where} as {role}: {response.text[:300]}"
                    assert response.status_code < 500, f"{where} as {role}: {response.text[:300]}"


def test_viewers_change_nothing_but_their_own_account(app: Flask) -> None:
    actions = {rule.endpoint for rule in page_rules(app) if (rule.methods or set()) - set(SAFE)} - PUBLIC_PAGES
    of_all = {endpoint for endpoint in actions if required_role(app.view_functions[endpoint]) in ("guest", "viewer")}
    assert {endpoint for endpoint in of_all if not endpoint.startswith("account.")} == {"login.log_out"}


@pytest.mark.parametrize("path", ["/users", "/tokens", "/audit", "/projects/-/new"])
def test_administration_is_for_administrators(app: Flask, service: Service, path: str) -> None:
    member, admin = app.test_client(), app.test_client()
    sign_in(member, service, "mia", "member")
    sign_in(admin, service)
    assert (member.get(path).status_code, admin.get(path).status_code) == (403, 200)


def test_every_page_action_needs_the_sessions_token(app: Flask, service: Service) -> None:
    client = app.test_client()
    sign_in(client, service)
    for rule in page_rules(app):
        for method in sorted((rule.methods or set()) - set(SAFE)):
            assert client.open(address(rule), method=method).status_code == 403, f"{method} {rule.rule}"


def test_every_api_call_holds_its_scope_for_sessions(app: Flask, service: Service) -> None:
    clients: dict[Role, FlaskClient] = {role: app.test_client() for role in ROLES}
    for role, client in clients.items():
        sign_in(client, service, role, role)
    for endpoint in (endpoint for group in APIS for endpoint in group):
        if endpoint.scope is None:
            continue
        path = PREFIX + endpoint.path.replace("{digest}", "sha256:0").replace("{run}", "999").replace("{", "").replace(
            "}", ""
        )
        for role, client in clients.items():
            where = f"{endpoint.method} {endpoint.path} as {role}"
            if endpoint.method != "GET":
                assert client.open(path, method=endpoint.method).status_code == 403, f"{where} without a token"
            response = client.open(path, method=endpoint.method, headers={"X-CSRF-Token": csrf(client)})
            if ROLES.index(role) < ROLES.index(NEEDS[endpoint.scope]):
                hidden = role == "guest" and any(
                    f"{{{name}}}" in endpoint.path for name in ("project", "run", "repository")
                )
                assert response.status_code == (404 if hidden else 403), where
            else:
                assert response.status_code not in (401, 403), f"{where}: {response.text[:300]}"


def test_answers_of_pages_carry_their_policy(app: Flask, service: Service) -> None:
    client = app.test_client()
    for path in ("/login", "/welcome?link=x", "/account", "/nothing"):
        policy = client.get(path).headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    sign_in(client, service)
    for path in ("/account", "/users", "/tokens", "/audit"):
        headers = client.get(path).headers
        assert "script-src 'self'" in headers["Content-Security-Policy"]
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
