"""Making a container from the options of ``run`` and ``create``: the image, the body, the ID's file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from cli.containers.images import ready_image
from cli.containers.opening import gather, opened
from cli.errors import CommandError
from cli.guarding import say
from cli.store import open_store
from core.platforms import Platform

if TYPE_CHECKING:
    from engine.engine import Engine


class Made(NamedTuple):
    """A container that was made, and the engine that has it."""

    engine: Engine
    id: str


@contextmanager
def made(
    root: str | None,
    image: str,
    body: Mapping[str, Any],
    options: Mapping[str, Any],
    insecure: Sequence[str],
) -> Iterator[Made]:
    """A new container of these options, and within, its engine. Raises ShiplapErrors, OSError.

    body: of ``create_body``. options: values by name, of ``options.CREATE_OPTIONS``.
    """
    platform = Platform.parse(options["platform"]) if options["platform"] else None
    _check_id_file(options["cidfile"])
    gather(root)
    with open_store(root, insecure) as store:
        ready_image(store, image, policy=options["pull"], platform=platform, root=root, insecure=insecure)
        with opened(root, store=store) as engine:
            created = engine.create(options["name"], body, platform=platform)
            for warning in created.warnings:
                say(f"WARNING: {warning}")
            if options["cidfile"]:
                _write_id(options["cidfile"], created.id)
            yield Made(engine, created.id)


def _check_id_file(path: str | None) -> None:
    if path and os.path.lexists(path):
        raise CommandError(f"container ID file found, make sure the other container isn't running or delete {path}")


def _write_id(path: str, identity: str) -> None:
    with open(path, "x", encoding="ascii") as file:
        file.write(identity)
