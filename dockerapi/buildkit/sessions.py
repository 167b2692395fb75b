"""A client's session: the services that it offers us for the time of its builds.

A session is its caller's own: it is looked up by caller and ID, so that nobody reaches another's. What is asked of it
is bounded in time and size. A client that lacks a service answers UNIMPLEMENTED; one that lacks the thing, NOT_FOUND.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import quote_plus

from builder.remotes.ssh import Answer, SshAgent
from core.files import storage_errors
from dockerapi.buildkit import messages
from dockerapi.buildkit.rpc import Asked, Code, RpcError, ask
from dockerapi.buildkit.transport import Connection
from registry.credentials import Credentials

if TYPE_CHECKING:
    from engine.callers import Caller

_WAIT_S: Final = 10.0
_MOST_SECRET: Final = 1 << 20
_MOST_UPLOAD: Final = 64 << 30
_MOST_ANSWER: Final = 256 << 10
_HUB: Final = "registry-1.docker.io"


class Session:
    """A client's session, and what may be asked of it. id: the client's; key: of all that send the same directories."""

    def __init__(self, connection: Connection, identity: str, key: str, methods: Sequence[str]) -> None:
        self.connection = connection
        self.id = identity
        self.key = key
        self._methods = frozenset(method.lower() for method in methods)

    def has(self, method: str) -> bool:
        """Whether the client offers a method."""
        return method.lower() in self._methods

    def credentials(self, domain: str) -> Credentials | None:
        """The client's credentials for a registry; None for none."""
        request = messages.CredentialsRequest(Host=_HUB if domain == "docker.io" else domain)
        try:
            found = ask(self.connection, "/moby.filesync.v1.Auth/Credentials", request, messages.CredentialsResponse)
        except RpcError as error:
            if error.code in (Code.UNIMPLEMENTED, Code.NOT_FOUND):
                return None
            raise
        if not found.Secret:
            return None
        if not found.Username:
            return Credentials("", "", found.Secret, "")
        return Credentials(found.Username, found.Secret, "", "")

    def secret(self, name: str) -> bytes | None:
        """A secret by its ID; None where the client has none of it."""
        method = "/moby.buildkit.secrets.v1.Secrets/GetSecret"
        try:
            found = ask(self.connection, method, messages.GetSecretRequest(ID=name), messages.Bytes)
        except RpcError as error:
            if error.code in (Code.UNIMPLEMENTED, Code.NOT_FOUND):
                return None
            raise
        data: bytes = found.data
        if len(data) > _MOST_SECRET:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"the secret {name} is bigger than {_MOST_SECRET} bytes")
        return data

    def agent(self, name: str) -> SshAgent | None:
        """The SSH agent of an ID; None where the client forwards none of it."""
        try:
            ask(
                self.connection,
                "/moby.sshforward.v1.SSH/CheckAgent",
                messages.CheckAgentRequest(ID=name),
                messages.Empty,
            )
        except RpcError as error:
            if error.code == Code.UNAVAILABLE:
                raise
            return None
        return SshAgent(_Forwarded(self.connection, name))

    def upload(self, path: str, host: str, into: IO[bytes]) -> None:
        """Fetch what the client has under a URL of ``buildkit-session``: a context from its standard input."""
        left = _MOST_UPLOAD
        metadata = {"urlpath": [path], "urlhost": [host]}
        with (
            storage_errors("the build context"),
            Asked(self.connection, "/moby.upload.v1.Upload/Pull", metadata) as asked,
        ):
            while (piece := asked.receive(messages.Bytes, _SLOW_S)) is not None:
                left -= len(piece.data)
                if left < 0:
                    raise RpcError(Code.RESOURCE_EXHAUSTED, f"a context of more than {_MOST_UPLOAD} bytes")
                into.write(piece.data)


_SLOW_S: Final = 600.0
"""Somebody may be making what comes on a client's standard input."""


class _Forwarded:
    """The client's agent, as ``SshAgent`` needs it."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name

    @contextlib.contextmanager
    def session(self) -> Iterator[Answer]:
        metadata = {"buildkit.ssh.id": [self._name]}
        try:
            with Asked(self._connection, "/moby.sshforward.v1.SSH/ForwardAgent", metadata) as asked:
                yield lambda message: _answered(asked, message)
        except RpcError as error:
            raise OSError(error.message) from error  # which ends one connection to the agent


def _answered(asked: Asked, message: bytes) -> bytes:
    """One question to an agent, and its answer. Both have four bytes of length before them on the wire."""
    asked.send(messages.Bytes(data=len(message).to_bytes(4, "big") + message))
    data = bytearray()
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
        piece = asked.receive(messages.Bytes)
        if piece is None or len(data) + len(piece.data) > _MOST_ANSWER:
            raise RpcError(Code.UNAVAILABLE, "the client's SSH agent gave no answer")
        data += piece.data
    return bytes(data[4:])


class Sessions:
    """The sessions of all callers. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sessions: dict[tuple[Caller, str], Session] = {}

    @contextlib.contextmanager
    def offered(self, caller: Caller, session: Session) -> Iterator[None]:
        """Within, the session is there for its caller's builds. Raises RpcError for an ID that is in use."""
        place = caller, session.id
        with self._changed:
            if place in self._sessions:
                raise RpcError(Code.ALREADY_EXISTS, f"session {session.id} already exists")
            self._sessions[place] = session
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                del self._sessions[place]

    def of(self, caller: Caller, identity: str, cancelled: threading.Event) -> Session:
        """A caller's session, which may be about to come. Raises RpcError."""
        until = time.monotonic() + _WAIT_S
        with self._changed:
            while (found := self._sessions.get((caller, identity))) is None:
                if cancelled.is_set() or time.monotonic() > until:
                    raise RpcError(Code.NOT_FOUND, f"no active session for {identity[:100] or 'this build'}")
                self._changed.wait(0.5)
            return found


def encoded(metadata: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Metadata for a session's file services. What a header cannot have is quoted, and a member of its own says so."""
    found: dict[str, list[str]] = {}
    for name, values in metadata.items():
        if all(value.isascii() and value.isprintable() and value == value.strip() for value in values):
            found[name] = list(values)
        else:
            found[name] = [quote_plus(value, errors="surrogateescape") for value in values]
            found[f"{name}-encoded"] = ["1"]
    return found
