"""What a client waits for: a container's end, and its statistics each second. No thread stays with a client.

Who waits for an end is told by two: the container's keeper, which has the client's connection, too, and so tells it
when this process is gone; and this process, when the keeper is killed.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import flask

from containers.errors import KeeperError
from core.errors import ShiplapError
from dockerapi import answering, asking, handover
from dockerapi.endpoints.streams import follow, pump
from dockerapi.errors import bad
from dockerapi.pump import Follower
from dockerapi.versions import shown
from engine.errors import NotFoundError
from engine.waiting import Waiter, ending_of, hand

if TYPE_CHECKING:
    from containers.keeper.protocol import Conversation
    from engine.engine import Engine
    from engine.records import Row

bp = flask.Blueprint("waits", __name__)

_CONDITIONS: Final = ("", "not-running", "next-exit", "removed")
_KILLED: Final = 137
"""The exit code of a container that went with its keeper, and was removed."""


@bp.post("/containers/<ref>/wait")
def wait(ref: str) -> flask.Response:
    """Wait for its end. The head comes at once: clients start a container when they have it."""
    engine = asking.engine()
    condition = asking.text("condition")
    if condition not in _CONDITIONS:
        raise bad(f'invalid condition: "{condition}"')
    row = engine.records.container(ref)
    waiter = Waiter(engine.places, engine.records, engine.keepers)
    found = waiter.begin_wait(row.id, condition)
    if isinstance(found, int):
        return answering.document({"StatusCode": found})
    try:
        with pump().place_for(handover.peer().uid) as place, handover.take() as taken:
            taken.chunked(answering.JSON)
            hand(found, taken.socket.fileno())
            place.take(taken, _Waiting(waiter, row, condition, found))
    except BaseException:
        found.close()
        raise
    return handover.gone()


class _Waiting:
    """Waits for a container's end in the pump. Called with the follower. keeper: who will tell it; closed here."""

    def __init__(self, waiter: Waiter, row: Row, condition: str, keeper: Conversation) -> None:
        self._waiter = waiter
        self._row = row
        self._condition = condition
        self._keeper = keeper

    async def __call__(self, follower: Follower) -> None:
        try:
            document = await self._awaited(follower)
        finally:
            self._keeper.close()
        if document is None:
            follower.served()
        else:
            await follower.send(answering.encoded(document))

    async def _awaited(self, follower: Follower) -> dict[str, Any] | None:
        """What is to be told; None when the keeper has told it."""
        while True:
            await follower.readable(self._keeper.fileno())
            try:
                ending = ending_of(self._keeper)
                return None if ending.is_told else {"StatusCode": ending.exit_code}
            except KeeperError:
                self._keeper.close()  # it was killed: what became of the container is on disk
            try:
                found = await follower.aside(lambda: self._waiter.resume_wait(self._row, self._condition))
            except NotFoundError:
                return {"StatusCode": _KILLED}
            except ShiplapError as error:
                return {"StatusCode": _KILLED, "Error": {"Message": error.message}}
            if isinstance(found, int):
                return {"StatusCode": found}
            self._keeper = found
            await follower.aside(lambda keeper=found: hand(keeper, follower.fileno()))  # type: ignore[misc]


@bp.get("/containers/<ref>/stats")
def stats(ref: str) -> flask.Response:
    """What it uses: each second, or once. The first document of a stream has nothing before it."""
    engine = asking.engine()
    row = engine.records.container(ref)
    if not asking.flag("stream", absent=True):
        before: dict[str, Any] | None = None
        if not asking.flag("one-shot"):
            _, before = engine.stats(row.id)
            time.sleep(1.0 if before else 0.0)
        found, _ = engine.stats(row.id, before)
        return answering.document(_typed(found), kind="stats")
    return follow(answering.JSON, _statistics(engine, row.id))


def _statistics(engine: Engine, identity: str) -> Callable[[Follower], Any]:
    version = asking.version()

    async def serve(follower: Follower) -> None:
        before: dict[str, Any] | None = None
        while True:
            begun = time.monotonic()
            try:
                found, before = await follower.aside(lambda then=before: engine.stats(identity, then))  # type: ignore[misc]
            except NotFoundError:
                return
            await follower.send(json.dumps(shown("stats", _typed(found), version)).encode() + b"\n")
            await asyncio.sleep(max(0.1, 1.0 - (time.monotonic() - begun)))

    return serve


def _typed(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "os_type": "linux"}
