"""A container's streams: attach, and what it wrote. The keeper gets the connection, and serves it to its end."""

from __future__ import annotations

import binascii
import contextlib
import struct
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

import flask

from containers.errors import ContainerError, KeeperError
from containers.keeper.relay import parse_keys
from core.errors import ShiplapError
from dockerapi import answering, asking, handover
from dockerapi.errors import bad, message_of
from dockerapi.pump import Follower, Pump, Serving
from dockerapi.versions import has
from engine import spec
from engine.errors import ConflictError
from engine.logs import LogEntry, LogReader, Wanted
from engine.times import asked_moment, text_of

if TYPE_CHECKING:
    from engine.engine import Engine

bp = flask.Blueprint("streams", __name__)

RAW: Final = "application/vnd.docker.raw-stream"
MULTIPLEXED: Final = "application/vnd.docker.multiplexed-stream"
_HEAD: Final = struct.Struct(">B3xI")
_NUMBERS: Final = {"stdin": 0, "stdout": 1, "stderr": 2}
_NANOSECONDS: Final = 9
_MOST_DIGITS: Final = 18
_LOOK_EACH_S: Final = 0.5
_LOG_PATIENCE_S: Final = 600.0
"""Somebody may be reading it, page by page."""

_ENTRIES_AT_ONCE: Final = 1024


def pump() -> Pump:
    """The application's pump."""
    found: Pump = flask.current_app.extensions["pump"]
    return found


def follow(content_type: str, serving: Serving) -> flask.Response:
    """Have the pump serve the request's connection to its end. Raises ApiError for who follows too much already."""
    with pump().place_for(handover.peer().uid) as place, handover.take() as taken:
        taken.chunked(content_type)
        place.take(taken, serving)
    return handover.gone()


def framed(stream: str, data: bytes, *, terminal: bool) -> bytes:
    """A piece of a stream, with docker's head of 8 bytes where there are two streams to tell apart."""
    return data if terminal else _HEAD.pack(_NUMBERS[stream], len(data)) + data


def stream_type(*, terminal: bool) -> str:
    """The content type of a container's streams."""
    return RAW if terminal or not has("stream-type", asking.version()) else MULTIPLEXED


def detach_keys(text: str) -> str:
    """Detach keys, checked. Raises ApiError."""
    try:
        parse_keys(text)
    except ValueError as error:
        raise bad(f"Invalid detach keys ({text}) provided: {error}") from error
    return text


@bp.post("/containers/<ref>/attach")
def attach(ref: str) -> flask.Response:
    """Attach to its streams, also before it starts."""
    engine = asking.engine()
    keys = detach_keys(asking.text("detachKeys"))
    row = engine.records.container(ref)
    state = engine.state(row.id)
    if state.status == "paused":
        raise ConflictError(f"container {row.id} is paused, unpause the container before attach")
    if state.status == "restarting":
        raise ConflictError(f"container {row.id} is restarting, wait until the container is running")
    document = spec.read(engine.directory(row.id))
    terminal = bool(document["process"]["terminal"])
    wanted = {name: asking.flag(name) for name in ("stdout", "stderr")}
    with contextlib.ExitStack() as stack:
        keeper = None
        if asking.flag("stream"):
            keeper = engine.keepers.connect(row.id) if state.is_up else engine.keepers.summon(row.id)
            stack.enter_context(keeper)
        taken = stack.enter_context(handover.take())
        taken.upgrade(stream_type(terminal=terminal))
        if asking.flag("logs"):
            for entry in past_output(engine, row.id, document, **wanted):
                taken.send(framed(entry.stream, entry.data, terminal=terminal))
        if keeper is None:
            taken.end()
            return handover.gone()
        asked = {
            **wanted,
            "stdin": asking.flag("stdin") and document["process"]["stdin_open"],
            "detach_keys": keys,
            "framing": "multiplexed",
            "read": binascii.b2a_base64(taken.early).decode("ascii"),
        }
        try:
            keeper.ask("attach", asked, [taken.socket.fileno()])
        except (ContainerError, OSError) as error:
            tell_failure(taken, error, terminal=terminal)
    return handover.gone()


def past_output(
    engine: Engine, identity: str, document: Mapping[str, Any], *, stdout: bool, stderr: bool
) -> Iterator[LogEntry]:
    """What a container has written so far, of these streams. document: its ``spec.json``."""
    if document["log"]["driver"] == "none" or not (stdout or stderr):
        return iter(())
    return LogReader(engine.directory(identity)).past(Wanted(stdout=stdout, stderr=stderr))


def tell_failure(taken: handover.Taken, error: Exception, *, terminal: bool) -> None:
    """Say in a stream that has begun what went wrong, as docker does; and end it."""
    text = message_of(error) if isinstance(error, ShiplapError) else str(error)
    with contextlib.suppress(OSError):
        taken.send(framed("stderr", f"{text}\r\n".encode("utf-8", "surrogateescape"), terminal=terminal))
    taken.end()


