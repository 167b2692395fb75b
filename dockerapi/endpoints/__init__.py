"""The endpoints of the API, a module for each family. Each reads a request, asks the engine, and answers."""

from __future__ import annotations

import flask


def install(app: flask.Flask) -> None:
    """Give the application all endpoints."""
    from dockerapi.endpoints import (
        archive,
        buildkit,
        builds,
        containers,
        events,
        execs,
        images,
        networks,
        refused,
        streams,
        system,
        transfers,
        volumes,
        waits,
        websockets,
    )

    for module in (
        system, containers, streams, waits, execs, archive, images, transfers, builds, buildkit, networks, volumes,
        events, websockets, refused,
    ):  # fmt: skip
        app.register_blueprint(module.bp)
