"""What a client waits for: a container's end, and its statistics each second. No thread stays with a client."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import flask

from containers.errors import KeeperError
from containers.keeper import protocol
from core.errors import ShiplapError
from dockerapi import answering, asking, handover
from dockerapi.endpoints.streams import pump
from dockerapi.errors import bad
from dockerapi.pump import Follower
from dockerapi.versions import shown
from engine.errors import NotFoundError

if TYPE_CHECKING:
    from containers.keeper.protocol import Conversation
    from engine.engine import Engine

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
    state = engine.state(row.id)
    if condition in ("", "not-running") and not state.is_up:
        return answering.document({"StatusCode": state.exit_code})
    keeper = _asked(engine, row.id, condition or "not-running", is_up=state.is_up)
    try:
        with handover.take() as taken:
            taken.chunked(answering.JSON)
            pump().take(taken, _Waiting(engine, row.id, condition or "not-running", keeper))
    except BaseException:
        if keeper is not None:
            keeper.close()
        raise
    return handover.gone()


def _asked(engine: Engine, identity: str, condition: str, *, is_up: bool) -> Conversation | None:
    """A connection on which its end will be told; None when it ends at this moment."""
    try:
        keeper = engine.keepers.connect(identity) if is_up else engine.keepers.summon(identity)
    except KeeperError:
        if not is_up:
            raise
        return None
    try:
        protocol.send(keeper.socket, {"verb": "wait", "condition": condition})
    except (BrokenPipeError, ConnectionResetError):
        keeper.close()
        return None
    return keeper


class _Waiting:
    """Waits for a container's end in the pump. Called with the follower."""

    def __init__(self, engine: Engine, identity: str, condition: str, keeper: Conversation | None) -> None:
        self._engine = engine
        self._identity = identity
        self._condition = condition
        self._keeper = keeper

    async def __call__(self, follower: Follower) -> None:
        try:
            document = await self._awaited(follower)
        finally:
            if self._keeper is not None:
                self._keeper.close()
        await follower.send(answering.encoded(document))

    async def _awaited(self, follower: Follower) -> dict[str, Any]:
        if self._keeper is not None:
            await follower.readable(self._keeper.fileno())
            try:
                answer, _ = self._keeper.receive()
                return {"StatusCode": int(answer["exit_code"])}
            except KeeperError:
                pass  # it was killed: what became of the container is on disk
        try:
            code = await follower.aside(lambda: self._engine.wait(self._identity, self._condition))
        except NotFoundError:
            code = _KILLED
        except ShiplapError as error:
            return {"StatusCode": _KILLED, "Error": {"Message": error.message}}
        return {"StatusCode": code}


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
    with handover.take() as taken:
        taken.chunked(answering.JSON)
        pump().take(taken, _statistics(engine, row.id))
    return handover.gone()


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
