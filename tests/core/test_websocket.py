"""Frames of the WebSocket protocol, against RFC 6455's own examples and against garbage."""

from __future__ import annotations

import os
import random

import pytest

from core.errors import WebSocketError
from core.websocket import MAX_MESSAGE_BYTES, Message, Reader, accepted, frame, new_key

_LONG = b"\xfe\xff\xff" + bytes(4) + b"x" * 65535  # of a frame with a mask that changes nothing


def test_key_is_accepted_as_in_the_standard() -> None:
    assert accepted("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # section 1.3
    assert accepted(new_key()) != accepted(new_key())


@pytest.mark.parametrize("key", ["", "x", "dGhlIHNhbXBsZQ==", "dGhlIHNhbXBsZSBub25jZQ==\r\nX: y", "é" * 24])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(WebSocketError, match="16 bytes"):
        accepted(key)


def test_frames_are_those_of_the_standard() -> None:
    hello = Message("text", b"Hello")
    assert Reader(is_server=False).feed(b"\x81\x05Hello") == [hello]  # section 5.7
    assert Reader(is_server=True).feed(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58") == [hello]
    assert Reader(is_server=False).feed(b"\x01\x03Hel\x89\x05Hello\x80\x02lo") == [Message("ping", b"Hello"), hello]
    assert frame("text", b"Hello", is_masked=False) == b"\x81\x05Hello"
    assert frame("binary", b"x" * 256, is_masked=False)[:4] == b"\x82\x7e\x01\x00"


@pytest.mark.parametrize("is_masked", [True, False])
def test_messages_of_every_length_come_however_they_are_cut(is_masked: bool) -> None:
    chance = random.Random(7)
    sizes = [0, 1, 2, 3, 4, 125, 126, 127, 65535, MAX_MESSAGE_BYTES]
    sent = [Message("binary", os.urandom(size)) for size in sizes]
    stream = b"".join(frame(each.kind, each.data, is_masked=is_masked) for each in sent)
    reader, found, at = Reader(is_server=is_masked), [], 0
    while at < len(stream):
        size = chance.choice((1, 2, 3, 1000, 30000))
        found += reader.feed(stream[at : at + size])
        at += size
    assert found == sent


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\x82\x01x", "masks"),
        (b"\xc2\x81\0\0\0\0x", "extension"),
        (b"\x83\x80\0\0\0\0", "out of its order"),
        (b"\x80\x80\0\0\0\0", "out of its order"),
        (b"\x02\x80\0\0\0\0\x82\x80\0\0\0\0", "out of its order"),
        (b"\x09\x80\0\0\0\0", "control"),
        (b"\x8b\x80\0\0\0\0", "control"),
        (b"\x89\xfe\x00\x7e", "control"),
        (b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff", "more than"),
        (b"\x82" + _LONG, None),
        (b"\x02" + _LONG + b"\x80" + _LONG, "more than"),
    ],
)
def test_what_breaks_the_protocol_is_refused_and_nothing_grows(data: bytes, told: str | None) -> None:
    reader = Reader(is_server=True)
    if told is None:
        assert len(reader.feed(data)[0].data) == 65535
        return
    with pytest.raises(WebSocketError, match=told):
        reader.feed(data + bytes(200))
