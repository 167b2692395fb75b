"""API tokens as credentials for the registry."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pytest
from werkzeug.test import Client, TestResponse

from images.store import Store
from pipelines.model import Claim, GitSource, Project, RunRequest, RunResult, RunState
from pipelines.owning.grants import Grant
from pipelines.service import Service
from registry.server.app import application
from registry.server.registry import Registry
from registry.server.settings import ServerSettings
from web.app import with_registry
from web.registry_access import ServiceAccounts

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def nothing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("418 I'm a teapot", [])
    return [b""]


@pytest.fixture
def registry(service: Service) -> Iterator[Client]:
    with Store.open(service.settings.root) as store:
        registry = Registry(store, ServerSettings(access="users"), accounts=ServiceAccounts(service))
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


def test_build_caches_are_written_by_runs_and_administrators_alone(registry: Client, service: Service) -> None:
    """Whoever may write the protected lane's decides what the default branch ships."""
    service.projects.put(Project("web"))
    tokens = {scope: basic(service.tokens.create(scope, [scope])[1]) for scope in ("build", "admin")}
    assert {scope: begin(registry, "cache/web", headers) for scope, headers in tokens.items()} == {
        "build": 403, "admin": 202,
    }  # fmt: skip
    assert begin(registry, "cache", tokens["build"]) == 202  # an image of this name
    assert begin(registry, "cache/web", basic(claimed(service).token)) == 202


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
        second = Registry(store, ServerSettings(access="users"), accounts=ServiceAccounts(service))
        assert push_status(Client(application(second)), basic(token)) == 202
        assert push_status(registry, basic(token)) == 202
        second.close()


def test_other_paths_are_not_the_registrys(registry: Client) -> None:
    assert registry.get("/v2x").status_code == 418
    assert registry.get("/").status_code == 418


def claimed(service: Service, project: str = "web", *, trusted: bool = True) -> Claim:
    service.runs.submit(RunRequest(GitSource("https://git.example/x", trusted=trusted), project))
    claim = service.claims.take("worker-1", ())
    assert claim is not None
    return claim


def begin(registry: Client, repository: str, headers: dict[str, str], **query: str) -> int:
    return registry.post(f"/v2/{repository}/blobs/uploads/", headers=headers, query_string=query).status_code


def put_blob(registry: Client, repository: str, data: bytes, headers: dict[str, str]) -> str:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    path = f"/v2/{repository}/blobs/uploads/"
    answer = registry.post(path, headers=headers, query_string={"digest": digest}, data=data)
    assert answer.status_code == 201
    return digest


def test_run_pulls_and_pushes_what_is_its_projects(registry: Client, service: Service) -> None:
    service.projects.put(Project("other"))
    headers = basic(claimed(service).token)
    for repository in ("web", "web/base", "cache/web"):
        assert begin(registry, repository, headers) == 202
        assert registry.get(f"/v2/{repository}/tags/list", headers=headers).status_code == 404
    for repository in ("other", "other/base", "cache/other", "tool", "cache"):
        assert begin(registry, repository, headers) == 403
        assert registry.get(f"/v2/{repository}/tags/list", headers=headers).status_code == 403
        assert registry.delete(f"/v2/{repository}/manifests/latest", headers=headers).status_code == 403
    assert registry.delete("/v2/web/manifests/latest", headers=headers).status_code == 403


def test_run_is_given_no_blob_of_another_project(registry: Client, service: Service) -> None:
    """Neither by its digest nor by a mount; its own project's are mounted."""
    service.projects.put(Project("other"))
    admin = basic(service.tokens.create("admin", ["admin"])[1])
    secret, own = put_blob(registry, "other", b"secret", admin), put_blob(registry, "web/base", b"own", admin)
    headers = basic(claimed(service).token)
    assert begin(registry, "web", headers, mount=secret, **{"from": "other"}) == 202
    assert begin(registry, "web", headers, mount=secret) == 202
    assert registry.get(f"/v2/web/blobs/{secret}", headers=headers).status_code == 404
    assert begin(registry, "web", headers, mount=own, **{"from": "web/base"}) == 201


@pytest.mark.parametrize("project", ["default", "web"])
def test_nobody_mounts_what_other_projects_builds_left_in_the_store(
    registry: Client, service: Service, project: str
) -> None:
    """Also not of project ``default``, which has what belongs to nobody else. An administrator does."""
    for name in ("web", "default"):
        service.projects.put(Project(name))
    with Store.open(service.settings.root) as store:
        secret = str(store.blobs.put(b"a layer of some other project"))
    hers = service.roles.create_token(project, "hers", "maintain")[1]
    for headers in (basic(claimed(service, project).token), basic(hers)):
        repository = f"{project}/app"
        assert begin(registry, repository, headers, mount=secret) == 202
        assert registry.get(f"/v2/{repository}/blobs/{secret}", headers=headers).status_code == 404
    admin = basic(service.tokens.create("admin", ["admin"])[1])
    assert begin(registry, f"{project}/app", admin, mount=secret) == 201


