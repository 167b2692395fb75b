"""A container's log by the numbers of its lines, for the panel that shows the logs of jobs, too.

An engine knows moments, and no numbers. So a page begins at a moment, and counts from there: line 1 is the first one
written then or later. Every request names that moment, so that all of them count alike. Of the logs that were looked at
last it is remembered where every thousandth line is, and what stands out in them: nothing is read from its beginning
again and again. The lines themselves are the engine's alone.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from core.events import StepOutput
from core.masking import Masker
from pipelines.logs.lines import LineMaker, LogLine, encode_line
from pipelines.logs.marks import Found, Marker
from pipelines.logs.tail import plain
from web.engines.client import EngineClient, Stream
from web.engines.downloads import Downloads
from web.engines.frames import TERMINAL, Frame, FrameError, FrameParser
from web.errors import RequestError, UnavailableError

_EACH: Final = 1000
"""So many lines are between two places that are remembered."""

_KEPT: Final = 32
_READERS: Final = 8
_FOLLOWERS: Final = 100
_WAIT_S: Final = 20.0
_TICK_S: Final = 1.0
_HEARTBEAT_S: Final = 10.0
_NO_STEP: Final = -1
_MOST_DIGITS: Final = 20
_SECOND: Final = 1_000_000_000
_MOST_MATCHES: Final = 100_000
_PIECE_BYTES: Final = 64 << 10

_reading = threading.BoundedSemaphore(_READERS)
_downloads = Downloads()
_following = threading.BoundedSemaphore(_FOLLOWERS)


class GoneError(RequestError):
    """What was shown is not kept any more."""

    status = 410
    code = "gone"


class Moment(NamedTuple):
    """Where a page's lines begin: nanoseconds since the epoch; 0: at the log's beginning."""

    at_ns: int

    @classmethod
    def parse(cls, text: str) -> Moment | None:
        """As it is in an address; None: it is none."""
        if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
            return None
        return cls(int(text))

    @property
    def asked(self) -> str:
        """As the engine takes it."""
        seconds, fraction = divmod(self.at_ns, _SECOND)
        return f"{seconds}.{fraction:09d}" if self.at_ns else "0"


class _Place(NamedTuple):
    """Where a line begins. number: of that line. skipped: frames of the same moment that are before it."""

    number: int
    at_ns: int
    skipped: int


class _Known:
    """What is remembered of one log since a moment."""

    def __init__(self, begin: Moment) -> None:
        self._lock = threading.Lock()
        self.places = [_Place(1, begin.at_ns, 0)]
        self.end = self.places[0]
        self.marker = Marker()

    @contextmanager
    def held(self) -> Iterator[None]:
        """For whoever reads on, or looks at what was found: one at a time. Raises UnavailableError."""
        if not self._lock.acquire(timeout=_WAIT_S):
            raise UnavailableError("somebody else still reads this log", hint="try again in a moment")
        try:
            yield
        finally:
            self._lock.release()

    def before(self, number: int) -> _Place:
        """The last place that is known at or before a line."""
        return self.places[max(0, bisect.bisect_right(self.places, number, key=lambda place: place.number) - 1)]


class ContainerLogs:
    """The logs of an engine's containers. Thread-safe. container: an ID."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, Moment], _Known] = OrderedDict()

    def begin(self, container: str, last: int) -> Moment:
        """The moment at which the last so many lines begin; 0 where nothing was written, or everything is meant."""
        if not last:
            return Moment(0)
        with self._frames(container, {"tail": str(last)}) as frames:
            first = next(frames, None)
        return Moment(first.at_ns if first is not None else 0)

    def count(self, container: str, begin: Moment) -> int:
        """How many lines there are. Reads what is new."""
        return self._caught_up(container, begin).marker.lines

    def marks(self, container: str, begin: Moment, after: int) -> Found:
        """What stands out after a line."""
        known = self._caught_up(container, begin)
        with known.held():
            return known.marker.found(after)

    def read(self, container: str, begin: Moment, first: int, limit: int) -> list[LogLine]:
        """Lines from a number on, at most so many."""
        found: list[LogLine] = []
        with self._from(container, begin, first) as lines:
            for line in lines:
                if line.n >= first:
                    found.append(line)
                if len(found) == limit:
                    break
        return found

    def matches(self, container: str, begin: Moment, text: str) -> list[int]:
        """The numbers of the lines that contain a text, whatever the case."""
        wanted, found = text.casefold(), []
        with self._from(container, begin, 1) as lines:
            for line in lines:
                if wanted in plain(line.text).casefold():
                    found.append(line.n)
                    if len(found) == _MOST_MATCHES:
                        break
        return found

    @contextmanager
    def text(self, container: str, begin: Moment) -> Iterator[Iterator[bytes]]:
        """All lines since as plain text, in pieces, as fast as they are taken. Raises before anything is sent."""
        place = self._of(container, begin).before(1)
        with _downloads.place() as download, self._stream(container, _query(place)) as stream:
            yield download.pieces(stream, _text(_lines(place, _parsed(stream))))

    def events(self, container: str, begin: Moment, after: int, is_over: Callable[[], bool]) -> Iterator[bytes]:
        """Lines behind a number as server-sent events, as they are written, until the container has ended.

        The first event is there within a second; an error that is known then is raised in its place.
        is_over: asked every second whether it is to end.
        """
        if not _following.acquire(blocking=False):
            raise UnavailableError(f"{_FOLLOWERS} logs are followed, as many as may be", hint="try again later")
        try:
            events = self._events(container, begin, after, is_over)
            first = next(events, b"")  # what the engine says against it, and lines that have gone, are errors
            yield b"retry: 1000\n\n" + first
            yield from events
        finally:
            _following.release()

    def _events(self, container: str, begin: Moment, after: int, is_over: Callable[[], bool]) -> Iterator[bytes]:
        place = self._of(container, begin).before(after + 1)
        maker = _Maker(place.number)
        said_at = -_HEARTBEAT_S
        query = _query(place) | {"follow": "1"}
        with self._client.stream(f"/containers/{container}/logs", **query) as stream:
            parser, skipping = _parser(stream), _Skipping(place)
            for piece in stream.pieces(_TICK_S):
                if is_over():
                    return
                lines = [line for frame in skipping.left(parser.feed(piece)) for line in maker.lines(frame)]
                told = b"".join(_event(line) for line in lines if line.n > after)
                if told or time.monotonic() - said_at > _HEARTBEAT_S:
                    said_at = time.monotonic()
                    yield told or b": still there\n\n"
            last = [line for frame in skipping.left(parser.rest()) for line in maker.lines(frame)]
        yield b"".join(_event(line) for line in [*last, *maker.close()] if line.n > after)
        yield b"event: end\ndata: {}\n\n"

    def _of(self, container: str, begin: Moment) -> _Known:
        with self._lock:
            known = self._known.setdefault((container, begin), _Known(begin))
            self._known.move_to_end((container, begin))
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return known

    def _caught_up(self, container: str, begin: Moment) -> _Known:
        """What is known, after reading what was written since it was read last."""
        known = self._of(container, begin)
        with known.held():
            place = known.end
            maker = _Maker(place.number)
            same_ns, same = place.at_ns, place.skipped
            unended: set[int] = set()  # streams whose line goes on in a later frame
            with self._frames(container, _query(place)) as frames:
                for frame in _Skipping(place).left(frames):
                    same = same + 1 if frame.at_ns == same_ns else 1
                    same_ns = frame.at_ns
                    for line in maker.lines(frame):
                        if line.n > known.marker.lines:  # a line that has no end is read once more
                            known.marker.look(line.n, encode_line(line))
                    (unended.discard if frame.data.endswith(b"\n") else unended.add)(frame.stream)
                    if unended:
                        continue
                    known.end = _Place(maker.next, same_ns, same)
                    if known.end.number - known.places[-1].number >= _EACH:
                        known.places.append(known.end)
        return known

    @contextmanager
    def _from(self, container: str, begin: Moment, number: int) -> Iterator[Iterator[LogLine]]:
        """The lines from a known place at or before a number on."""
        place = self._of(container, begin).before(number)
        with self._frames(container, _query(place)) as frames:
            yield _lines(place, frames)

    @contextmanager
    def _frames(self, container: str, query: dict[str, str]) -> Iterator[Iterator[Frame]]:
        """Frames as the engine has them now. Few read at once: a log may have 100 MB."""
        if not _reading.acquire(timeout=_WAIT_S):
            raise UnavailableError("too many logs of containers are read at once", hint="try again in a moment")
        try:
            with self._stream(container, query) as stream:
                yield _parsed(stream)
        finally:
            _reading.release()

    @contextmanager
    def _stream(self, container: str, query: dict[str, str]) -> Iterator[Stream]:
        """What the engine sends of a log as it is now."""
        asked = {"timestamps": "1", "stdout": "1", "stderr": "1", **query}
        try:
            with self._client.stream(f"/containers/{container}/logs", **asked) as stream:
                yield stream
        except FrameError as error:
            raise UnavailableError(error.message) from error


