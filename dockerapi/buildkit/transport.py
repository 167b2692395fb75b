"""HTTP/2 on a connection, either end of it: streams of bytes for threads, with bounds and time-outs.

The protocol itself is ``h2``'s, which does no I/O. One thread reads (``Connection.run``), one writes, and whoever has a
stream waits for it. So nobody who is slow holds a reader up, and a peer that takes nothing is cut off.

What a peer may have us keep: ``_STREAMS`` streams at once, of each ``_STREAM_BYTES`` that nobody took yet; and
``_MOST_QUEUED`` bytes of answers to its frames that it does not take.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

PATIENCE_S: Final = 60.0
"""How long a peer may take nothing, or owe us a piece that is due."""

_IDLE_S: Final = 600.0
"""A connection without a stream is kept for so long."""

_PREFACE_S: Final = 20.0
_TIME: Final = struct.Struct("ll")
_STREAMS: Final = 250
_STREAM_BYTES: Final = 1 << 20
_PIECE: Final = 256 << 10
_MOST_UNSENT: Final = 1 << 20
_MOST_QUEUED: Final = 4 << 20
"""More than data makes: a peer that has us answer so much and reads none of it is cut off."""

_MOST_HEADERS: Final = 64 << 10


def refuse(sock: socket.socket, why: str) -> None:
    """Tell a client that its connection is not served. Raises OSError."""
    h2 = H2Connection(H2Configuration(client_side=False))
    h2.initiate_connection()
    h2.close_connection(ErrorCodes.ENHANCE_YOUR_CALM, why.encode())
    sock.settimeout(PATIENCE_S)
    sock.sendall(h2.data_to_send())


class StreamError(Exception):
    """A stream that ended before its time: reset, its connection lost, or the peer did not answer in time."""


class Stream:
    """One stream. Any thread may use it; one reads and one writes at a time.

    headers: the request's or the answer's, once there.
    trailers: what came after the body.
    """

    def __init__(self, connection: Connection, number: int) -> None:
        self.headers: Headers | None = None
        self.trailers: Headers = ()
        self.number = number
        self._connection = connection
        self._changed = threading.Condition(connection.lock)
        self._pieces: deque[tuple[bytes, int]] = deque()
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
                data = b"".join(piece for piece, _ in self._pieces)
                self._connection.took(self.number, sum(counted for _, counted in self._pieces))
                self._pieces.clear()
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
            with _as_stream_errors():
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
                    with _as_stream_errors():
                        room = min(h2.local_flow_control_window(self.number), h2.max_outbound_frame_size, _PIECE)
                if room <= 0:
                    # What happens on other streams wakes this one, and is no reason to wait longer.
                    if time.monotonic() > until:
                        raise StreamError(f"the client has taken nothing for {PATIENCE_S:.0f} seconds")
                    self._changed.wait(max(0.0, until - time.monotonic()))
                    continue
                with _as_stream_errors():
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
            with _as_stream_errors():
                self._connection.h2.end_stream(self.number)
            self._connection.flush()

    def close(self) -> None:
        """Have done with it; reset it where it is not at its end. What was not read is dropped."""
        with self._connection.lock:
            if not self._error and not (self._is_whole and self._is_finished):
                with contextlib.suppress(ProtocolError):
                    self._connection.h2.reset_stream(self.number, ErrorCodes.CANCEL)
            while self._pieces:
                self._connection.took(self.number, self._pieces.popleft()[1])
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

    def got(self, data: bytes, counted: int) -> None:
        self._pieces.append((data, counted))
        self._changed.notify_all()

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

    def _check(self) -> None:
        if self._error:
            raise StreamError(self._error)


class Connection:
    """An HTTP/2 connection. ``run`` has to be called, in a thread.

    opens: whether this end opens the streams; the other one serves them.
    lock: guards ``h2`` and all streams.
    """

    def __init__(self, sock: socket.socket, *, early: bytes = b"", opens: bool) -> None:
        self.lock = threading.RLock()
        self.h2 = H2Connection(H2Configuration(client_side=opens, header_encoding=None))
        self.h2.local_settings = Settings(
            client=opens,
            initial_values={
                SettingCodes.INITIAL_WINDOW_SIZE: _STREAM_BYTES,
                SettingCodes.MAX_CONCURRENT_STREAMS: _STREAMS,
                SettingCodes.MAX_HEADER_LIST_SIZE: _MOST_HEADERS,
                SettingCodes.ENABLE_PUSH: 0,
            },
        )
        self._sock = sock
        self._early = early
        self._opens = opens
        self._streams: dict[int, Stream] = {}
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._to_send = threading.Condition(self.lock)
        self._ended = ""
        self._used = time.monotonic()
        sock.setblocking(True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIME.pack(int(PATIENCE_S), 0))
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(_STREAMS * _STREAM_BYTES)

    @property
    def is_alive(self) -> bool:
        """Whether it can be used."""
        return not self._ended

    @property
    def has_room(self) -> bool:
        """Whether more may be queued for the writer."""
        return self._unsent_bytes < _MOST_UNSENT

    def run(self, accept: Callable[[Stream], None] | None = None) -> None:
        """Read until the connection ends. accept: called here with each stream that the peer opens; must not wait."""
        writer = threading.Thread(target=self._write, name="http2 writer", daemon=True)
        writer.start()
        try:
            self._read(accept)
        finally:
            self.end("the client closed its connection")
            writer.join()
            self._sock.close()

    def open(self, headers: Headers) -> Stream:
        """Begin a request. Raises StreamError."""
        with self.lock:
            if self._ended:
                raise StreamError(self._ended)
            with _as_stream_errors():
                number = self.h2.get_next_available_stream_id()
                stream = self._streams[number] = Stream(self, number)
                self.h2.send_headers(number, headers)
            self.flush()
            return stream

    def end(self, why: str) -> None:
        """End the connection, and all streams of it."""
        with self.lock:
            if self._ended:
                return
            self._ended = why
            calls = [call for stream in self._streams.values() for call in stream.lost(why)]
            self._streams.clear()
            with contextlib.suppress(ProtocolError):
                self.h2.close_connection()
            self.flush()
            self._to_send.notify_all()
        for call in calls:
            call()

    # Below: for streams, which hold the lock.

    def took(self, number: int, counted: int) -> None:
        """Somebody took so much of what the peer sent: it may send as much again."""
        if counted and not self._ended:
            with contextlib.suppress(ProtocolError):
                self.h2.acknowledge_received_data(counted, number)
            self.flush()

    def flush(self) -> None:
        """Give the writer what is to be sent."""
        data = self.h2.data_to_send()
        if data:
            self._unsent.append(data)
            self._unsent_bytes += len(data)
            self._to_send.notify_all()

    def forget(self, number: int) -> None:
        self._streams.pop(number, None)
        self._used = time.monotonic()

    def _write(self) -> None:
        while True:
            with self.lock:
                self._to_send.wait_for(lambda: self._unsent or self._ended)
                if not self._unsent:
                    break
                data, self._unsent_bytes = b"".join(self._unsent), 0
                self._unsent.clear()
                for stream in self._streams.values():
                    stream.wake()
            try:
                self._sock.sendall(data)
            except OSError:
                self.end("the client takes nothing")
                break
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def _read(self, accept: Callable[[Stream], None] | None) -> None:
        ready = select.poll()
        ready.register(self._sock, select.POLLIN)
        data = self._early
        preface_until = time.monotonic() + _PREFACE_S
        is_begun = False
        with self.lock:
            self.flush()
        while not self._ended:
            if data:
                calls: list[Callable[[], None]] = []
                with self.lock:
                    try:
                        events = self.h2.receive_data(data)
                    except (ProtocolError, ValueError, IndexError) as error:
                        # h2 has queued what tells the peer of it
                        self.end(f"the client broke the protocol: {error}")
                        return
                    for event in events:
                        calls += self._happened(event, accept)
                    self.flush()
                    is_begun = True
                    is_too_much = self._unsent_bytes > _MOST_QUEUED
                for call in calls:
                    call()
                if is_too_much:
                    self.end("the client takes no answers")
                    with contextlib.suppress(OSError):
                        self._sock.shutdown(socket.SHUT_RDWR)  # the writer waits for it
                    return
            data = b""
            if not ready.poll(1000):
                with self.lock:
                    now = time.monotonic()
                    is_late = now > preface_until and not is_begun
                    if is_late or (not self._streams and now - self._used > _IDLE_S and not self._opens):
                        return
                continue
            try:
                data = self._sock.recv(_PIECE)
            except OSError:
                return
            if not data:
                return

    def _happened(self, event: Event, accept: Callable[[Stream], None] | None) -> list[Callable[[], None]]:
        """An event of the peer's. What to call, without the lock."""
        number = getattr(event, "stream_id", None)
        if not number:  # it concerns all: settings, a window
            for each in self._streams.values():
                each.wake()
            return []
        if isinstance(event, RequestReceived) and accept is not None:
            self._used = time.monotonic()
            stream = self._streams[number] = Stream(self, number)
            stream.headers = event.headers or ()
            return [lambda: accept(stream)]
        found = self._streams.get(number)
        if found is None:
            if isinstance(event, DataReceived):  # of one that was closed here
                self.took(event.stream_id or 0, event.flow_controlled_length or 0)
            return []
        if isinstance(event, DataReceived):
            found.got(event.data or b"", event.flow_controlled_length or 0)
        elif isinstance(event, ResponseReceived):
            found.headers = event.headers or ()
            found.wake()
        elif isinstance(event, TrailersReceived):
            found.trailers = event.headers or ()
        elif isinstance(event, StreamEnded):
            found.got_end()
        elif isinstance(event, StreamReset):
            self._streams.pop(number, None)
            return found.lost("the client cancelled it")
        elif isinstance(event, WindowUpdated):
            found.wake()
        return []


@contextlib.contextmanager
def _as_stream_errors() -> Iterator[None]:
    try:
        yield
    except ProtocolError as error:
        raise StreamError(str(error) or type(error).__name__) from error