@bp.get("/containers/<ref>/logs")
def logs(ref: str) -> flask.Response:
    """What it wrote. The past is sent from here; what follows, by its keeper."""
    engine = asking.engine()
    row = engine.records.container(ref)
    wanted = _wanted()
    reader = engine.log_reader(row.id)
    terminal = bool(spec.read(engine.directory(row.id))["process"]["terminal"])
    timestamps, details = asking.flag("timestamps"), asking.flag("details")
    content_type = stream_type(terminal=terminal)

    def shown(entry: LogEntry) -> bytes:
        time = _fixed(entry.time_ns).encode() + b" " if timestamps else b""
        text = time + (b" " if details else b"") + entry.data  # of details there are none; docker's space is
        return framed(entry.stream, text, terminal=terminal)

    if asking.flag("follow") and wanted.until_ns:
        return follow(content_type, _Following(engine, row.id, reader, wanted, shown))
    following = None
    if asking.flag("follow"):
        following = _Keepers(engine, row.id, reader, wanted, timestamps=timestamps, details=details)
    pieces = _joined(map(shown, reader.past(wanted)))
    beginning = list(islice(pieces, 2))
    if len(beginning) > 1:  # a client that takes it slowly, or not at all, holds no thread
        with pump().place_for(handover.peer().uid) as place, handover.take() as taken:
            taken.chunked(content_type)
            place.take_whole(taken, _Sending(chain(beginning, pieces), following, shown))
        return handover.gone()
    if following is None:
        return answering.pieces(iter(beginning), content_type)
    with handover.take() as taken:
        taken.chunked(content_type)
        for piece in beginning:
            taken.send_chunk(piece)
        if not following.have(taken.socket.fileno()):
            for piece in _joined(map(shown, following.left())):
                taken.send_chunk(piece)
            taken.end_chunks()
    return handover.gone()


class _Keepers:
    """A log that its container's keeper goes on with, from the place that ``reader`` has come to."""

    def __init__(
        self, engine: Engine, identity: str, reader: LogReader, wanted: Wanted, *, timestamps: bool, details: bool
    ) -> None:
        self._engine = engine
        self._identity = identity
        self._reader = reader
        self._wanted = wanted
        self._timestamps = timestamps
        self._details = details

    def have(self, client: int) -> bool:
        """Give the client's connection to the keeper; False when there is no keeper."""
        asked = {
            "file": self._reader.place.file,
            "offset": self._reader.place.offset,
            "stdout": self._wanted.stdout,
            "stderr": self._wanted.stderr,
            "timestamps": self._timestamps,
            "details": self._details,
            "framing": "chunked",
        }
        if not self._engine.state(self._identity).is_up:
            return False
        try:
            with self._engine.keepers.connect(self._identity) as keeper:
                keeper.ask("follow", asked, [client])
        except KeeperError:
            return False
        return True

    def left(self) -> Iterator[LogEntry]:
        """What was written since, by a container that has ended."""
        return self._reader.past(self._wanted._replace(tail=None))


class _Sending:
    """Sends a log's past in the pump. Called with the follower. following: who goes on with it; None: nobody."""

    def __init__(self, pieces: Iterator[bytes], following: _Keepers | None, shown: Callable[[LogEntry], bytes]) -> None:
        self._pieces = pieces
        self._following = following
        self._shown = shown

    async def __call__(self, follower: Follower) -> None:
        await self._send(follower, self._pieces)
        following = self._following
        if following is not None:
            if await follower.aside(lambda: following.have(follower.fileno())):
                follower.given()
                return
            await self._send(follower, _joined(map(self._shown, following.left())))
        await follower.end()

    async def _send(self, follower: Follower, pieces: Iterator[bytes]) -> None:
        while (piece := await follower.aside(lambda: next(pieces, None))) is not None:
            await follower.send(piece, _LOG_PATIENCE_S)


class _Following:
    """Follows a log until a moment, in the pump. Called with the follower."""

    def __init__(self, engine: Engine, identity: str, reader: LogReader, wanted: Wanted, shown: Any) -> None:
        self._engine = engine
        self._identity = identity
        self._reader = reader
        self._wanted = wanted
        self._shown = shown

    async def __call__(self, follower: Follower) -> None:
        import asyncio
        import time

        wanted = self._wanted
        while True:
            was_up = await follower.aside(lambda: self._engine.state(self._identity).is_up)
            pieces = _joined(map(self._shown, self._reader.past(wanted)))
            while (piece := await follower.aside(lambda some=pieces: next(some, None))) is not None:  # type: ignore[misc]
                await follower.send(piece)
            wanted = wanted._replace(tail=None)
            if not was_up or time.time_ns() >= wanted.until_ns:
                return
            await asyncio.sleep(_LOOK_EACH_S)


def _wanted() -> Wanted:
    tail = asking.text("tail")
    # docker takes everything else for: all
    number = int(tail) if tail.isascii() and tail.isdigit() and len(tail) <= _MOST_DIGITS else None
    stdout, stderr = asking.flag("stdout"), asking.flag("stderr")
    if not stdout and not stderr:
        raise bad("Bad parameters: you must choose at least one stream")
    return Wanted(asked_moment(asking.text("since")), asked_moment(asking.text("until")), number, stdout, stderr)


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces."""
    gathered: list[bytes] = []
    size = 0
    for piece in pieces:
        gathered.append(piece)
        size += len(piece)
        if size >= 1 << 16 or len(gathered) >= _ENTRIES_AT_ONCE:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


def _fixed(time_ns: int) -> str:
    """A moment with all nine digits."""
    text = text_of(time_ns).removesuffix("Z")
    whole, _, digits = text.partition(".")
    return f"{whole}.{digits.ljust(_NANOSECONDS, '0')}Z"
