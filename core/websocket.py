"""Frames of the WebSocket protocol, without a connection: what a server and a client of ours say to each other.

RFC 6455. Data goes in both directions in binary messages, control in text messages. Messages may come in pieces, and
are bounded. Nothing is compressed, and no extension is spoken.
"""

from __future__ import annotations

import base64
import hashlib
import os
import struct
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from core.errors import WebSocketError

MAX_MESSAGE_BYTES: Final = 64 << 10

Opcode: TypeAlias = Literal["text", "binary", "close", "ping", "pong"]

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3
_KEY_BYTES: Final = 16
_CONTINUATION: Final = 0
_OPCODES: Final[Mapping[int, Opcode]] = {1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}
_NUMBERS: Final = {name: number for number, name in _OPCODES.items()}
_FINAL: Final = 0x80
_RESERVED: Final = 0x70
_MASKED: Final = 0x80
_CONTROL: Final = 0x8
_SHORT: Final = 125  # bytes that a control frame may have, and that one byte can say; then 16 bits, then 64 follow
_IN_16_BITS: Final = 126
_IN_64_BITS: Final = 127


class Message(NamedTuple):
    """A message that has come whole."""

    kind: Opcode
    data: bytes


def new_key() -> str:
    """What a client sends as ``Sec-WebSocket-Key``."""
    return base64.b64encode(os.urandom(_KEY_BYTES)).decode()


def accepted(key: str) -> str:
    """What a server answers to a client's key, as ``Sec-WebSocket-Accept``. Raises WebSocketError: it is no key."""
    try:
        is_key = len(base64.b64decode(key, validate=True)) == _KEY_BYTES
    except ValueError:
        is_key = False
    if not is_key:
        raise WebSocketError("Sec-WebSocket-Key is not 16 bytes in base64")
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def frame(kind: Opcode, data: bytes, *, is_masked: bool) -> bytes:
    """A message as one frame. is_masked: it is a client's, which has to mask what it sends (section 5.3)."""
    head = bytes([_FINAL | _NUMBERS[kind]])
    masked = _MASKED if is_masked else 0
    if len(data) <= _SHORT:
        head += bytes([masked | len(data)])
    elif len(data) < 1 << 16:
        head += struct.pack("!BH", masked | _IN_16_BITS, len(data))
    else:
        head += struct.pack("!BQ", masked | _IN_64_BITS, len(data))
    if not is_masked:
        return head + data
    mask = os.urandom(4)
    return head + mask + _mask(data, mask)


class Reader:
    """Makes messages of what comes. is_server: what comes is a client's, and has to be masked; else it must not be."""

    def __init__(self, *, is_server: bool) -> None:
        self._is_server = is_server
        self._buffer = bytearray()
        self._kind: Opcode | None = None  # of a message of which there are pieces
        self._pieces = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are whole with these bytes. Raises WebSocketError."""
        self._buffer += data
        found = []
        while (read := self._frame()) is not None:
            message = self._joined(*read)
            if message is not None:
                found.append(message)
        return found

    def _frame(self) -> tuple[bool, int, bytes] | None:
        """The next frame: whether it is the message's last, its opcode, and its data; None: more has to come."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, second = buffer[0], buffer[1]
        if first & _RESERVED:
            raise WebSocketError("a frame of an extension that was not agreed on")
        if bool(second & _MASKED) is not self._is_server:
            raise WebSocketError("a client masks its frames, and a server does not")
        size, at = second & ~_MASKED, 2
        if size == _IN_16_BITS:
            size, at = int.from_bytes(buffer[2:4], "big") if len(buffer) >= 4 else -1, 4
        elif size == _IN_64_BITS:
            size, at = int.from_bytes(buffer[2:10], "big") if len(buffer) >= 10 else -1, 10
        if size > MAX_MESSAGE_BYTES:
            raise WebSocketError(f"a message has more than {MAX_MESSAGE_BYTES} bytes")
        begin = at + (4 if self._is_server else 0)
        if size < 0 or len(buffer) < begin + size:
            return None
        data = bytes(buffer[begin : begin + size])
        if self._is_server:
            data = _mask(data, bytes(buffer[at:begin]))
        del buffer[: begin + size]
        return bool(first & _FINAL), first & 0x0F, data

    def _joined(self, is_last: bool, opcode: int, data: bytes) -> Message | None:
        """The message that a frame ends; None: others have to follow."""
        kind = _OPCODES.get(opcode)
        if opcode & _CONTROL:  # it may come between the pieces of another message
            if kind is None or not is_last or len(data) > _SHORT:
                raise WebSocketError("a control frame that is none")
            return Message(kind, data)
        if (opcode == _CONTINUATION) is (self._kind is None) or (kind is None and opcode != _CONTINUATION):
            raise WebSocketError("a piece of a message out of its order")
        self._kind = self._kind or kind
        self._pieces += data
        if len(self._pieces) > MAX_MESSAGE_BYTES:
            raise WebSocketError(f"a message has more than {MAX_MESSAGE_BYTES} bytes")
        if not is_last or self._kind is None:
            return None
        message = Message(self._kind, bytes(self._pieces))
        self._kind, self._pieces = None, bytearray()
        return message


def _mask(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    whole = mask * (size // 4 + 1)
    return (int.from_bytes(data, "big") ^ int.from_bytes(whole[:size], "big")).to_bytes(size, "big")
