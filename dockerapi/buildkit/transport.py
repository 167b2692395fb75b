"""HTTP/2 on a connection, either end of it: streams of bytes for threads, with bounds and time-outs.

The protocol itself is ``h2``'s, which does no I/O, but for frames of data: see ``frames``. One thread reads
(``Connection.run``), one writes, and whoever has a stream waits for it. So nobody who is slow holds a reader up, and a
peer that takes nothing is cut off.

What a peer may have us keep: ``_STREAMS`` streams at once, of each ``STREAM_BYTES`` that nobody took yet; and
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
from collections.abc import Callable
from typing import Final

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

from dockerapi.buildkit.frames import Data, Frames, ending
from dockerapi.buildkit.httpstream import PATIENCE_S, STREAM_BYTES, Headers, Stream, StreamError, as_stream_errors

_IDLE_S: Final = 600.0
"""A connection without a stream is kept for so long."""

_PREFACE_S: Final = 20.0
_TIME: Final = struct.Struct("ll")
_STREAMS: Final = 250
_PIECE: Final = 256 << 10
_MANY, _LITTLE, _AT_ONCE_S = 32, 4096, 0.001
"""Who has sent so often so little so soon is left to send some more: each time is a wake-up of two threads."""

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
                SettingCodes.INITIAL_WINDOW_SIZE: STREAM_BYTES,
                SettingCodes.MAX_CONCURRENT_STREAMS: _STREAMS,
                SettingCodes.MAX_HEADER_LIST_SIZE: _MOST_HEADERS,
                SettingCodes.ENABLE_PUSH: 0,
            },
        )
        self._sock = sock
        self._early = early
        self._opens = opens
        self._frames = Frames(opens=opens)
        self._streams: dict[int, Stream] = {}
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._to_send = threading.Condition(self.lock)
        self._ended = ""
        self._used = time.monotonic()
        sock.setblocking(True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIME.pack(int(PATIENCE_S), 0))
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(_STREAMS * STREAM_BYTES)

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
            with as_stream_errors():
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

    def acknowledge(self, number: int, counted: int) -> None:
        """Somebody took so much of what h2 has counted: the peer may send as much again."""
        if counted and not self._ended:
            with contextlib.suppress(ProtocolError):
                self.h2.acknowledge_received_data(counted, number)
            self.flush()

    def flush(self) -> None:
        """Give the writer what is to be sent."""
        data = self.h2.data_to_send()
        if data:
            self.queue(data)

    def queue(self, data: bytes) -> None:
        """Give the writer whole frames."""
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
        quick = 0
        with self.lock:
            self.flush()
        while not self._ended:
            if data:
                calls: list[Callable[[], None]] = []
                with self.lock:
                    try:
                        calls += self._took_in(data, accept)
                    except (ProtocolError, ValueError, IndexError) as error:
                        # h2 has queued what tells the peer of it
                        self.end(f"the client broke the protocol: {error}")
                        return
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
            asked = time.monotonic()
            if not ready.poll(1000):
                with self.lock:
                    now = time.monotonic()
                    is_late = now > preface_until and not is_begun
                    if is_late or (not self._streams and now - self._used > _IDLE_S and not self._opens):
                        return
                continue
            if time.monotonic() - asked > _AT_ONCE_S:
                quick = 0
            elif quick >= _MANY:
                time.sleep(_AT_ONCE_S)
            try:
                data = self._sock.recv(_PIECE)
            except OSError:
                return
            if not data:
                return
            quick += len(data) < _LITTLE

    def _took_in(self, data: bytes, accept: Callable[[Stream], None] | None) -> list[Callable[[], None]]:
        """What the peer sent. What to call, without the lock. Raises ProtocolError, and what else h2 raises."""
        calls: list[Callable[[], None]] = []
        woken: dict[int, Stream] = {}
        for piece in self._frames.cut(data, self.h2.max_inbound_frame_size, self._is_open):
            if isinstance(piece, Data):
                stream = woken[piece.stream] = self._streams[piece.stream]
                if not stream.took_in(piece.payload):
                    raise ProtocolError("it sends more than it may")
                events = self.h2.receive_data(ending(piece.stream)) if piece.is_last else ()
            else:
                events = self.h2.receive_data(piece)
            for event in events:
                calls += self._happened(event, accept)
        for stream in woken.values():
            stream.wake()
        return calls

    def _is_open(self, number: int) -> bool:
        stream = self._streams.get(number)
        return stream is not None and stream.is_open

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
            stream.begin(event.headers or ())
            return [lambda: accept(stream)]
        found = self._streams.get(number)
        if found is None:
            if isinstance(event, DataReceived):  # of one that was closed here
                self.acknowledge(event.stream_id or 0, event.flow_controlled_length or 0)
            return []
        if isinstance(event, DataReceived):
            if event.data:
                found.got(event.data, event.flow_controlled_length or 0)
            else:
                self.acknowledge(number, event.flow_controlled_length or 0)
        elif isinstance(event, ResponseReceived):
            found.begin(event.headers or ())
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
