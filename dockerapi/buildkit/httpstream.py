"""A stream of an HTTP/2 connection, for threads: what the peer sent waits here, within a bound, until it is read."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from dockerapi.buildkit.frames import grant

if TYPE_CHECKING:
    from h2.connection import H2Connection

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

PATIENCE_S: Final = 60.0
"""How long a peer may take nothing, or owe us a piece that is due."""

STREAM_BYTES: Final = 1 << 20
"""What a peer may send on a stream before anybody took it."""

_GRANTED_BYTES: Final = STREAM_BYTES // 4
"""What was taken of a stream before the peer is told that it may send as much again."""

_PIECE: Final = 256 << 10
_SMALL: Final = 1024
"""A peer may cut what it sends into frames of a byte or two: such pieces are kept together, for each alone takes 40."""


class Carrying(Protocol):
    """A stream's connection, as the stream uses it. All but ``lock`` is for who holds that."""

    lock: threading.RLock
    h2: H2Connection

    @property
    def has_room(self) -> bool: ...

    def flush(self) -> None: ...

    def queue(self, data: bytes, /) -> None: ...

    def acknowledge(self, number: int, counted: int, /) -> None: ...

    def forget(self, number: int, /) -> None: ...


class StreamError(Exception):
    """A stream that ended before its time: reset, its connection lost, or the peer did not answer in time."""


