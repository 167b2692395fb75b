"""The page of workers, their runs, and the queue."""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec
from flask import Blueprint, Response, g, request

from pipelines.errors import QueueUnreachableError
from web.backing import service
from web.guard.rights import seen_workers, visible
from web.pages.frame import fresh, page

blueprint: Final = Blueprint("worker_pages", __name__)

_SHOWN: Final = 50


@blueprint.get("/workers")
def list_workers() -> Response:
    """Workers and the queue; for htmx, only the part that changes."""
    shown = _shown()
    if request.headers.get("HX-Request"):
        # A worker's state shows whether its heart beats: the last beat is no reason to send all of this again.
        workers = [msgspec.structs.replace(worker, heartbeat_at=0.0) for worker in shown["workers"]]
        return fresh(
            "workers_tables.html", (workers, shown["running"], shown["waiting"], shown["queue_error"]), **shown
        )
    return page("workers.html", **shown)


def _shown() -> dict[str, Any]:
    seen = visible(g.rights)
    workers = seen_workers(service(), g.rights)
    alive = [worker for worker in workers if worker.state != "lost"]
    error = ""
    try:
        service().queue.ping()
    except QueueUnreachableError as unreachable:
        error = unreachable.message
    return {
        "workers": workers,
        "slots": sum(worker.concurrency for worker in alive),
        "taken": sum(len(worker.runs) for worker in alive),
        "running": {run.number: run for run in service().listing.running() if seen is None or run.project in seen},
        "waiting": service().listing.waiting(_SHOWN, projects=seen),
        "waiting_count": service().listing.count("queued", projects=seen),
        "queue_error": error,
        "moment": time.time(),
    }
