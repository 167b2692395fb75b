"""The disk space of this host's data: build cache, images, registry; and making room."""

from __future__ import annotations

import shutil
from typing import Any, Final

from flask import Blueprint, Response, redirect, request

from pipelines.errors import InvalidRequestError
from pipelines.runs.keptoutputs import taken_by_project
from registry.server.survey import list_repositories
from web.backing import registry, service
from web.guard import require
from web.housekeeping import collect_images
from web.pages import words
from web.pages.frame import page

blueprint: Final = Blueprint("disk_pages", __name__)

_SHOWN: Final = 100
_PROJECTS: Final = 5
"""Those whose outputs take most."""

_GB: Final = 1_000_000_000


@blueprint.get("/disk")
@require("viewer")
def show_disk() -> Response:
    """The sums that are known at once. The page itself asks later for those of the cache, which take counting."""
    store = registry().store
    hidden = registry().settings.hidden_range
    repositories = list_repositories(store, hidden)
    outputs = taken_by_project(service().database, store.kept)
    return page(
        "disk.html",
        disk=shutil.disk_usage(store.root),
        root=store.root,
        registry_bytes=sum(repository.size_bytes for repository in repositories),
        repositories=len(repositories),
        outputs=sorted(outputs.items(), key=lambda pair: -pair[1])[:_PROJECTS],
        outputs_bytes=sum(outputs.values()),
        output_projects=len(outputs),
        outputs_max=service().settings.project_outputs_max,
        notice=_notice(),
    )


@blueprint.get("/disk/cache")
@require("viewer")
def show_cache() -> Response:
    """The size of the build cache, and the items that were used last: it walks the cache mounts for that."""
    return page("disk_cache.html", **_cache())


@blueprint.post("/disk/cache")
@require("admin")
def trim_cache() -> Response:
    """Bring the build cache down to so many gigabytes: the items unused for longest go first."""
    text = request.form.get("keep", "")
    try:
        keep_bytes = int(float(text) * _GB)
    except (ValueError, OverflowError):
        raise InvalidRequestError(f"{text[:40]!r} is no number of gigabytes") from None
    report = registry().store.cache_use.trim(max(0, keep_bytes))
    return _back(report.freed_bytes)


@blueprint.post("/disk/registry")
@require("admin")
def collect_registry() -> Response:
    """Remove content that no tag reaches any more, as the registry's settings say."""
    return _back(collect_images(service(), registry()).freed_bytes)


def _cache() -> dict[str, Any]:
    store = registry().store
    items, snapshots = store.cache_use.items(), store.cache_use.snapshots()
    derived = sum(snapshot.size_bytes for snapshot in snapshots)
    idle = sum(snapshot.size_bytes for snapshot in snapshots if not snapshot.in_use)
    return {
        "cache_bytes": sum(item.size_bytes for item in items if not item.shared) + derived,
        "cached": len(items),
        "derived_bytes": derived,
        "reclaimable_bytes": sum(item.size_bytes for item in items if item.reclaimable) + idle,
        "images": store.images.list(),
        "items": sorted(items, key=lambda item: -item.used_at)[:_SHOWN],
    }


def _back(freed_bytes: int) -> Response:
    response = redirect(f"/disk?freed={freed_bytes}", 303)
    assert isinstance(response, Response)
    return response


def _notice() -> str | None:
    freed = request.args.get("freed", "")
    return (
        f"{words.size(int(freed))} are free again." if freed.isascii() and freed.isdigit() and len(freed) < 19 else None
    )