def test_run_pulls_what_its_project_was_given(registry: Client, service: Service) -> None:
    service.projects.put(Project("web"))
    service.grants.give(Grant("web", "image", "base/*"))
    headers = basic(claimed(service).token)
    assert registry.get("/v2/base/debian/tags/list", headers=headers).status_code == 404
    assert begin(registry, "base/debian", headers) == 403
    service.grants.take(Grant("web", "image", "base/*"))
    assert registry.get("/v2/base/debian/tags/list", headers=headers).status_code == 403


def message(refused: TestResponse) -> str:
    text = json.loads(refused.data)["errors"][0]["message"]
    assert isinstance(text, str)
    return text


def test_run_that_lacks_a_right_is_told_how_an_administrator_gives_it(registry: Client, service: Service) -> None:
    service.projects.put(Project("base"))
    headers = basic(claimed(service).token)
    refused = registry.get("/v2/base/debian/tags/list", headers=headers)
    assert refused.status_code == 403
    assert message(refused).endswith(
        "may not pull here; base/debian is not project web's; an administrator can give it: "
        "shiplap grant add web image base/debian"
    )
    refused = registry.post("/v2/base/debian/blobs/uploads/", headers=headers)
    assert message(refused).endswith("image base/debian --push")
    service.grants.give(Grant("web", "image", "base/debian"))
    assert registry.get("/v2/base/debian/tags/list", headers=headers).status_code == 404


def test_signed_token_of_a_run_ends_with_the_attempt(registry: Client, service: Service) -> None:
    claim = claimed(service)
    answer = registry.get("/v2/token?scope=repository:web:pull,push", headers=basic(claim.token))
    assert answer.json is not None
    signed = {"Authorization": f"Bearer {answer.json['token']}"}
    assert begin(registry, "web", signed) == 202
    service.claims.release(claim.number, claim.attempt, "the worker is gone")
    assert begin(registry, "web", signed) == 401
    assert begin(registry, "web", basic(claim.token)) == 401
    following = service.claims.take("worker-2", ())
    assert following is not None
    assert begin(registry, "web", signed) == 401
    assert begin(registry, "web", basic(following.token)) == 202


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "error"])
def test_token_of_a_run_that_succeeded_writes_the_build_cache_alone(
    registry: Client, service: Service, state: RunState
) -> None:
    claim = claimed(service)
    put_blob(registry, "web/app", b"a layer", basic(claim.token))
    scopes = "&".join(f"scope=repository:{name}:pull,push" for name in ("web/app", "cache/web"))
    answer = registry.get(f"/v2/token?{scopes}", headers=basic(claim.token))
    assert answer.json is not None
    service.claims.finish(claim, state, "", RunResult(), store=lambda connection: None)
    digest = f"sha256:{hashlib.sha256(b'a layer').hexdigest()}"
    for headers in (basic(claim.token), {"Authorization": f"Bearer {answer.json['token']}"}):
        if state != "succeeded":
            assert begin(registry, "cache/web", headers) == 401
            continue
        assert begin(registry, "cache/web", headers) == 202
        assert begin(registry, "cache/web", headers, mount=digest) == 201
        assert registry.head(f"/v2/web/app/blobs/{digest}", headers=headers).status_code == 200
        for repository in ("web", "web/app", "other", "cache/other", "tool"):
            assert begin(registry, repository, headers) in (401, 403), repository
        assert registry.delete("/v2/cache/web/manifests/1", headers=headers).status_code in (401, 403)
    service.run_tokens.forget(claim.number, claim.attempt)
    assert begin(registry, "cache/web", basic(claim.token)) == 401


def test_catalogue_shows_a_run_its_projects_repositories(registry: Client, service: Service) -> None:
    service.projects.put(Project("other"))
    admin = basic(service.tokens.create("admin", ["admin"])[1])
    for repository in ("web/app", "other/app", "tool"):
        config = put_blob(registry, repository, b"{}", admin)
        manifest = {
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [],
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
        }  # fmt: skip
        path, media = f"/v2/{repository}/manifests/1", str(manifest["mediaType"])
        assert registry.put(path, headers=admin, json=manifest, content_type=media).status_code == 201
    shown = registry.get("/v2/_catalog", headers=basic(claimed(service).token)).json
    assert shown == {"repositories": ["web/app"]}


def test_run_of_a_stranger_is_nobody_to_the_registry(registry: Client, service: Service) -> None:
    claim = claimed(service, trusted=False)
    assert claim.token == ""
    assert registry.get("/v2/web/tags/list", headers=basic(claim.token)).status_code == 401
