"""Attach by WebSocket: frames, and a container's streams in them."""

from __future__ import annotations

import os
import socket
import struct
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import WebSocketError
from dockerapi.websocket import Come, Frames
from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.engineapi import Api
from tests.toolkit.shiplap import BUSYBOX_NAME

_BINARY: Final = 2
_KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="


def masked(kind: int, data: bytes, *, last: bool = True, mask: bytes = b"\x01\x02\x03\xff") -> bytes:
    """A frame as clients send it."""
    head = bytes((0x80 * last | kind,))
    if len(data) < 126:
        head += bytes((0x80 | len(data),))
    elif len(data) < 1 << 16:
        head += bytes((0xFE,)) + struct.pack(">H", len(data))
    else:
        head += bytes((0xFF,)) + struct.pack(">Q", len(data))
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))


@given(st.lists(st.tuples(st.binary(max_size=400), st.binary(min_size=4, max_size=4))), st.data())
def test_data_comes_whole_however_it_is_cut(messages: list[tuple[bytes, bytes]], draw: st.DataObject) -> None:
    sent = b"".join(masked(2, data, mask=mask) + masked(9, b"p") for data, mask in messages)
    frames, got, pings = Frames(), b"", 0
    while sent:
        size = draw.draw(st.integers(1, len(sent)))
        for come in frames.take(sent[:size]):
            got += come.data if come.kind == "data" else b""
            pings += come == Come("ping", b"p")
        sent = sent[size:]
    assert got == b"".join(data for data, _ in messages)
    assert pings == len(messages)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x82\x01x", b"\xc2\x80abcd", b"\x83\x80abcd", b"\x09\x80abcd", b"\x89\xfe\x01\x00abcd", masked(0, b"x"),
        masked(2, b"x", last=False) + masked(2, b"y"), b"\x82\xff" + b"\xff" * 8 + b"abcd",
    ],
    ids=["no mask", "extension", "kind", "a part of a ping", "long ping", "nothing goes on", "two begin", "too large"],
)  # fmt: skip
def test_what_is_no_frame(sent: bytes) -> None:
    with pytest.raises(WebSocketError):
        Frames().take(sent)


def _asked(api: Api, name: str, *, query: str = "", more: str = "", key: str = _KEY) -> tuple[socket.socket, bytes]:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(stretched(60))
    client.connect(str(api.socket))
    client.sendall(
        f"GET /containers/{name}/attach/ws{query} HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{more}\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(1)
    return client, head


def _exactly(client: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        data = client.recv(size - len(found))
        assert data, found
        found += data
    return found


def _read(client: socket.socket, size: int) -> bytes:
    """So many bytes of data, from as many frames as it takes."""
    found = b""
    while len(found) < size:
        first, length = _exactly(client, 2)
        assert first == 0x80 | _BINARY
        if length >= 126:
            length = int.from_bytes(_exactly(client, 2 if length == 126 else 8), "big")
        found += _exactly(client, length)
    return found


@pytest.mark.usefixtures("privileged")
def test_a_containers_streams(api: Api) -> None:
    api.docker("run", "-di", "--name", "ws", "--network", "none", BUSYBOX_NAME, "cat", check=True)
    client, head = _asked(api, "ws", more="Origin: http://here\r\n")
    with client:
        assert head.startswith(b"HTTP/1.1 101 "), client.recv(500)
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
        data = os.urandom(70_000)
        client.sendall(masked(_BINARY, data[:5]))
        assert _read(client, 5) == data[:5]
        client.sendall(masked(9, b"hi"))
        assert client.recv(4) == b"\x8a\x02hi"
        client.sendall(masked(_BINARY, data))
        assert _read(client, len(data)) == data
        client.sendall(b"\x82\x01x")
        assert client.recv(100) == b"\x88\x02\x03\xea"  # 1002
        assert client.recv(1) == b""
    client, head = _asked(api, "ws", query="?logs=1&stdout=1")
    with client:
        assert head.startswith(b"HTTP/1.1 101 "), client.recv(500)
    client, _ = _asked(api, "ws", query="?stream=1&stdout=1")
    with client:
        api.docker("kill", "ws", check=True)
        assert client.recv(100) == b"\x88\x02\x03\xe8"
    api.docker("rm", "-f", "ws")


@pytest.mark.usefixtures("privileged")
@pytest.mark.parametrize(
    ("more", "key", "status"),
    [
        ("Origin: http://evil.example\r\n", _KEY, b"403"),
        ("Origin: null\r\n", _KEY, b"403"),
        ("Origin: http://[here\r\n", _KEY, b"403"),
        ("", "short", b"400"),
        ("", "é" * 24, b"400"),
    ],
)
def test_who_may_not_attach_so(api: Api, more: str, key: str, status: bytes) -> None:
    made = api.docker("create", "--network", "none", BUSYBOX_NAME, "cat", check=True).stdout.strip()
    client, head = _asked(api, made, more=more, key=key)
    with client:
        assert head.split()[1] == status
    api.docker("rm", made)


@pytest.mark.usefixtures("privileged")
def test_nobody_waits_for_a_client_that_went_away(api: Api) -> None:
    api.docker("run", "-di", "--name", "left", "--network", "none", BUSYBOX_NAME, "cat", check=True)
    for _ in range(20):
        client, _ = _asked(api, "left", query="?stream=1&stdin=1&stdout=1")
        client.close()
    eventually(lambda: api.docker("inspect", "-f", "{{.State.Running}}", "left").stdout == "false\n" or api.answers())
    api.docker("rm", "-f", "left", check=True)
