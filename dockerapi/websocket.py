"""WebSocket's frames as an attach has them: what a client sends is passed on while the rest of it is still to come.

The handshake, and frames that are made whole, are ``core.websocket``'s.  RFC 6455
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from core.errors import WebSocketError
from core.websocket import frame

_CONTINUED, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_MOST_CONTROL: Final = 125
_NORMAL: Final = 1000
_PROTOCOL_ERROR: Final = 1002


class Come(NamedTuple):
    """What a client has sent. data: of a message, whose borders mean nothing here; of a ping; of a close."""

    kind: Literal["data", "ping", "close"]
    data: bytes


def output(data: bytes) -> bytes:
    """What a container has written."""
    return frame("binary", data, is_masked=False)


def pong(data: bytes) -> bytes:
    """The answer to a ping."""
    return frame("pong", data, is_masked=False)


def close(code: int = _NORMAL) -> bytes:
    """The last frame."""
    return frame("close", code.to_bytes(2, "big"), is_masked=False)


def failed() -> bytes:
    """The last frame for a client that does not keep to the protocol."""
    return close(_PROTOCOL_ERROR)


class Frames:
    """Reads what a client sends, piece by piece: of a frame's data nothing waits for the rest."""

    def __init__(self) -> None:
        self._data = b""
        self._kind = 0
        self._left = 0
        self._mask = b""
        self._is_open = False

    def take(self, data: bytes) -> list[Come]:
        """What these further bytes bring. Raises WebSocketError."""
        self._data += data
        found: list[Come] = []
        while self._left or self._head():
            if self._kind >= _CLOSE:
                if len(self._data) < self._left:
                    break
                size = self._left
            else:
                size = min(self._left, len(self._data))
                if self._left and not size:
                    break
            data = self._unmasked(size)
            if self._kind == _CLOSE:
                found.append(Come("close", data))
                break
            if self._kind == _PING:
                found.append(Come("ping", data))
            elif self._kind != _PONG and data:
                found.append(Come("data", data))
        return found

    def _head(self) -> bool:
        """Read the head of the next frame; False while it is not all here."""
        data = self._data
        if len(data) < 2:
            return False
        if data[0] & 0x70:
            raise WebSocketError("extensions were not agreed on")
        if not data[1] & 0x80:
            raise WebSocketError("a client's frames are masked")
        kind, size, at = data[0] & 0x0F, data[1] & 0x7F, 2
        if kind not in (_CONTINUED, _TEXT, _BINARY, _CLOSE, _PING, _PONG):
            raise WebSocketError(f"there are no frames of the kind {kind}")
        if kind >= _CLOSE and (size > _MOST_CONTROL or not data[0] & 0x80):
            raise WebSocketError("a control frame is short and whole")
        if size > _MOST_CONTROL:
            more = 2 if size == 126 else 8
            size, at = int.from_bytes(data[2 : 2 + more], "big"), 2 + more
            if len(data) >= at and size >> 63:
                raise WebSocketError("a frame is too large")
        if len(data) < at + 4:
            return False
        if kind < _CLOSE:
            if (kind == _CONTINUED) is not self._is_open:
                raise WebSocketError("a message has one beginning")
            self._is_open = not data[0] & 0x80
        self._kind, self._left = kind, size
        self._mask, self._data = data[at : at + 4], data[at + 4 :]
        return True

    def _unmasked(self, size: int) -> bytes:
        data, self._data = self._data[:size], self._data[size:]
        self._left -= size
        mask = (self._mask * (size // 4 + 1))[:size]
        turn = size % 4
        self._mask = self._mask[turn:] + self._mask[:turn]
        return (int.from_bytes(data, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")
