"""Roles in single projects: what they open in pages, API, registry, lists and the audit trail, and what stays shut.

Two projects, ``web`` and ``other``; somebody has a role in ``web``, and must learn nothing of ``other``.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import Client

from images.store import Store
from pipelines.accounts.roles import ProjectRole, Rights
from pipelines.model import GitSource, HookSettings, Project, RunRequest, Trigger
from pipelines.service import Service
from registry.server.app import application
from registry.server.registry import Registry
from registry.server.settings import ServerSettings
from tests.toolkit.service import eventually
from tests.web.conftest import Api
from tests.web.guard.signing import csrf, sign_in
from web.app import create_app
from web.backing import hub_of
from web.guard.rights import may_repository, readable
from web.loghub import HEARTBEAT
from web.registry_access import ServiceAccounts

SOURCE = GitSource("https://git.example/x")


@pytest.fixture
def both(service: Service) -> Service:
    """Runs 1 of ``web`` and 2 of ``other``."""
    for number, name in enumerate(("web", "other"), 1):
        service.projects.put(Project(name, hook=HookSettings(repository=f"https://git.example/{name}")))
        run = service.runs.submit(RunRequest(SOURCE, name), Trigger(by="somebody", title=f"secret plan of {name}"))
        assert run.number == number
    return service


@pytest.fixture
def app(both: Service) -> Flask:
    return create_app(both)


def guest(app: Flask, service: Service, role: ProjectRole | None = None, name: str = "gus") -> FlaskClient:
    """A browser of a user who may nothing but what ``role`` allows in ``web``."""
    client = app.test_client()
    sign_in(client, service, name, "guest")
    if role is not None:
        service.roles.set("web", "user", name, role)
    return client


def robot(app: Flask, service: Service, role: ProjectRole) -> Api:
    """With a token that has a role in ``web``."""
    return Api(app.test_client(), service.roles.create_token("web", "robot", role)[1])


def post(client: FlaskClient, path: str, **form: str) -> int:
    return client.post(path, data={"_csrf": csrf(client), **form}).status_code


PAGES = {"read": ("", "/deliveries"), "build": (), "maintain": ("/settings", "/names?tag_template=x")}


@pytest.mark.parametrize("role", ["read", "build", "maintain"])
def test_role_opens_its_projects_pages_and_no_others(app: Flask, both: Service, role: ProjectRole) -> None:
    client = guest(app, both, role)
    for needed, paths in PAGES.items():
        allowed = ("read", "build", "maintain").index(role) >= ("read", "build", "maintain").index(needed)
        for path in paths:
            assert client.get(f"/projects/web{path}").status_code == (200 if allowed else 403), path
            assert client.get(f"/projects/other{path}").status_code == 404, path
    of_jobs = ("/jobs/1", "/jobs/1/log/matches?text=x", "/jobs/1/log/steps", "/jobs/1/log/marks")
    parts = ("/head", "/strip", "/tree", "/about", "/lines", "/all")
    for path in ("", *parts, "/log/matches?text=x", "/log/steps", *of_jobs):
        assert client.get(f"/runs/1{path}").status_code == 200, path
        assert client.get(f"/runs/2{path}").status_code == 404, path
        assert client.get(f"/runs/3{path}").status_code == 404, path
    assert post(client, "/runs/1/cancel") == (403 if role == "read" else 303)
    for path in ("cancel", "jobs/1/cancel", "jobs/1/retry", "retry"):
        assert post(client, f"/runs/2/{path}") == 404, path
        assert role != "read" or post(client, f"/runs/1/{path}") == 403, path
    assert both.runs.get(2).state == "queued"
    assert post(client, "/projects/other/remove") == 404
    assert post(client, "/projects/web/remove") == 403


def test_lists_show_only_what_may_be_seen(app: Flask, both: Service) -> None:
    client, nobody = guest(app, both, "read"), guest(app, both, name="nob")
    for path in ("/runs", "/projects", "/workers", "/runs?text=secret", "/runs?project=no-such", "/runs?text=2"):
        text = client.get(path).text
        assert "secret plan of other" not in text, path
        assert "other</" not in text, path
        assert 'value="other"' not in text, path
        empty = nobody.get(path)
        assert empty.status_code == 200, path
        assert "secret plan" not in empty.text, path
    for who in (client, nobody):  # the name that was asked for is repeated, and no more than one that is none
        told, none = (who.get(f"/runs?project={name}").text for name in ("other", "no-such"))
        assert told.replace("other", "no-such") == none
    assert "secret plan of web" in client.get("/runs").text
    assert ">web<" in client.get("/projects").text
    assert client.get("/disk").status_code == 403


def test_workers_are_shown_with_the_runs_that_may_be_seen(app: Flask, both: Service) -> None:
    for _ in range(2):
        assert both.claims.take("w", ()) is not None
    both.workers.beat("w", (), 2)
    text = guest(app, both, "read").get("/workers").text
    assert "secret plan of web" in text
    assert "secret plan of other" not in text
    assert "secret plan" not in guest(app, both, name="nob").get("/workers").text
    admin = app.test_client()
    sign_in(admin, both)
    assert "secret plan of other" in admin.get("/workers").text


@pytest.mark.parametrize("role", ["read", "build", "maintain"])
def test_token_of_a_project_is_for_it_alone(app: Flask, both: Service, role: ProjectRole) -> None:
    api = robot(app, both, role)
    assert [run["number"] for run in api("GET", "/runs")["runs"]] == [1]
    assert [project["name"] for project in api("GET", "/projects")["projects"]] == ["web"]
    for path in (
        "/runs/1",
        "/runs/1/steps",
        "/runs/1/log",
        "/runs/1/log/search?text=x",
        "/projects/web",
        "/projects/web/history",
    ):
        api("GET", path)
        for hidden in (
            path.replace("/1", "/2").replace("/web", "/other"),
            path.replace("/1", "/9").replace("/web", "/no"),
        ):
            api("GET", hidden, status=404)
    api("GET", "/runs/2/events", status=404)
    api("GET", "/runs?project=other", status=404)
    for path in ("/users", "/tokens", "/secrets", "/grants", "/logins"):
        api("GET", path, status=403)
    body = {"source": {"type": "git", "url": "https://git.example/x"}}
    builds = role != "read"
    api("POST", "/runs", {**body, "project": "web"}, status=201 if builds else 403)
    api("POST", "/runs", {**body, "project": "other"}, status=404 if builds else 403)
    api("POST", "/runs", {**body, "project": "new"}, status=404 if builds else 403)
    api("POST", "/runs", body, status=404 if builds else 403)
    api("POST", "/runs/2/cancel", status=404)
    maintains = role == "maintain"
    value = {"value": "long enough"}
    api("PUT", "/projects/web/secrets/npm", value, status=204 if maintains else 403)
    api("PUT", "/projects/web/secrets/npm/policy", {}, status=204 if maintains else 403)
    api("PUT", "/projects/other/secrets/npm", value, status=404)
    api("PUT", "/projects/web/members/user/nobody", {"role": "read"}, status=404 if maintains else 403)
    api("DELETE", "/projects/web", status=403)
    api("POST", "/contexts/blobs/fetch", {"digests": ["sha256:" + "0" * 64]}, status=403)


def test_follower_of_a_log_is_cut_off_once_the_role_is_taken(
    app: Flask, both: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.views.runs._ASK_AGAIN_S", 0.0)
    hub = hub_of(app)
    hub._clock = itertools.count(0, 11).__next__  # a heartbeat at each look
    api = robot(app, both, "read")
    pieces = api.send("GET", "/runs/1/events", buffered=False).iter_encoded()
    assert [next(pieces), next(pieces)] == [b"retry: 1000\n\n", HEARTBEAT]
    both.roles.remove("web", "token", both.roles.members("web")[0].subject)
    assert list(pieces) == []
    eventually(lambda: not hub._tails, why="nobody follows the run any more")


def test_hidden_and_absent_cannot_be_told_apart(app: Flask, both: Service) -> None:
    api, client = robot(app, both, "read"), guest(app, both, "read")
    for there, absent in (("/projects/other", "/projects/nowhr"), ("/runs/2", "/runs/7")):
        one, two = api.send("GET", there), api.send("GET", absent)
        assert one.status_code == two.status_code == 404
        assert one.text.replace("other", "nowhr").replace("run 2", "run 7") == two.text
        assert client.get(there).text.replace("other", "nowhr").replace("run 2", "run 7") == client.get(absent).text


def test_maintainer_gives_roles_in_the_project_and_more_than_that_is_not_to_be_had(app: Flask, both: Service) -> None:
    client = guest(app, both, "maintain")
    sign_in(app.test_client(), both, "ann", "guest")
    assert post(client, "/projects/web/members", subject="ann", role="build") == 303
    assert post(client, "/projects/other/members", subject="gus", role="build") == 404
    assert post(client, "/projects/web/members", subject="nobody", role="build") == 422
    assert post(client, "/projects/web/members", subject="ann", role="admin") == 422
    assert [(member.subject, member.role) for member in both.roles.members("web")] == [
        ("ann", "build"),
        ("gus", "maintain"),
    ]
    assert "ann" in client.get("/projects/web/settings/access").text
    assert "Runs at the same time" not in client.get("/projects/web/settings/builds").text
    assert "administrator of the service can remove it" in client.get("/projects/web/settings/danger").text
    shares = {"concurrency": "9", "weight": "900", "pull_requests": "own"}
    assert post(client, "/projects/web/settings/builds", **shares) == 303
    assert post(client, "/projects/web/settings/retention", keep_runs="5", keep_days="5") == 303
    assert post(client, "/projects/other/settings/retention", keep_runs="5", keep_days="5") == 404
    assert post(client, "/projects/web/remove", typed="web") == 403
    project = both.projects.get("web")
    assert (project.keep_runs, project.concurrency, project.weight) == (5, 0, 1)
    assert post(client, "/projects/web/members/remove", kind="user", subject="ann") == 303
    assert [member.subject for member in both.roles.members("web")] == ["gus"]


def test_roles_of_the_service_mean_what_they_meant(app: Flask, both: Service) -> None:
    """Who existed before there were roles in projects keeps all that they could do."""
    viewer, member, admin = app.test_client(), app.test_client(), app.test_client()
    for client, role in ((viewer, "viewer"), (member, "member"), (admin, "admin")):
        sign_in(client, both, role, role)  # type: ignore[arg-type] # they are roles
        assert "secret plan of other" in client.get("/runs").text
        assert client.get("/projects/other").status_code == 200
    assert post(viewer, "/runs/2/cancel") == 403
    assert (
        viewer.get("/projects/other/settings").status_code == member.get("/projects/other/settings").status_code == 403
    )
    assert post(member, "/runs/2/cancel") == 303
    assert admin.get("/projects/other/settings").status_code == 200
    api = Api(app.test_client(), both.tokens.create("ci", ["build"])[1])
    body = {"source": {"type": "git", "url": "https://git.example/x"}, "project": "other"}
    api("POST", "/runs", body, status=201)
    api("POST", "/runs", {**body, "project": "brand-new"}, status=201)
    api("PUT", "/projects/other/secrets/npm", {"value": "long enough"}, status=403)


def test_token_of_a_user_does_no_more_than_the_user(app: Flask, both: Service) -> None:
    client = guest(app, both, "build")
    assert post(client, "/account/tokens", name="mine", scope="admin", days="30") == 403
    assert post(client, "/account/tokens", name="mine", scope="build", days="30") == 201
    token = both.tokens.create("of gus", ["admin"], owner="gus")[1]
    api = Api(app.test_client(), token)
    api("POST", "/runs/1/cancel")
    api("GET", "/projects/web/members", status=403)
    api("GET", "/runs/2", status=404)
    both.roles.remove("web", "user", "gus")
    api("GET", "/runs/1", status=404)
    assert client.get("/runs/1").status_code == 404


def test_badge_is_for_who_may_read_the_project(app: Flask, both: Service) -> None:
    client = guest(app, both, "read")
    assert client.get("/badge/web.svg").status_code == 200
    assert "build: queued" in client.get("/badge/web.svg").get_data(as_text=True)
    hidden, absent = client.get("/badge/other.svg"), client.get("/badge/nothing.svg")
    assert "build: unknown" in hidden.get_data(as_text=True)
    assert (hidden.status_code, hidden.data, [*hidden.headers]) == (200, absent.data, [*absent.headers])
    assert "build: unknown" in app.test_client().get("/badge/web.svg").get_data(as_text=True)


def test_metrics_name_no_project(app: Flask, both: Service) -> None:
    text = app.test_client().get("/metrics").text
    assert "shiplap_queue_depth 2.0" in text
    assert "web" not in text.replace("shiplap_web", "")
    assert "other" not in text


def test_maintainer_sees_what_was_done_in_the_project(app: Flask, both: Service) -> None:
    admin = Api(app.test_client(), both.tokens.create("admin", ["admin"])[1])
    for project in ("web", "other"):
        admin("PUT", f"/projects/{project}/secrets/npm", {"value": "long enough"}, status=204)
    admin("POST", "/runs/2/cancel")
    admin("PUT", "/secrets/npm", {"value": "long enough"}, status=204)
    maintainer, builder = robot(app, both, "maintain"), robot(app, both, "build")
    entries = maintainer("GET", "/audit")["entries"]
    assert [(entry["action"], entry["project"]) for entry in entries] == [("put project secret", "web")]
    builder("GET", "/audit", status=403)
    assert {entry["project"] for entry in admin("GET", "/audit")["entries"]} == {"web", "other", ""}
    page = guest(app, both, "maintain").get("/audit")
    assert ("project=web" in page.text, "project=other" in page.text) == (True, False)


def test_removed_project_takes_its_roles_with_it(both: Service) -> None:
    both.users.create("gus", "guest")
    both.roles.set("other", "user", "gus", "maintain")
    both.runs.cancel(2)
    both.projects.remove("other")
    both.projects.put(Project("other"))
    assert both.roles.of_user(both.users.get("gus")) == Rights("none", {})


@pytest.fixture
def registry(both: Service) -> Iterator[Client]:
    with Store.open(both.settings.root) as store:
        registry = Registry(store, ServerSettings(access="users"), accounts=ServiceAccounts(both))
        yield Client(application(registry))
        registry.close()


def test_of_all_images_those_of_ones_projects_are_listed(both: Service) -> None:
    names = ["web/app", "other/app", "base", "cache/web", "cache/other", "outputs/other/1"]
    reader = Rights("none", {"web": "read"})
    assert list(readable(both, reader, names)) == [name for name in names if may_repository(both, reader, "read", name)]
    assert "web/app" in readable(both, reader, names)
    assert "other/app" not in readable(both, reader, names)
    assert list(readable(both, Rights("read"), names)) == names


@pytest.mark.parametrize("role", ["read", "build", "maintain"])
def test_token_of_a_project_opens_its_images_alone(registry: Client, both: Service, role: ProjectRole) -> None:
    token = both.roles.create_token("web", "robot", role)[1]
    headers = {"Authorization": "Basic " + base64.b64encode(f"robot:{token}".encode()).decode()}
    for repository in ("web", "web/base", "cache/web"):
        assert registry.get(f"/v2/{repository}/tags/list", headers=headers).status_code == 404
        pushed = registry.post(f"/v2/{repository}/blobs/uploads/", headers=headers).status_code
        assert pushed == (403 if role == "read" or repository == "cache/web" else 202)  # that is for runs
        deleted = registry.delete(f"/v2/{repository}/manifests/1", headers=headers).status_code
        assert deleted == (404 if role == "maintain" else 403)
    for repository in ("other", "other/base", "cache/other", "tool", "default"):
        assert registry.get(f"/v2/{repository}/tags/list", headers=headers).status_code == 403
        assert registry.post(f"/v2/{repository}/blobs/uploads/", headers=headers).status_code == 403
    both.roles.remove("web", "token", str(both.roles.members("web")[0].subject))
    assert registry.get("/v2/web/tags/list", headers=headers).status_code == 403


def test_rights_are_the_larger_of_both_and_no_more_than_the_owners() -> None:
    rights = Rights("read", {"web": "maintain", "old": "none"})
    assert [rights.level(project) for project in ("web", "old", "any")] == ["maintain", "read", "read"]
    assert rights.where("read") is None
    assert rights.where("build") == frozenset({"web"})
    assert (rights.may_somewhere("maintain"), rights.may_everywhere("build")) == (True, False)
    token = Rights("build", {"app": "maintain"}).within(rights)
    assert [token.level(project) for project in ("web", "app", "any")] == ["build", "read", "read"]
    assert Rights("admin").within(Rights()).where("read") == frozenset()
