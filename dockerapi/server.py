"""gunicorn with our settings: one worker process, a thread for each request, connections that can be taken over."""

from __future__ import annotations

import errno
import functools
import os
import resource
import socket
import struct
import threading
import time
import warnings
import weakref
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from gunicorn import util  # type: ignore[import-untyped]
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from core.errors import ShiplapError
from core.notify import ServiceManager
from core.processes import end_with_parent
from core.settings import Settings
from dockerapi import handover
from dockerapi.access import Doors
from dockerapi.app import create_app, versioned
from dockerapi.listening import Listeners
from dockerapi.tcp.keeping import Keeping
from dockerapi.tcp.terms import Terms
from dockerapi.turns import MOST_OPEN, Turns
from dockerapi.upgrades import Upgrades

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

THREADS: Final = 64
_CONNECTIONS: Final = 1000
_STACK_BYTES: Final = 1 << 20  # of address space; only the touched part takes memory
_GRACE_S: Final = 10
_KEEPALIVE_S: Final = 75
_HEAD_S: Final = 20
_BODY_S: Final = 600
_SEND_S: Final = 60
_NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_NO_ROOM_S: Final = 0.1
_HTTP2: Final = b"PRI"
_TIME: Final = struct.Struct("ll")


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Lets a request take its connection over. No thread waits for ever for a client, and no user has all threads."""

    def init_process(self) -> None:
        self._turns: Turns[Any] = Turns(THREADS, os.geteuid())
        self._open: defaultdict[int, weakref.WeakSet[Any]] = defaultdict(weakref.WeakSet)
        end_with_parent(self.ppid)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 8 * _CONNECTIONS  # a connection that is waited for has one of a keeper's beside it
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard) if hard > 0 else wanted, hard))
        self.app.keeping.begin()
        super().init_process()

    def accept(self, listener: Any) -> None:
        """Take a connection. Where there is no room for one more, it waits: that must not end this process."""
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            time.sleep(_NO_ROOM_S)

    def enqueue_req(self, conn: Any) -> None:
        """Something came on a connection: serve it, when it is its user's turn. Called in the main thread."""
        if not hasattr(conn, "user"):
            conn.user = handover.peer_of(conn.sock).uid
            conn.close = functools.partial(_closed, conn.sock)
            theirs = self._open[conn.user]
            if conn.user != os.geteuid() and len(theirs) >= MOST_OPEN:
                self.nr_conns -= 1
                conn.close()
                return
            theirs.add(conn)
        if self._turns.begin(conn.user, conn):
            super().enqueue_req(conn)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """It was served. Called in the main thread."""
        for other in self._turns.ended(conn.user):
            super().enqueue_req(other)
        super().finish_request(conn, fs)

    def handle(self, conn: Any) -> Any:
        """Serve what comes: a head in seconds, and an answer that is taken."""
        if not conn.initialized:
            conn.init = functools.partial(self._begin, weakref.ref(conn))  # a circle would keep it, and count it
        _bound(conn.sock, socket.SO_RCVTIMEO, _HEAD_S)
        _bound(conn.sock, socket.SO_SNDTIMEO, _SEND_S)
        is_kept = super().handle(conn)
        if not is_kept:
            util.close_graceful(conn.sock)  # it waits for the client, which the main thread must not
        return is_kept

    def _begin(self, reference: weakref.ref[Any]) -> None:
        """The first bytes of a connection are here: HTTP/2 is BuildKit's clients', and not gunicorn's."""
        conn: Any = reference()
        assert conn is not None  # whoever calls has it
        del conn.init  # its class's is there again
        if not _begins_http2(conn.sock):
            conn.init()
            return
        peer, sock = handover.peer_of(conn.sock), handover.replaced(conn.sock)
        try:
            self.app.upgrades.serve(sock, b"", peer)
        except ShiplapError:  # who has no engine
            sock.close()
        raise StopIteration("HTTP/2")  # gunicorn closes what it has left

    def handle_request(self, req: Any, conn: Any) -> Any:
        """The head is here. A body may come slowly: somebody may be making it."""
        _bound(conn.sock, socket.SO_RCVTIMEO, _BODY_S)
        with handover.serving(conn):
            return super().handle_request(req, conn)


def _closed(sock: socket.socket, graceful: bool = False) -> None:
    """Close it at once: ``Worker.handle`` has waited for the client, where that is to be."""
    del graceful
    util.close(sock)


def _begins_http2(sock: socket.socket) -> bool:
    """Whether the client speaks HTTP/2 at once. Waits for what tells it: a whole word, as every method is one."""
    sock.setblocking(True)
    try:
        return sock.recv(len(_HTTP2), socket.MSG_PEEK | socket.MSG_WAITALL) == _HTTP2
    except OSError:
        return False


def _bound(sock: socket.socket, option: int, seconds: int) -> None:
    sock.setsockopt(socket.SOL_SOCKET, option, _TIME.pack(seconds, 0))


class Server(BaseApplication):  # type: ignore[misc]
    """The API's process. It serves until SIGTERM; containers and what was handed over go on without it."""

    def __init__(self, settings: Settings, listeners: Listeners, terms: Terms, doors: Doors) -> None:
        self._settings = settings
        self._doors = doors
        self._listeners = listeners
        self.keeping = Keeping([*listeners.tcp, *listeners.handed], terms, str(listeners.door))
        self._manager = ServiceManager.from_environ()
        super().__init__()

    def load_config(self) -> None:
        for name, value in {
            "bind": [f"fd://{fd}" for fd in self._listeners.fds],
            "workers": 1,
            "worker_class": "dockerapi.server.Worker",
            "threads": THREADS,
            "worker_connections": _CONNECTIONS,
            "keepalive": _KEEPALIVE_S,
            "graceful_timeout": _GRACE_S,
            "timeout": 0,  # nothing here says that a worker which is busy is stuck
            "proc_name": "shiplap-engine",
            "control_socket_disable": True,
            "forwarded_allow_ips": "",
            "limit_request_line": 8190,
            "loglevel": "warning",
            "when_ready": self._announce,
            "on_exit": self._forget,
        }.items():
            self.cfg.set(name, value)

    def load(self) -> WSGIApplication:
        """Make the application in the worker process."""
        threading.stack_size(_STACK_BYTES)
        # engine.inside and engine.callers fork children that only make system calls and end.
        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
        app = create_app(self._settings, self._doors, self._listeners.narrow)
        self.upgrades: Upgrades = app.extensions["upgrades"]
        return versioned(app)

    def _announce(self, arbiter: Any) -> None:
        arbiter.systemd = True  # which keeps it from removing sockets' files: they are systemd's, or ours
        for listener in arbiter.LISTENERS:
            listener.sock.set_inheritable(False)  # a keeper that had it would let clients wait for nobody
        self._listeners.ready()
        self._manager.ready()

    def _forget(self, _arbiter: Any) -> None:
        self._manager.ending()
        self._listeners.remove()