class Stream:
    """One stream. Any thread may use it; one reads and one writes at a time.

    headers: the request's or the answer's, once there.
    trailers: what came after the body.
    """

    def __init__(self, connection: Carrying, number: int) -> None:
        self.headers: Headers | None = None
        self.trailers: Headers = ()
        self.number = number
        self._connection = connection
        self._changed = threading.Condition(connection.lock)
        self._pieces: list[bytes | bytearray] = []
        self._counted = 0  # of their bytes, by h2
        self._untaken = 0  # of their bytes, by us
        self._ungranted = 0
        self._is_counted = False
        self._is_whole = False
        self._is_finished = False
        self._error = ""
        self._when_gone: list[Callable[[], None]] = []

    def read(self, timeout_s: float | None) -> bytes:
        """What the peer has sent by now, at least a byte; b"" at the end. None waits for ever. Raises StreamError."""
        with self._connection.lock:
            if not self._changed.wait_for(lambda: self._pieces or self._is_whole or self._error, timeout_s):
                raise StreamError(f"the client has sent nothing for {timeout_s:.0f} seconds")
            if self._pieces:
                data = bytes(self._pieces[0]) if len(self._pieces) == 1 else b"".join(self._pieces)
                self._drop()
                return data
            if self._is_whole:
                return b""
            raise StreamError(self._error)

    def await_headers(self, timeout_s: float) -> Headers:
        """The headers of the answer to a stream that was opened here. Raises StreamError."""
        with self._connection.lock:
            if not self._changed.wait_for(lambda: self.headers is not None or self._error, timeout_s):
                raise StreamError(f"the client has not answered for {timeout_s:.0f} seconds")
            if self.headers is None:
                raise StreamError(self._error)
            return self.headers

    def send_headers(self, headers: Headers, *, end: bool = False) -> None:
        """Send headers, or trailers at the end. Raises StreamError."""
        with self._connection.lock:
            self._check()
            with as_stream_errors():
                self._connection.h2.send_headers(self.number, headers, end_stream=end)
            self._connection.flush()
            self._is_finished |= end

    def write(self, data: bytes) -> None:
        """Send bytes, as fast as the peer takes them. Raises StreamError."""
        rest = memoryview(data)
        h2, lock = self._connection.h2, self._connection.lock
        until = time.monotonic() + PATIENCE_S
        with lock:
            while rest:
                self._check()
                room = 0
                if self._connection.has_room:
                    with as_stream_errors():
                        room = min(h2.local_flow_control_window(self.number), h2.max_outbound_frame_size, _PIECE)
                if room <= 0:
                    # What happens on other streams wakes this one, and is no reason to wait longer.
                    if time.monotonic() > until:
                        raise StreamError(f"the client has taken nothing for {PATIENCE_S:.0f} seconds")
                    self._changed.wait(max(0.0, until - time.monotonic()))
                    continue
                with as_stream_errors():
                    h2.send_data(self.number, bytes(rest[:room]))
                rest = rest[room:]
                until = time.monotonic() + PATIENCE_S
                self._connection.flush()

    def end(self) -> None:
        """Say that nothing more comes from here."""
        with self._connection.lock:
            if self._error or self._is_finished:
                return
            self._is_finished = True
            with as_stream_errors():
                self._connection.h2.end_stream(self.number)
            self._connection.flush()

    def close(self) -> None:
        """Have done with it; reset it where it is not at its end. What was not read is dropped."""
        with self._connection.lock:
            if not self._error and not (self._is_whole and self._is_finished):
                with contextlib.suppress(ProtocolError):
                    self._connection.h2.reset_stream(self.number, ErrorCodes.CANCEL)
            self._is_whole = True
            self._drop()
            self._error = self._error or "it was closed here"
            self._changed.notify_all()
            self._connection.forget(self.number)
            self._connection.flush()
            self._when_gone.clear()

    def when_gone(self, call: Callable[[], None]) -> None:
        """Call this once when the stream is reset or its connection is lost: at once, where that was."""
        with self._connection.lock:
            if not self._error:
                self._when_gone.append(call)
                return
        call()

    # Below: for the connection, which holds the lock.

    @property
    def is_open(self) -> bool:
        """Whether its data is taken without h2: it is due, and nobody said how much there will be."""
        return self.headers is not None and not (self._is_whole or self._error or self._is_counted)

    def begin(self, headers: Headers) -> None:
        self.headers = headers
        self._is_counted = any(bytes(name) == b"content-length" for name, _ in headers)
        self._changed.notify_all()

    def got(self, data: bytes, counted: int) -> None:
        """h2 had data. counted: of the peer's window."""
        self._keep(data)
        self._counted += counted
        self._changed.notify_all()

    def took_in(self, data: bytes) -> bool:
        """Data came, without h2; False where the peer sends more than it may. ``wake`` has to be called later."""
        self._untaken += len(data)
        if data:
            self._keep(data)
        return self._untaken + self._ungranted <= STREAM_BYTES

    def got_end(self) -> None:
        self._is_whole = True
        self._changed.notify_all()

    def lost(self, error: str) -> list[Callable[[], None]]:
        """It is gone. What to call, without the lock."""
        self._error = self._error or error
        self._changed.notify_all()
        calls, self._when_gone = self._when_gone, []
        return calls

    def wake(self) -> None:
        self._changed.notify_all()

    def _keep(self, data: bytes) -> None:
        """Until it is read."""
        last = self._pieces[-1] if self._pieces else b""
        if len(data) >= _SMALL:
            self._pieces.append(data)
        elif isinstance(last, bytearray):
            last += data
        else:
            self._pieces.append(bytearray(data))

    def _drop(self) -> None:
        """What is here was taken: the peer may send as much again."""
        self._pieces.clear()
        if self._counted:
            self._connection.acknowledge(self.number, self._counted)
        self._ungranted += self._untaken
        self._counted = self._untaken = 0
        if self._ungranted >= _GRANTED_BYTES or (self._is_whole and self._ungranted):
            self._connection.queue(grant(0 if self._is_whole else self.number, self._ungranted))
            self._ungranted = 0

    def _check(self) -> None:
        if self._error:
            raise StreamError(self._error)


@contextlib.contextmanager
def as_stream_errors() -> Iterator[None]:
    """Within, what h2 refuses is a StreamError."""
    try:
        yield
    except ProtocolError as error:
        raise StreamError(str(error) or type(error).__name__) from error
