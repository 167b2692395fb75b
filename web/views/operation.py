"""Answers for monitors: outside of /api/v1, without a token."""

from __future__ import annotations

import msgspec

from pipelines.errors import DatabaseUnreachableError, QueueUnreachableError, SchemaError
from pipelines.service import Service


class Readiness(msgspec.Struct, frozen=True):
    """Each part is "ok", or what is wrong. ready: requests can be served; without the queue, runs just wait."""

    ready: bool
    database: str
    queue: str


def readiness(service: Service) -> Readiness:
    """Ask the database and Redis."""
    database = queue = "ok"
    try:
        service.runs.list(limit=1)
    except (DatabaseUnreachableError, SchemaError) as error:
        database = error.message
    try:
        service.queue.ping()
    except QueueUnreachableError as error:
        queue = error.message
    return Readiness(database == "ok", database, queue)
