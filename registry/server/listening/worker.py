"""Gunicorn's worker with a listener that gives threads whole requests only; see the package.

Clients that may speak without TLS try TLS first, at every command; ours and docker's are among them. On a port without
TLS they get the answer that Go's servers give. Clients know it: they go on without TLS at once, or say that it is
missing. If the server merely hung up, some would try again and again (crane), and none could say why.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import selectors
import ssl
import time
from collections import deque
from concurrent.futures import Future
from functools import partial
from typing import Any, Final

from gunicorn import sock as gunicorn_sock  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from core.proxies import TrustedProxies
from registry.server.listening.bodies import LEAST_RATE, PATIENCE_S
from registry.server.listening.connection import Connection
from registry.server.listening.heads import MAX_HEAD_BYTES, Head
from registry.server.listening.lobby import Bounds, Guest, Lobby, Stage, site
from registry.server.listening.room import Room
from registry.server.listening.vouching import answering

_HEAD_S: Final = 20.0
_HELLO_S: Final = 0.5
_PARKED_S: Final = 60.0
_LINGER_S: Final = 2.0
_IDLE_LINGER_S: Final = 0.25  # once the worker ends, for a request that is on its way
_SWEEP_S: Final = 0.5
_LOOK_S: Final = 0.25
_AHEAD_BYTES: Final = 32 << 10  # of a body that is read before a thread has the request
_ACCEPTS: Final = 64  # at once
_OTHER_FILES: Final = 500  # that the process has open
_CUT_AFTER_S: Final = 1.0  # of those with a large body; of the others:
_CUT_LIGHT_AFTER_S: Final = 3.0
_DRAINED_BYTES: Final = 64 << 10  # of a body that the application did not want
_NO_FILES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_CLOSE: Final = b"Content-Type: text/plain\r\nConnection: close\r\n\r\n"
_SPEAKS_TLS: Final = (
    b"HTTP/1.0 400 Bad Request\r\n" + _CLOSE + b"This port speaks plain HTTP, and a TLS handshake came.\n"
)
_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\n" + _CLOSE + b"The head is too large.\n"
_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n" + _CLOSE + b"Too many requests at once.\n"


class ListeningWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A gunicorn worker with a listener: see the module. Subclasses may set ``proxies`` and ``bounds``."""

    proxies = TrustedProxies()
    bounds = Bounds()

    @classmethod
    def most_connections(cls, threads: int) -> int:
        """The most connections that there can be by our own bounds, for gunicorn's ``worker_connections``."""
        bounds = cls.bounds
        return threads + bounds.waiting + bounds.idle + bounds.closing

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._lobby = Lobby(self.bounds)
        self._answered: dict[Connection, None] = {}  # by threads, or queued for one; the oldest first
        self._parked: deque[Connection] = deque()
        self._swept_at = 0.0
        self._looked_at = 0.0
        self._tls: tuple[object, ssl.SSLContext] | None = None

    def init_process(self) -> None:
        """In the new process."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = self.worker_connections + _OTHER_FILES
        if soft != resource.RLIM_INFINITY and soft < wanted:
            allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
        super().init_process()

    def gives_away(self, conn: Connection) -> bool:
        """Whether somebody else, who has a copy of the socket, answers this request and all that follows. For
        subclasses: ``conn.received`` begins with its head.
        """
        del conn
        return False

    # The listener: what gunicorn's loop calls.

    def accept(self, listener: Any) -> None:
        """Take the connections that wait, and what has come of them."""
        for _ in range(_ACCEPTS):
            try:
                peer, client = listener.accept()
            except OSError as error:
                if error.errno in _NO_FILES and (spared := self._lobby.longest()) is not None:
                    self._drop(spared)
                    continue
                if error.errno in (*_NO_FILES, errno.EAGAIN, errno.ECONNABORTED, errno.EPROTO):
                    return
                raise
            self.nr_conns += 1
            conn = Connection(self.cfg, peer, client, listener.getsockname())
            try:
                self._welcome(conn)
            except OSError:  # it has gone already
                self._drop(conn)
            if self.nr_conns >= self.worker_connections:
                return

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Once the worker ends, the loop looks often: each connection goes as soon as its time is over."""
        super().wait_for_and_dispatch_events(timeout if self.alive else min(timeout, _LOOK_S))

    def murder_keepalived(self, force: bool = False) -> None:
        """Let those go whose time is over; all, if the worker ends."""
        now = time.monotonic()
        if force:
            for guest in self._lobby:
                self._drop(guest)
        elif now - self._swept_at >= _SWEEP_S or not self.alive:
            self._swept_at = now
            for guest in self._lobby.overdue(now):
                self._end(guest)

    def murder_pending(self) -> None:
        """Make room for requests that wait for a thread."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_S:
            return
        self._looked_at = now
        self._start_parked()
        waits = len(self._answered) - self.cfg.threads
        if waits > 0:
            self._cut_slowest(waits, _CUT_LIGHT_AFTER_S, list(self._answered))

    def _cap_keepalive(self, deadline: float) -> None:
        """The worker ends: who sends a request has until ``deadline``. Proxies keep idle connections for minutes."""
        soon = time.monotonic() + _IDLE_LINGER_S
        for guest in self._lobby:
            guest.deadline = min(guest.deadline, soon if guest.stage == "idle" else deadline)

    def finish_request(self, conn: Connection, future: Future[bool]) -> None:
        """A thread is done with the request."""
        self._answered.pop(conn, None)
        keep = not future.cancelled() and future.exception() is None and future.result()
        if conn.was_cut:
            self._drop(conn)
        elif keep:
            conn.take_back()
            self._await_request(conn)
        else:
            self._linger(conn)
        self._start_parked()

    # A connection's way.

    def _welcome(self, conn: Connection) -> None:
        self._count_for_peer(conn)
        if not self.cfg.is_ssl:
            self._await_request(conn)
            return
        conn.sock = self._tls_context().wrap_socket(
            conn.sock,
            server_side=True,
            suppress_ragged_eofs=self.cfg.suppress_ragged_eofs,
            do_handshake_on_connect=False,
        )
        conn.sock.setblocking(False)
        if self._enter(conn, "handshake", _HEAD_S):
            self._shake_hands(conn)

    def _shake_hands(self, conn: Connection) -> None:
        try:
            conn.sock.do_handshake()
        except ssl.SSLWantReadError:
            self._watch(conn, selectors.EVENT_READ)
        except ssl.SSLWantWriteError:
            self._watch(conn, selectors.EVENT_WRITE)
        except (OSError, ValueError) as error:  # ssl's errors are OSErrors
            self.log.debug("TLS: %s", error)
            self._drop(conn)
        else:
            self._await_request(conn)

    def _await_request(self, conn: Connection) -> None:
        """Its next request is to come, or has begun to."""
        self._lobby.leave(conn)
        self._count_for_peer(conn)
        if conn.received or not conn.initialized:
            entered = self._enter(conn, "head", _HEAD_S)
        else:
            entered = self._enter(conn, "idle", float(self.cfg.keepalive) if self.alive else _IDLE_LINGER_S)
        if entered and not self._advance(conn):
            self._read(conn)

    def _read(self, conn: Connection) -> None:
        """Something has come, or may have."""
        try:
            is_there = conn.read()
        except OSError:
            is_there = False
        if conn.stage == "closing":
            conn.received.clear()
            if not is_there:
                self._drop(conn)
            return
        if not is_there and not conn.received:
            self._drop(conn)
            return
        if conn.stage == "idle" and conn.received:
            self._lobby.leave(conn)
            if not self._enter(conn, "head", _HEAD_S):
                return
        if self._advance(conn):
            return
        if is_there:
            self._watch(conn, selectors.EVENT_READ)
        elif conn.head is None:
            self._drop(conn)
        else:  # the client sends no more of the body: that is for the application to answer
            self._lobby.leave(conn)
            self._start(conn)

    def _advance(self, conn: Connection) -> bool:
        """Give it to a thread, or answer it, if so much has come. False: more has to come."""
        if hello := conn.hello_bytes():
            conn.deadline = min(conn.deadline, time.monotonic() + _HELLO_S)
            if len(conn.received) >= hello:
                self._refuse(conn, _SPEAKS_TLS)
            return conn.stage == "closing"
        head = conn.look()
        if head is None:
            if len(conn.received) > MAX_HEAD_BYTES:
                self._refuse(conn, _TOO_LARGE)
                return True
            return False
        if not self.cfg.is_ssl and self.gives_away(conn):
            self._drop(conn)
            return True
        if head.body is None or head.body > _AHEAD_BYTES:
            conn.heavy = True
        elif len(conn.received) < head.size + head.body:
            return conn.stage != "body" and not self._await_body(conn, head)
        self._lobby.leave(conn)
        self._count_for_client(conn, head)
        if conn.heavy and not self._room().takes(conn):
            self._watch(conn, 0)
            if self._enter(conn, "parked", _PARKED_S):
                self._parked.append(conn)
        else:
            self._start(conn)
        return True

    def _await_body(self, conn: Connection, head: Head) -> bool:
        """The rest of a small body is to come. False: it had to go."""
        self._lobby.leave(conn)
        self._count_for_client(conn, head)
        return self._enter(conn, "body", PATIENCE_S + (head.body or 0) / LEAST_RATE)

    def _start(self, conn: Connection) -> None:
        """Give it to a thread."""
        self._watch(conn, 0)
        conn.hand_over(time.monotonic())
        self._answered[conn] = None
        self.enqueue_req(conn)

    def _refuse(self, conn: Any, answer: bytes) -> None:
        """Answer without a thread, and close."""
        with contextlib.suppress(OSError):
            conn.sock.send(answer)
        self._linger(conn)

    def _linger(self, conn: Connection) -> None:
        """Close it once the client has had the answer."""
        self._lobby.leave(conn)
        if not conn.finish_sending():
            self._drop(conn)
        elif self._enter(conn, "closing", _LINGER_S):
            self._watch(conn, selectors.EVENT_READ)

    def _drop(self, conn: Any) -> None:
        if conn.gone:
            return
        self._lobby.leave(conn)
        self._watch(conn, 0)
        conn.drop()
        conn.stage = "closing"
        self.nr_conns -= 1

    def _end(self, conn: Any) -> None:
        """Its time is over."""
        if conn.stage == "parked":
            self._refuse(conn, _BUSY)
        elif conn.stage == "head" and conn.hello_bytes():
            self._refuse(conn, _SPEAKS_TLS)
        else:
            self._drop(conn)

    # Who has to go, and who has to wait.

    def _enter(self, conn: Connection, stage: Stage, allowed_s: float) -> bool:
        """Into the lobby. False: it was this one that had to go."""
        conn.stage = stage
        conn.deadline = time.monotonic() + allowed_s
        goes: Guest | None = self._lobby.enter(conn)
        if goes is not None:
            self._drop(goes)
        return goes is not conn

    def _count_for_peer(self, conn: Connection) -> None:
        peer = conn.client[0] if conn.is_over_ip else ""
        conn.address = "" if self.proxies.trusts(peer) else site(peer)

    def _count_for_client(self, conn: Connection, head: Head) -> None:
        if conn.is_over_ip:
            conn.address = site(self.proxies.client(conn.client[0], head.forwarded_for))

    def _room(self) -> Room:
        """What there is for large bodies just now."""
        return Room(int(self.cfg.threads), list(self._answered), time.monotonic())

    def _start_parked(self) -> None:
        """Give threads to those that had to wait for one, and take them from those that are slow."""
        if not self._parked:
            return
        room = self._room()
        wait: list[Connection] = []
        for conn in self._parked:
            if conn.gone or conn.stage != "parked":
                continue
            if room.takes(conn):
                self._lobby.leave(conn)
                self._start(conn)
                room.add(conn)
            else:
                wait.append(conn)
        self._parked = deque(wait)
        self._cut_slowest(len(wait), _CUT_AFTER_S, room.slow)

    def _cut_slowest(self, count: int, after_s: float, among: list[Connection]) -> None:
        """End up to ``count`` requests of slow clients, those that began first."""
        now = time.monotonic()
        for conn in among:
            if count <= 0:
                return
            if now - conn.started >= after_s and conn.is_slow(now):
                conn.cut()
                count -= 1

    def _watch(self, conn: Any, events: int) -> None:
        """Have the selector wait for this, and for nothing else."""
        if conn.events == events:
            return
        if not events:
            self.poller.unregister(conn.sock)
        else:
            callback = partial(self._on_event, conn)
            change = self.poller.modify if conn.events else self.poller.register
            change(conn.sock, events, callback)
        conn.events = events

    def _on_event(self, conn: Connection, peer: object) -> None:
        del peer
        if conn.gone:  # for another one's sake, a moment ago
            return
        if conn.stage == "handshake":
            self._shake_hands(conn)
        else:
            self._read(conn)

    def _tls_context(self) -> ssl.SSLContext:
        """Anew when the certificate's file is another."""
        files = [self.cfg.certfile, self.cfg.keyfile]
        with contextlib.suppress(FileNotFoundError):  # while somebody renews it
            stamp = [(stat.st_mtime_ns, stat.st_ino) for stat in map(os.stat, filter(None, files))]
            if self._tls is None or self._tls[0] != stamp:
                self._tls = (stamp, gunicorn_sock.ssl_context(self.cfg))
        assert self._tls is not None
        return self._tls[1]

    # In a thread.

    def handle(self, conn: Connection) -> Any:
        """Answer the request. Returns whether the connection goes on."""
        answering(conn)
        try:
            return super().handle(conn)
        finally:
            answering(None)

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        """Whether nothing of the request is left that the application did not read. Nobody waits for the rest."""
        if not keepalive or conn.was_cut:
            return False
        conn.parser.unreader.hurry()
        return bool(conn.parser.finish_body(max_bytes=_DRAINED_BYTES)) and not conn.parser.unreader.cut
