"""API tokens as credentials for the registry."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pytest
from werkzeug.test import Client

from images.store import Store
from pipelines.service import Service
from registry.server.app import application
from registry.server.registry import Registry
from registry.server.settings import ServerSettings
from web.app import with_registry
from web.registry_access import TokenAccounts

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def nothing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("418 I'm a teapot", [])
    return [b""]


@pytest.fixture
def registry(service: Service) -> Iterator[Client]:
    with Store.open(service.settings.root) as store:
        registry = Registry(store, ServerSettings(access="users"), accounts=TokenAccounts(service.tokens))
        yield Client(with_registry(nothing, application(registry)))
        registry.close()


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()}


def push_status(registry: Client, headers: dict[str, str]) -> int:
    return registry.post("/v2/app/blobs/uploads/", headers=headers).status_code


def test_nobody_gets_in_without_credentials(registry: Client) -> None:
    assert registry.get("/v2/").status_code == 401
    for headers in (
        basic("shp_wrong"),
        basic("wrong"),
        {"Authorization": "Basic ?"},
        {"Authorization": "Bearer shp_x"},
    ):
        assert registry.get("/v2/", headers=headers).status_code == 401


def test_build_token_may_push(registry: Client, service: Service) -> None:
    token = service.tokens.create("ci", ["build"])[1]
    assert registry.get("/v2/", headers=basic(token)).status_code == 200
    assert push_status(registry, basic(token)) == 202
    assert push_status(registry, {"Authorization": f"Bearer {token}"}) == 202


def test_read_token_may_only_pull(registry: Client, service: Service) -> None:
    token = service.tokens.create("reader", ["read"])[1]
    assert registry.get("/v2/app/tags/list", headers=basic(token)).status_code == 404
    assert push_status(registry, basic(token)) == 403


def test_token_of_the_token_service_works_as_docker_uses_it(registry: Client, service: Service) -> None:
    token = service.tokens.create("ci", ["build"])[1]
    answer = registry.get("/v2/token?scope=repository:app:pull,push&service=localhost", headers=basic(token))
    assert answer.json is not None
    assert push_status(registry, {"Authorization": f"Bearer {answer.json['token']}"}) == 202


def delete_status(registry: Client, headers: dict[str, str]) -> int:
    return registry.delete("/v2/app/manifests/latest", headers=headers).status_code


def test_only_admin_token_may_delete(registry: Client, service: Service) -> None:
    for scope, status in (("read", 403), ("build", 403), ("admin", 404)):
        assert delete_status(registry, basic(service.tokens.create(scope, [scope])[1])) == status
    admin = basic(service.tokens.create("admin", ["admin"])[1])
    answer = registry.get("/v2/token?scope=repository:app:pull,delete&service=localhost", headers=admin)
    assert answer.json is not None
    assert delete_status(registry, {"Authorization": f"Bearer {answer.json['token']}"}) == 404


def test_users_token_has_no_more_rights_than_the_users_role(registry: Client, service: Service) -> None:
    service.users.create("boss", "admin")
    service.users.create("ann", "member", "a long password")
    headers = basic(service.tokens.create("ann's", ["admin"], owner="ann")[1])
    assert delete_status(registry, headers) == 403
    assert push_status(registry, headers) == 202
    service.users.set_role("ann", "viewer")
    assert push_status(registry, headers) == 403
    service.users.set_disabled("ann", True)
    assert push_status(registry, headers) == 401


def test_signed_token_ends_with_the_api_token_that_it_was_got_with(registry: Client, service: Service) -> None:
    token, text = service.tokens.create("ci", ["build"])
    answer = registry.get("/v2/token?scope=repository:app:pull,push&service=localhost", headers=basic(text))
    assert answer.json is not None
    signed = {"Authorization": f"Bearer {answer.json['token']}"}
    assert push_status(registry, signed) == 202
    service.tokens.revoke(token.id)
    assert push_status(registry, signed) == 401
    assert push_status(registry, basic(text)) == 401


def test_second_web_process_on_the_database_shuts_nobody_out(registry: Client, service: Service) -> None:
    token = service.tokens.create("ci", ["build"])[1]
    with Store.open(service.settings.root) as store:
        second = Registry(store, ServerSettings(access="users"), accounts=TokenAccounts(service.tokens))
        assert push_status(Client(application(second)), basic(token)) == 202
        assert push_status(registry, basic(token)) == 202
        second.close()


def test_other_paths_are_not_the_registrys(registry: Client) -> None:
    assert registry.get("/v2x").status_code == 418
    assert registry.get("/").status_code == 418
