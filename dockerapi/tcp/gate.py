"""The gate: for each connection over TCP, who it is, a connection to the API as that user, and bytes both ways."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from core import duplex, passing
from core.duplex import Duplex, Secured
from dockerapi.errors import ApiError
from dockerapi.tcp.naming import MOST_HEAD_BYTES, Named, Tokens, of_certificate, of_host, read_head, refusal
from dockerapi.tcp.terms import Terms, TermsError
from engine.callers import GROUP

_MOST_UNKNOWN: Final = 256
"""Connections of whom nobody knows who they are. One more takes the place of the oldest: silence shuts nobody out."""

_MOST: Final = 1000
_MOST_OF_ONE: Final = 600
"""Connections of one user who is not root: what the API allows, and some of which the client does not take the end."""

_KNOWN_S: Final = 20.0
"""So long a client has for its handshake and for its request's head; the service of the tokens has its own time."""

_TOLD_S: Final = 60.0
_HANDED_S: Final = 4.0
_MOST_HANDED: Final = 1 << 20
_PAUSE_S: Final = 0.1
_KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
_NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_log: Final = logging.getLogger(__name__)


class Gate:
    """What lets clients over TCP in, of one process. path: the API's unix socket.

    One thread makes the connections to it: its rights change.
    """

    def __init__(self, terms: Terms, path: str) -> None:
        self._path = path
        self._terms = terms
        self._stamp = terms.stamp()
        self._context = None if terms.insecure else terms.context()
        self._tokens = Tokens(terms) if terms.tokens else None
        self._askers = ThreadPoolExecutor(8, thread_name_prefix="token")
        self._tasks: set[asyncio.Task[None]] = set()
        self._unknown: dict[asyncio.Task[None], None] = {}  # the oldest first
        self._users: Counter[str] = Counter()

    async def serve(self, listeners: Sequence[socket.socket]) -> None:
        """Take connections until cancelled. Of listeners those at unix sockets get connections from a service."""
        await asyncio.gather(*(self._take(listener) for listener in listeners))

    async def _take(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in _NO_ROOM:
                    await asyncio.sleep(_PAUSE_S)
                continue  # of the connection that was to be taken: accept(2)
            if len(self._unknown) >= _MOST_UNKNOWN:
                oldest = next(iter(self._unknown))
                del self._unknown[oldest]
                oldest.cancel()
            elif len(self._tasks) >= _MOST:
                sock.close()
                continue
            if listener.family == socket.AF_UNIX:
                task = loop.create_task(self._admit_handed(sock))
            else:
                task = loop.create_task(self._admit(_client(sock, self._current()), str(address[0])))
            self._tasks.add(task)
            self._unknown[task] = None
            task.add_done_callback(self._ended)
            await asyncio.sleep(0)  # taking the next one must not keep this one from beginning

    def _current(self) -> ssl.SSLContext | None:
        """The certificates, as their files are now. Where these cannot be used, the last ones that could be."""
        if self._context is not None and (stamp := self._terms.stamp()) != self._stamp:
            self._stamp = stamp
            try:
                self._context = self._terms.context()
            except TermsError as error:
                _log.warning("the certificates stay what they were: %s", error.message)
        return self._context

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._unknown.pop(task, None)

    async def _admit_handed(self, sock: socket.socket) -> None:
        """A service's connection, by which it hands one of its clients over."""
        loop = asyncio.get_running_loop()
        with sock:
            try:
                handed, early = await loop.run_in_executor(self._askers, _handed, sock)
            except OSError as error:
                _log.info("a connection was not handed over: %s", error)
                return
        client = _client(handed, None)
        client.put_back(early)
        await self._admit(client, "the service's client")

    async def _admit(self, client: Duplex, address: str) -> None:
        try:
            found = await self._recognised(client)
            if isinstance(found, ApiError):
                _log.info("refused %s: %s", address, found.message)
                await asyncio.wait_for(_told(client, found), _TOLD_S)
                return
            named, first = found
            _log.debug("%s is %s", address, named.name)
            self._unknown.pop(_this_task(), None)
            self._users[named.name] += 1
            try:
                await self._serve(client, named, first)
            finally:
                self._users[named.name] -= 1
        except (OSError, TimeoutError) as error:
            _log.debug("%s: %s", address, error)  # a client that cannot, or goes away
        finally:
            client.close()

    async def _serve(self, client: Duplex, named: Named, first: bytes) -> None:
        """Join a client to the API as the user that it is. first: what the API gets before all else."""
        try:
            if named.caller is not None and self._users[named.name] > _MOST_OF_ONE:
                raise ApiError(503, f"{named.name} has {_MOST_OF_ONE} connections already: end some")
            engine = await self._connected(named)
        except ApiError as error:
            if not first:
                await asyncio.wait_for(_head(client), _KNOWN_S)
            await asyncio.wait_for(_told(client, error), _TOLD_S)
            return
        with engine:
            await duplex.join(client, Duplex(engine), first)

    async def _recognised(self, client: Duplex) -> tuple[Named, bytes] | ApiError:
        """Who it is, with what the API is to get first; or why not. Raises OSError, TimeoutError."""
        await asyncio.wait_for(client.open(), _KNOWN_S)
        name = of_certificate(client.certificate)
        try:
            if name:
                return of_host(name), b""
        except ApiError as error:
            await asyncio.wait_for(_head(client), _KNOWN_S)  # who is answered before it has asked does not listen
            return error
        try:
            data, rest = await asyncio.wait_for(_head(client), _KNOWN_S)
            head = read_head(data)
            if self._tokens is None:
                return ApiError(401, "your certificate names nobody: its subject needs a common name (CN)")
            if not head.token:
                return ApiError(401, "this needs a token: Authorization: Bearer TOKEN")
            owner_of, loop = self._tokens.owner_of, asyncio.get_running_loop()
            owner = await loop.run_in_executor(self._askers, owner_of, head.token)
            return of_host(self._tokens.host_user(owner)), head.passed + rest
        except ApiError as error:
            return error
        except TermsError as error:
            _log.warning("no token opens an engine: %s", error.message)
            return ApiError(503, "the engine's file of --token-users cannot be used: what it writes says why")

    async def _connected(self, named: Named) -> socket.socket:
        """A connection to the API that is the user's. While too many wait for the API, this does. Raises ApiError."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _KNOWN_S
        while True:
            engine = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                with _rights_of(named):
                    engine.connect(self._path)
                return engine
            except OSError as error:
                engine.close()
                if isinstance(error, PermissionError):
                    why = f"{named.name} is not in the group {GROUP}, whose members have an engine"
                    raise ApiError(403, why) from error
                if not isinstance(error, BlockingIOError) or loop.time() > until:
                    raise ApiError(503, f"the engine's API does not answer: {error.strerror}") from error
            await asyncio.sleep(_PAUSE_S)


@contextlib.contextmanager
def _rights_of(named: Named) -> Iterator[None]:
    """Within: this thread's effective rights are the user's. Who connects counts: SO_PEERCRED, unix(7)."""
    caller = named.caller
    if caller is None:
        yield
        return
    groups = os.getgroups()
    try:
        os.setgroups(caller.groups)
        os.setegid(caller.gid)
        os.seteuid(caller.uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def _client(sock: socket.socket, context: ssl.SSLContext | None) -> Duplex:
    sock.setblocking(False)
    with contextlib.suppress(OSError):  # it has gone already, or came by a unix socket
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        sock.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 0
        )  # a service may have set one, for its own answers
    return Duplex(sock) if context is None else Secured(sock, context)


def _handed(sock: socket.socket) -> tuple[socket.socket, bytes]:
    """A client's connection, and what was read of it. Raises OSError."""
    sock.settimeout(_HANDED_S)
    return passing.take(sock, _MOST_HANDED)


def _this_task() -> asyncio.Task[None]:
    found = asyncio.current_task()
    assert found is not None  # whoever asks runs in one
    return found


async def _head(client: Duplex) -> tuple[bytes, bytes]:
    """The head of the first request, and what came behind it. Raises ApiError, ConnectionError."""
    found = await duplex.read_head(client, MOST_HEAD_BYTES)
    if found is None:
        raise ApiError(431, "the head of the request is too large")
    return found


async def _told(client: Duplex, error: ApiError) -> None:
    await client.write(refusal(error))
    await client.end()
