"""Attach by WebSocket. The keeper has one end of a pair of sockets, the pump makes frames of the other."""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import socket
from typing import Final
from urllib.parse import urlsplit

import flask

from containers.errors import ContainerError
from core.errors import WebSocketError
from core.websocket import accepted
from dockerapi import asking, handover, websocket
from dockerapi.endpoints.streams import detach_keys, past_output, pump
from dockerapi.errors import ApiError, bad
from dockerapi.pump import Follower
from engine import spec
from engine.errors import ConflictError

bp = flask.Blueprint("websockets", __name__)

_PIECE: Final = 64 << 10


@bp.get("/containers/<ref>/attach/ws", endpoint="plain")
@bp.get("/containers/<ref>/attach/ws", websocket=True)
def attach(ref: str) -> flask.Response:
    """Attach to its streams. All output is one stream, in binary frames."""
    engine = asking.engine()
    keys = detach_keys(asking.text("detachKeys"))
    row = engine.records.container(ref)
    answer = _agreed()
    state = engine.state(row.id)
    if state.status == "paused":
        raise ConflictError(f"container {row.id} is paused, unpause the container before attach")
    document = spec.read(engine.directory(row.id))
    has_asked = any(name in flask.request.args for name in ("stdin", "stdout", "stderr"))
    wanted = {name: asking.flag(name, absent=not has_asked) for name in ("stdout", "stderr")}
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(pump().place_for(handover.peer().uid))
        keeper = None
        ours, theirs = (stack.enter_context(each) for each in socket.socketpair())
        if asking.flag("stream", absent=True):
            keeper = engine.keepers.connect(row.id) if state.is_up else engine.keepers.summon(row.id)
            stack.enter_context(keeper)
        taken = stack.enter_context(handover.take())
        taken.send(_HEAD % answer.encode("ascii"))
        if asking.flag("logs"):
            for entry in past_output(engine, row.id, document, **wanted):
                taken.send(websocket.output(entry.data))
        if keeper is None:
            taken.send(websocket.close())
            taken.end()
            return handover.gone()
        asked = {
            **wanted,
            "stdin": asking.flag("stdin", absent=not has_asked) and document["process"]["stdin_open"],
            "detach_keys": keys,
            "framing": "raw",
            "read": binascii.b2a_base64(b"").decode("ascii"),
        }
        try:
            keeper.ask("attach", asked, [theirs.fileno()])
        except (ContainerError, OSError) as error:
            taken.send(websocket.output(f"{error}\r\n".encode()) + websocket.close())
            taken.end()
            return handover.gone()
        place.take_whole(taken, _Joined(socket.socket(fileno=ours.detach())))
    return handover.gone()


_HEAD: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
)


def _agreed() -> str:
    """The answer to the client's key.

    Raises ApiError for who does not ask for a WebSocket, or asks from a page of another site.
    """
    headers = flask.request.headers
    if headers.get("Upgrade", "").lower() != "websocket" or headers.get("Sec-WebSocket-Version") != "13":
        raise bad("this is for clients of WebSocket: Upgrade: websocket, Sec-WebSocket-Version: 13")
    try:
        answer = accepted(headers.get("Sec-WebSocket-Key", ""))
    except WebSocketError as error:
        raise bad(str(error)) from error
    origin = headers.get("Origin")
    if origin is not None and not _is_of(origin, flask.request.host):
        raise ApiError(403, "a page of another site may not attach to containers")
    return answer


def _is_of(origin: str, host: str) -> bool:
    """Whether a page's origin is this host. Any site can be of the origin "null": a frame in a sandbox is."""
    try:
        return urlsplit(origin).netloc == host
    except ValueError:
        return False


class _Joined:
    """Joins a client to the keeper's stream, in the pump. Called with the follower."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        stream.setblocking(False)

    async def __call__(self, follower: Follower) -> None:
        loop = asyncio.get_running_loop()
        asked, answered = loop.create_task(self._asked(follower)), loop.create_task(self._answered(follower))
        try:
            await asyncio.wait({asked, answered}, return_when=asyncio.FIRST_COMPLETED)
            if answered.done():
                await follower.put(websocket.close())
            elif (error := asked.exception()) is not None and isinstance(error, WebSocketError):
                await follower.put(websocket.failed())
        finally:
            for task in (asked, answered):
                task.cancel()
            await asyncio.gather(asked, answered, return_exceptions=True)
            self._stream.close()

    async def _answered(self, follower: Follower) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while data := await loop.sock_recv(self._stream, _PIECE):
                await follower.put(websocket.output(data))

    async def _asked(self, follower: Follower) -> None:
        """Until the client has closed, or gone away. Raises WebSocketError."""
        loop, frames = asyncio.get_running_loop(), websocket.Frames()
        data = follower.early
        with contextlib.suppress(OSError):
            while True:
                for come in frames.take(data):
                    if come.kind == "data":
                        await loop.sock_sendall(self._stream, come.data)
                    elif come.kind == "ping":
                        await follower.put(websocket.pong(come.data))
                    else:
                        await follower.put(websocket.close())
                        return
                data = await follower.receive()
                if not data:
                    return
