"""Messages between the engine, the nursery and keepers: a JSON object and some descriptors per packet.

JSON and not ``marshal``: an engine of the next release, on another Python, talks to the keepers of this one. What comes
first, both ways, is ``hello`` with PROTOCOL and the release. Verbs are only added; who asks speaks the last two.

    {"verb": "stop", "timeout_s": 10}          asked, with what the verb needs
    {"ok": true, …}                            answered
    {"error": {"kind": "StateError", "text": …, "hint": …}}
    {"large": true}                            and the message is in the first descriptor, a memfd

Sockets are SOCK_SEQPACKET, so a message is whole or absent. Both ends belong to the same user.
"""

from __future__ import annotations

import _socket
import errno
import json
import os

from containers.errors import BY_NAME, ContainerError, KeeperError, NoAnswerError, NotExecutedError
from containers.events import readable
from core import packets
from core.packets import MAX_BYTES
from core.release import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

PROTOCOL = 2
"""2: ``hand`` gives a keeper the connection of the client for whose sake one waits."""

OLDEST = 1
"""The oldest protocol that this release still speaks to."""

_MOST_LARGE_BYTES = 64 << 20
_ASK_TIMEOUT_S = 60.0
BEGIN_TIMEOUT_S = 120.0
"""How long a container, or a process in one, may take to begin before whoever asked for it is told that it does not."""


def hello() -> dict[str, Any]:
    """What both sides say first."""
    return {"hello": {"protocol": PROTOCOL, "release": VERSION}}


def send(sock: _socket.socket, message: dict[str, Any], fds: Sequence[int] = (), *, flags: int = 0) -> None:
    """Send a message with at most ``packets.MAX_FDS`` descriptors.

    Raises OSError; BrokenPipeError when the other side is gone.
    """
    data = json.dumps(message).encode("ascii")
    if len(data) <= MAX_BYTES:
        packets.send(sock, data, fds, flags=flags)
        return
    memfd = os.memfd_create("shiplap", os.MFD_CLOEXEC)
    try:
        with open(memfd, "wb", closefd=False) as file:
            file.write(data)
        packets.send(sock, b'{"large": true}', [memfd, *fds], flags=flags)
    finally:
        os.close(memfd)


def receive(sock: _socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message and its descriptors (close-on-exec); None when the other side has closed.

    Raises OSError (EMFILE when this process may not have that many descriptors), ValueError for what is no message.
    """
    received = packets.receive(sock)
    if received is None:
        return None
    data, fds, is_whole = received
    try:
        if not is_whole:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        message = _decoded(data)
        if message.get("large"):
            memfd = fds.pop(0)
            try:
                message = _decoded(_contents(memfd))
            finally:
                os.close(memfd)
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return message, fds


def _decoded(data: bytes) -> dict[str, Any]:
    message = json.loads(data)
    if not isinstance(message, dict):
        raise ValueError("a message is an object")
    return message


def _contents(memfd: int) -> bytes:
    size = os.fstat(memfd).st_size
    if size > _MOST_LARGE_BYTES:
        raise ValueError(f"a message of {size} bytes")
    return os.pread(memfd, size, 0)


def error_fields(error: ContainerError) -> dict[str, Any]:
    """An error as an answer."""
    fields: dict[str, Any] = {"kind": type(error).__name__, "text": error.message, "hint": error.hint}
    if isinstance(error, NotExecutedError):
        fields["code"] = error.code
    return {"error": fields}


def as_error(fields: dict[str, Any]) -> ContainerError:
    """The error that an answer tells of; of a kind that only a newer release knows, a ContainerError."""
    error = BY_NAME.get(fields["kind"], ContainerError)(fields["text"], hint=fields.get("hint"))
    if isinstance(error, NotExecutedError):
        error.code = fields["code"]
    return error


class Conversation:
    """A connection to a keeper or to the nursery, for one thread. Ended by ``close``, or the end of its ``with``.

    socket: what it goes over.
    release: of the process at the other end.
    protocol: what that speaks.
    """

    def __init__(self, sock: _socket.socket, release: str, protocol: int = PROTOCOL) -> None:
        self.socket = sock
        self.release = release
        self.protocol = protocol

    def ask(
        self,
        verb: str,
        fields: dict[str, Any] | None = None,
        fds: Sequence[int] = (),
        *,
        timeout_s: float | None = _ASK_TIMEOUT_S,
    ) -> tuple[dict[str, Any], list[int]]:
        """Ask for something; the answer and its descriptors, which the caller closes.

        timeout_s: None waits as long as it takes. Raises the ContainerError that the other side names; KeeperError when
        it is gone; NoAnswerError.
        """
        try:
            send(self.socket, {**(fields or {}), "verb": verb}, fds)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise KeeperError("the process that was asked is gone") from error
        return self.receive(timeout_s=timeout_s)

    def receive(self, *, timeout_s: float | None = None) -> tuple[dict[str, Any], list[int]]:
        """The next message of the other side: an answer, or what came of it later (``ended`` of an exec).

        Raises as ``ask``.
        """
        if timeout_s is not None and not readable(self.socket.fileno(), timeout_s):
            raise NoAnswerError(
                f"the process that was asked has not answered for {timeout_s:.0f} s",
                hint="is it stopped, or this machine very busy? what was asked may still be done",
            )
        try:
            received = receive(self.socket)
        except ConnectionResetError:
            received = None
        if received is None:
            raise KeeperError("the process that was asked is gone")
        message, fds = received
        if isinstance(message.get("error"), dict):  # ``wait`` answers with the text of one, which is none of its own
            for fd in fds:
                os.close(fd)
            raise as_error(message["error"])
        return message, fds

    def fileno(self) -> int:
        """A descriptor for poll(2)."""
        return self.socket.fileno()

    def close(self) -> None:
        """End it. What was handed over to the other side stays there."""
        self.socket.close()

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def connect(path: str, timeout_s: float = 10.0) -> Conversation:
    """Talk to the process that listens at ``path``.

    Raises KeeperError when nobody does, or it ended meanwhile; TimeoutError (NoAnswerError once it is connected).
    """
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0)
    try:
        sock.settimeout(timeout_s)  # connect(2) waits while the other side has too many to accept
        try:
            sock.connect(path)
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError) as error:
            raise KeeperError(f"nobody answers at {path}") from error
        sock.settimeout(None)
        conversation = Conversation(sock, "")
        with_hello, _fds = _greeted(conversation, timeout_s)
        conversation.release, conversation.protocol = with_hello["release"], with_hello["protocol"]
        return conversation
    except BaseException:
        sock.close()
        raise


def _greeted(conversation: Conversation, timeout_s: float) -> tuple[dict[str, Any], list[int]]:
    try:
        send(conversation.socket, hello())
    except (BrokenPipeError, ConnectionResetError) as error:
        raise KeeperError("the process that was asked is gone") from error
    message, fds = conversation.receive(timeout_s=timeout_s)
    told = message.get("hello", {})
    if not isinstance(told.get("protocol"), int) or told["protocol"] < OLDEST:
        raise KeeperError(
            f"a process of another release (protocol {told.get('protocol')}) answers",
            hint="stop the container with the release that started it",
        )
    return told, fds
