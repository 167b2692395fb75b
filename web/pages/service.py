"""The page of the service: version, health, disk with a forecast, backups, settings in force. For administrators."""

from __future__ import annotations

import time
from typing import Final

from flask import Blueprint, Response, g, redirect, request

from pipelines.changes import compared
from pipelines.errors import BackupError, ConflictError
from registry.server.survey import list_repositories
from web import serviceview
from web.backing import administration, registry, service
from web.guard import note, require
from web.pages.frame import fresh, page, told
from web.pages.overview import health
from web.pages.strip import sparkline

blueprint: Final = Blueprint("service_pages", __name__, url_prefix="/service")

_STARTED: Final = "The backup has begun. Once it is whole it is listed below, and its file is there."


@blueprint.get("")
@require("admin")
def show_service() -> Response:
    """All that is known at once. The page itself asks for the health, which takes some seconds when something hangs."""
    return _page(notice=_STARTED if request.args.get("done") == "backup" else None)


@blueprint.get("/health")
@require("admin")
def show_health() -> Response:
    """A part of the page: what was looked at, workers, queue and registry."""
    examined = administration().examiner.now()
    found = health(service(), g.rights, with_disk=False)
    repositories = list_repositories(registry().store, registry().settings.hidden_range)
    return page(
        "service_health.html",
        findings=examined.findings,
        examined_at=examined.at,
        health=found,
        repositories=len(repositories),
        registry_bytes=sum(repository.size_bytes for repository in repositories),
    )


@blueprint.get("/backups")
@require("admin")
def show_backups() -> Response:
    """A part of the page, polled while a backup is made: those that were made, and the button."""
    found = serviceview.backups(service(), administration())
    return fresh("service_backups.html", found, backups=found)


@blueprint.post("/backups")
@require("admin")
def start_backup() -> Response:
    """Begin a backup, into the directory that the host's administrator chose."""
    images = "images" in request.form
    directory = administration().backups
    try:
        directory.start(g.user.name, images=images)
    except (BackupError, ConflictError) as error:
        return _page(409 if isinstance(error, ConflictError) else 422, error=told(error))
    note(service(), "start backup", str(directory.path), changes=compared(None, {"images": images}))
    response = redirect("/service?done=backup#backups", 303)
    assert isinstance(response, Response)
    return response


def _page(status: int = 200, **more: str | None) -> Response:
    disk, samples = serviceview.disk(service(), registry())
    now = time.time()
    answer = page(
        "service.html",
        version=serviceview.version(administration()),
        moment=now,
        disk=disk,
        line=sparkline([float(sample.used_bytes) for sample in samples], 300, 60),
        groups=serviceview.settings(service(), registry()),
        backups=serviceview.backups(service(), administration()),
        **more,
    )
    answer.status_code = status
    return answer
