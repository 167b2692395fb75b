"""Archiving a project on its pages, by the API, and what the registry says: by role, and noted."""

from __future__ import annotations

from flask import Flask

from pipelines.model import GitSource, Project, RunRequest
from pipelines.service import Service
from tests.web.guard.signing import csrf, sign_in
from web.app import create_app
from web.registry_access import ServiceAccounts


def test_whoever_maintains_it_archives_it_and_takes_it_back(service: Service) -> None:
    app: Flask = create_app(service)
    for name in ("shop", "web"):
        service.projects.put(Project(name))
    admin, builder = app.test_client(), app.test_client()
    sign_in(admin, service)
    sign_in(builder, service, "ben", "guest")
    service.roles.set("shop", "user", "ben", "build")
    refused = builder.put("/api/v1/projects/shop/archive", headers={"X-CSRF-Token": csrf(builder)})
    assert (refused.status_code, "right to maintain in project shop" in refused.text) == (403, True)
    assert builder.post("/projects/shop/archive", data={"_csrf": csrf(builder)}).status_code == 403

    run = service.runs.submit(RunRequest(GitSource("https://git.example/a.git"), "shop"))
    service.runs.cancel(run.number, by="alice")
    assert f'action="/runs/{run.number}/retry"' in admin.get(f"/runs/{run.number}").text
    assert "Archive shop" in admin.get("/projects/shop/settings/danger").text
    done = admin.post("/projects/shop/archive", data={"_csrf": csrf(admin)})
    assert (done.status_code, done.headers["Location"]) == (303, "/projects/shop")
    page = admin.get("/projects/shop").text
    assert "It takes no pushes, no images and no runs" in page
    assert "Unarchive shop" in page
    assert "Unarchive shop" not in builder.get("/projects/shop").text
    shown = admin.get(f"/runs/{run.number}").text
    assert ("/retry" in shown, "the project is archived" in shown) == (False, True), "no buttons that would be refused"
    listed, archived = admin.get("/projects").text, admin.get("/projects?show=archived").text
    assert ('href="/projects/shop"' in listed, 'href="/projects/web"' in listed) == (False, True)
    assert ('href="/projects/shop"' in archived, 'href="/projects/web"' in archived) == (True, False)
    assert 'href="/projects/shop"' not in admin.get("/").text
    assert '"/projects/shop"' not in admin.get("/find?q=shop", headers={"Accept": "application/json"}).text
    names = {query: admin.get(f"/api/v1/projects{query}").json for query in ("", "?archived=true")}
    assert {query: [each["name"] for each in found["projects"]] for query, found in names.items()} == {  # type: ignore[index]
        "": ["web"], "?archived=true": ["shop"],
    }  # fmt: skip
    request = {"source": {"type": "git", "url": "https://git.example/a.git"}, "project": "shop"}
    refused = admin.post("/api/v1/runs", json=request, headers={"X-CSRF-Token": csrf(admin)})
    assert (refused.status_code, "shiplap project unarchive shop" in refused.text) == (409, True)

    account = ServiceAccounts(service).log_in(service.tokens.create("all", ["admin"])[1])
    assert account is not None
    (rights,) = account.grants
    assert [rights.covers(f"shop{rest}", action) for rest in ("", "/api") for action in ("pull", "push", "delete")] == [
        True, False, True, True, False, True,
    ]  # fmt: skip
    assert rights.covers("web", "push")
    assert account.advise is not None
    assert "project shop is archived" in account.advise("shop", "push")

    undone = admin.delete("/api/v1/projects/shop/archive", headers={"X-CSRF-Token": csrf(admin)})
    assert (undone.status_code, "archived_at" in undone.text) == (200, False)
    assert 'href="/projects/shop"' in admin.get("/projects").text
    assert [(entry.actor, entry.action, entry.subject) for entry in service.audit.list()][:2] == [
        ("alice", "unarchive project", "project=shop"), ("alice", "archive project", "project=shop"),
    ]  # fmt: skip