class _Skipping:
    """Leaves out the frames before a place, and finds out where they are not kept any more."""

    def __init__(self, place: _Place) -> None:
        self._place = place
        self._left = place.skipped
        self._is_first = True

    def left(self, frames: Iterator[Frame] | list[Frame]) -> Iterator[Frame]:
        """Those that are not left out. Raises GoneError."""
        for frame in frames:
            if self._is_first and self._place.at_ns and frame.at_ns != self._place.at_ns:
                raise GoneError("the container wrote so much that these lines are not kept any more", hint="reload")
            self._is_first = False
            if self._left:
                self._left -= 1
            else:
                yield frame


def _query(place: _Place) -> dict[str, str]:
    return {"timestamps": "1", "stdout": "1", "stderr": "1", "since": Moment(place.at_ns).asked}


def _parser(stream: Stream) -> FrameParser:
    return FrameParser(is_terminal=stream.content_type == TERMINAL)


def _parsed(stream: Stream) -> Iterator[Frame]:
    parser = _parser(stream)
    for piece in stream.pieces():
        yield from parser.feed(piece)
    yield from parser.rest()


def _lines(place: _Place, frames: Iterator[Frame]) -> Iterator[LogLine]:
    """The lines of frames that begin at a place's moment."""
    maker = _Maker(place.number)
    for frame in _Skipping(place).left(frames):
        yield from maker.lines(frame)
    yield from maker.close()


def _text(lines: Iterator[LogLine]) -> Iterator[bytes]:
    """Lines as plain text, many in a piece."""
    piece = bytearray()
    for line in lines:
        piece += line.text.encode(errors="replace") + b"\n"
        if len(piece) >= _PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


class _Maker:
    """Makes numbered lines of frames. What has no end is as old as what was written last."""

    def __init__(self, first: int) -> None:
        self._at = 0.0
        self._maker = LineMaker(first, Masker(), lambda: self._at)

    @property
    def next(self) -> int:
        return self._maker.next

    def lines(self, frame: Frame) -> list[LogLine]:
        """The lines that it completes."""
        self._at = frame.at_ns / _SECOND
        return self._maker.lines(StepOutput(_NO_STEP, frame.stream, frame.data, self._at))

    def close(self) -> list[LogLine]:
        """Those without an end."""
        return list(self._maker.close())


def _event(line: LogLine) -> bytes:
    return b"id: %d\ndata: %b\n\n" % (line.n, encode_line(line))
