"""HTTP/2's data, which is taken without h2: it comes whole, however it is cut, and within its bounds."""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import socket
import threading
import tracemalloc
from collections.abc import Iterator

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection

from dockerapi.buildkit.httpstream import STREAM_BYTES, Stream, StreamError
from dockerapi.buildkit.transport import Connection
from tests.toolkit.bounds import stretched

HEAD = [(b":method", b"POST"), (b":path", b"/"), (b":scheme", b"http"), (b":authority", b"x")]


class Served:
    """A connection whose peer the test is. streams: those that the peer opened, in their order."""

    def __init__(self, sock: socket.socket) -> None:
        self.connection = Connection(sock, opens=False)
        self.streams: queue.Queue[Stream] = queue.Queue()
        self.thread = threading.Thread(target=self.connection.run, args=(self.streams.put,), daemon=True)
        self.thread.start()

    def stream(self) -> Stream:
        return self.streams.get(timeout=stretched(60))


@contextlib.contextmanager
def served() -> Iterator[tuple[socket.socket, Served]]:
    ours, theirs = socket.socketpair()
    with theirs:
        found = Served(ours)
        yield theirs, found
    found.thread.join(stretched(60))
    assert not found.thread.is_alive()


def whole(stream: Stream) -> bytes:
    return b"".join(iter(lambda: stream.read(stretched(60)), b""))


@pytest.mark.parametrize("size", [1, 8, 9, 10, 1000, 1 << 20])
def test_data_is_the_same_however_it_is_cut(size: int) -> None:
    peer = H2Connection(H2Configuration(client_side=True))
    peer.initiate_connection()
    for number, more in ((1, []), (3, [(b"content-length", b"9")])):
        peer.send_headers(number, [*HEAD, *more])
        peer.send_data(number, b"one")
        peer.send_data(number, b"two", pad_length=7)
        peer.send_data(number, b"")
        peer.ping(b"12345678")
        peer.send_data(number, b"end", end_stream=True)
    data = peer.data_to_send()
    with served() as (sock, there):
        for place in range(0, len(data), size):
            sock.sendall(data[place : place + size])
        assert [whole(there.stream()) for _ in range(2)] == [b"onetwoend"] * 2


def test_who_sends_more_than_it_may_is_cut_off() -> None:
    peer = H2Connection(H2Configuration(client_side=True))
    peer.initiate_connection()
    peer.send_headers(1, HEAD)
    with served() as (sock, there):
        sock.sendall(peer.data_to_send())
        stream = there.stream()
        with contextlib.suppress(OSError):
            for _ in range(STREAM_BYTES // 16384 + 1):
                sock.sendall(b"\0\x40\0\0\0\0\0\0\1" + bytes(16384))
        there.thread.join(stretched(60))
        with pytest.raises(StreamError, match="more than it may"):
            whole(stream)


def test_what_comes_in_tiny_frames_takes_no_more_memory_than_it_is_long() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = Stream(Connection(ours, opens=False), 1)
        tracemalloc.start()
        for number in range(20_000):
            assert stream.took_in(b"%02d" % (number % 100))
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept < 100_000
        assert stream.took_in(bytes(2000))
        assert stream.took_in(b"end")
        read = stream.read(0)
    assert (read[:4], read[-2001:], len(read)) == (b"0001", bytes(1998) + b"end", 42_003)


def test_a_frame_that_is_too_long_ends_the_connection() -> None:
    peer = H2Connection(H2Configuration(client_side=True))
    peer.initiate_connection()
    peer.send_headers(1, HEAD)
    with served() as (sock, there):
        sock.sendall(peer.data_to_send())
        stream = there.stream()
        sock.sendall(b"\xff\xff\xff\0\0\0\0\0\1")
        with pytest.raises(StreamError, match="broke the protocol"):
            stream.read(stretched(60))


def test_the_peer_may_go_on_when_what_it_sent_was_taken() -> None:
    sent = os.urandom(5 * STREAM_BYTES + 12345)
    ours, theirs = socket.socketpair()
    there = Served(theirs)
    asks = Connection(ours, opens=True)
    reader = threading.Thread(target=asks.run, daemon=True)
    reader.start()

    def written() -> tuple[threading.Thread, Stream]:
        """All of it is being sent; the other side's stream."""
        stream = asks.open(HEAD)

        def write() -> None:
            with contextlib.suppress(StreamError):
                stream.write(sent)
                stream.end()

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        return writer, there.stream()

    threads = [reader, there.thread]
    for _ in range(3):
        writer, left = written()
        threads.append(writer)
        left.read(stretched(60))
        left.close()  # what nobody reads must not stop what comes later
    writer, stream = written()
    assert hashlib.sha256(whole(stream)).digest() == hashlib.sha256(sent).digest()
    asks.end("done")
    for thread in (*threads, writer):
        thread.join(stretched(60))
        assert not thread.is_alive()
