"""What happens, as it happens."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import flask

from dockerapi import answering, asking
from dockerapi.endpoints.streams import follow, pump
from dockerapi.errors import bad
from dockerapi.pump import Changes, Follower
from dockerapi.versions import Version, shown
from engine.events import EventReader
from engine.times import asked_moment

if TYPE_CHECKING:
    from engine.engine import Engine

bp = flask.Blueprint("events", __name__)

_LOOK_EACH_S: Final = 0.5
_LOOK_ANYWAY_S: Final = 10.0
"""Where changes are told: should RUN be another one by now."""

_SECOND_NS: Final = 1_000_000_000
_KINDS: Final = {
    answering.JSON: b"",
    "application/jsonl": b"",
    "application/x-ndjson": b"",
    "application/json-seq": b"\x1e",
}
"""Content types that may be asked for, and with what each document begins (RFC 7464)."""


@bp.get("/events")
def events() -> flask.Response:
    """Events of the past, if asked for, and those that come, until a moment or for ever."""
    engine = asking.engine()
    since, until = asked_moment(asking.text("since")), asked_moment(asking.text("until"))
    if since and until and until < since:
        raise bad(f"`since` time ({since // _SECOND_NS}) cannot be after `until` time ({until // _SECOND_NS})")
    filters = asking.filters()
    engine.places.make()
    reader = EventReader(engine.places.run)
    earliest = since or time.time_ns()
    reader.read(since_ns=earliest, until_ns=until, filters=filters, follow=False)  # raises for wrong filters
    changes = pump().changes
    kind = flask.request.accept_mimetypes.best_match(_KINDS, answering.JSON)
    begin = _KINDS[kind]
    return follow(kind, _following(engine, reader, changes, earliest, until, filters, asking.version(), begin))


def _following(
    engine: Engine,
    reader: EventReader,
    changes: Changes,
    earliest: int,
    until: int,
    filters: Any,
    version: Version,
    begin: bytes,
) -> Callable[[Follower], Any]:
    def more() -> bytes:
        found = reader.read(since_ns=earliest, until_ns=until, filters=filters, follow=False)
        return b"".join(begin + _line(event, version) for event in found)

    async def serve(follower: Follower) -> None:
        with changes.of(f"{engine.places.run}/events") as watched:
            while True:
                now, seen = time.time_ns(), watched.count
                await follower.send(await follower.aside(more))
                if until and now >= until:
                    return
                most = _LOOK_ANYWAY_S if watched.is_told else _LOOK_EACH_S
                left = (until - now) / _SECOND_NS if until else most
                await watched.beyond(seen, max(0.0, min(left, most)))

    return serve


def _line(event: dict[str, Any], version: Version) -> bytes:
    return json.dumps(shown("event", event, version), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
