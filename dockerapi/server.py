"""gunicorn with our settings: one worker process, a thread for each request, connections that can be taken over."""

from __future__ import annotations

import resource
import socket
import struct
import threading
import warnings
from typing import TYPE_CHECKING, Any, Final

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from core.notify import ServiceManager
from core.processes import end_with_parent
from core.settings import Settings
from dockerapi import handover
from dockerapi.app import create_app, versioned
from dockerapi.listening import Listeners

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
_TIME: Final = struct.Struct("ll")


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Lets a request take its connection over; and no thread waits for ever for a client."""

    def init_process(self) -> None:
        end_with_parent(self.ppid)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 8 * _CONNECTIONS  # a connection that is waited for has one of a keeper's beside it
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard) if hard > 0 else wanted, hard))
        super().init_process()

    def handle(self, conn: Any) -> Any:
        """Serve what comes: a head in seconds, and an answer that is taken."""
        _bound(conn.sock, socket.SO_RCVTIMEO, _HEAD_S)
        _bound(conn.sock, socket.SO_SNDTIMEO, _SEND_S)
        return super().handle(conn)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """The head is here. A body may come slowly: somebody may be making it."""
        _bound(conn.sock, socket.SO_RCVTIMEO, _BODY_S)
        with handover.serving(conn):
            return super().handle_request(req, conn)


def _bound(sock: socket.socket, option: int, seconds: int) -> None:
    sock.setsockopt(socket.SOL_SOCKET, option, _TIME.pack(seconds, 0))


class Server(BaseApplication):  # type: ignore[misc]
    """The API's process. It serves until SIGTERM; containers and what was handed over go on without it."""

    def __init__(self, settings: Settings, listeners: Listeners) -> None:
        self._settings = settings
        self._listeners = listeners
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
        return versioned(create_app(self._settings))

    def _announce(self, arbiter: Any) -> None:
        arbiter.systemd = True  # which keeps it from removing sockets' files: they are systemd's, or ours
        for listener in arbiter.LISTENERS:
            listener.sock.set_inheritable(False)  # a keeper that had it would let clients wait for nobody
        self._listeners.ready()
        self._manager.ready()

    def _forget(self, _arbiter: Any) -> None:
        self._manager.ending()
        self._listeners.remove()
