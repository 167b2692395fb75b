"""``run`` with the engine: make a container, start it, and stay with it or leave."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cli.containers.attaching import Streams, attached
from cli.containers.body import create_body
from cli.containers.making import Made, made
from cli.guarding import tell
from core.errors import ShiplapError


def run_detached(
    root: str | None, image: str, arguments: Sequence[str], options: Mapping[str, Any], insecure: Sequence[str]
) -> int:
    """Start a container, and print its ID. Raises ShiplapErrors."""
    body = create_body(image, arguments, options, detached=True)
    with made(root, image, body, options, insecure) as created:
        with _removed_when_it_fails(created, options):
            created.engine.start(created.id)
        tell(created.id)
    return 0


def run_attached(
    root: str | None,
    image: str,
    arguments: Sequence[str],
    options: Mapping[str, Any],
    insecure: Sequence[str],
    *,
    passes_signals: bool,
) -> int:
    """Start a container, and stay attached to its end, or until the detach keys come. Returns docker's exit code."""
    asked = [stream.lower() for stream in options["attach"]]
    with made(root, image, create_body(image, arguments, options), options, insecure) as created:
        streams = Streams(
            stdin=options["interactive"] and (not asked or "stdin" in asked),
            stdout=not asked or "stdout" in asked,
            stderr=not asked or "stderr" in asked,
            terminal=options["tty"],
            keys=options["detach_keys"] or "",
            passes_signals=passes_signals,
            kills=True,
        )

        def start() -> None:
            with _removed_when_it_fails(created, options):
                created.engine.start(created.id)

        return attached(created.engine, created.id, streams, start=start, until_removed=options["rm"]).code


@contextlib.contextmanager
def _removed_when_it_fails(created: Made, options: Mapping[str, Any]) -> Iterator[None]:
    """Within: a container of ``--rm`` that cannot be started goes again; another one stays, as docker's does."""
    try:
        yield
    except (ShiplapError, KeyboardInterrupt):
        if options["rm"]:
            with contextlib.suppress(ShiplapError):
                created.engine.remove(created.id, force=True, volumes=True)
        raise
