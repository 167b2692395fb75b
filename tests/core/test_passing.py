"""Connections that are passed on: whole with what was read of them, or not at all."""

from __future__ import annotations

import socket
import struct
from contextlib import ExitStack

import pytest

from core import passing


def _pair(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    first, second = socket.socketpair()
    for each in (first, second):
        each.settimeout(1.0)  # all that is waited for is there already
        stack.enter_context(each)
    return first, second


def test_a_connection_goes_on_where_it_was_passed_to() -> None:
    with ExitStack() as stack:
        way, far = _pair(stack)
        client, peer = _pair(stack)
        passing.give(way, client, b"GET / HTTP/1.1\r\n")
        client.close()
        taken, received = passing.take(far, 100)
        stack.enter_context(taken)
        assert (received, taken.get_inheritable()) == (b"GET / HTTP/1.1\r\n", False)
        taken.sendall(b"an answer")
        assert peer.recv(100) == b"an answer"


@pytest.mark.parametrize(
    ("sent", "length", "told"), [(b"PUT /half", 20, "of 20 bytes"), (b"x", 101, "more than 100"), (b"", None, "length")]
)
def test_what_comes_short_is_not_taken_and_its_client_sees_the_end(sent: bytes, length: int | None, told: str) -> None:
    with ExitStack() as stack:
        way, far = _pair(stack)
        client, peer = _pair(stack)
        socket.send_fds(way, [b"\0" if length is None else struct.pack("=I", length)], [client.fileno()])
        way.sendall(sent)
        way.shutdown(socket.SHUT_WR)
        client.close()
        with pytest.raises(ConnectionError, match=told):
            passing.take(far, 100)
        assert peer.recv(1) == b""


def test_what_is_no_connection_is_not_taken() -> None:
    with ExitStack() as stack:
        way, far = _pair(stack)
        with open("/dev/null", "rb") as file:
            socket.send_fds(way, [struct.pack("=I", 0)], [file.fileno()])
        with pytest.raises(OSError, match="socket"):
            passing.take(far, 100)
        way.sendall(b"\0\0\0\0")
        with pytest.raises(ConnectionError, match="no descriptor"):
            passing.take(far, 100)
