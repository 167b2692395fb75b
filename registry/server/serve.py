"""Running the registry by itself: gunicorn, one process with many threads, and a thread that collects garbage.

It is one process, because its threads share hash states and the cache of checked passwords. Hashing, sendfile and fsync
all release Python's lock. The store is opened in the worker: sessions do not survive a fork.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]

from core.errors import ShiplapError
from images.store import Store
from registry.server.app import EXTENSION, application
from registry.server.collect import collect
from registry.server.errors import ServerSettingsError
from registry.server.impatience import Impatient
from registry.server.listening.worker import ListeningWorker
from registry.server.registry import Registry
from registry.server.schema import prepare
from registry.server.settings import Access, ServerSettings

if TYPE_CHECKING:
    from flask import Flask
    from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]

_THREADS: Final = 64
_GRACEFUL_S: Final = 30
_KEEPALIVE_S: Final = 75

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listener:
    """Where to listen. tls_cert, tls_key: PEM files; both or none."""

    address: str
    tls_cert: Path | None = None
    tls_key: Path | None = None


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of ``127.0.0.1:5000``, ``[::1]:5000`` or ``:5000``. Raises ServerSettingsError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ServerSettingsError(f"cannot listen on {text!r}", hint="write ADDRESS:PORT, as in 127.0.0.1:5000")
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        raise ServerSettingsError(f"cannot listen on {text!r}", hint="an IPv6 address goes in brackets: [::1]:5000")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - what an empty address means; see choose_access


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def choose_access(host: str, *, users_exist: bool, insecure: bool) -> Access:
    """Who gets in. insecure: the administrator wants no authentication whatever the address.

    Raises ServerSettingsError rather than letting the whole network push.
    """
    if insecure:
        return "open"
    if is_loopback(host):
        return "open-until-users"
    if not users_exist:
        raise ServerSettingsError(
            f"{host} is reachable from other machines, and there are no users: everyone could push",
            hint="shiplap registry user add NAME makes one; --insecure-no-auth serves without",
        )
    return "users"


def serve(root: Path, settings: ServerSettings, listener: Listener) -> None:
    """Serve until SIGTERM or SIGINT; requests that run may end. Does not return: gunicorn exits the process."""
    if (listener.tls_cert is None) != (listener.tls_key is None):
        raise ServerSettingsError("a certificate needs its key", hint="give both --tls-cert and --tls-key")
    for path in (listener.tls_cert, listener.tls_key):
        if path is not None and not path.is_file():
            raise ServerSettingsError(f"no such file: {path}")
    with Store.open(root) as store:  # report what is wrong with it here, not by a worker that dies
        prepare(store.database)
    _Server(root, settings, listener).run()


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    def __init__(self, root: Path, settings: ServerSettings, listener: Listener) -> None:
        self._root = root
        self._settings = settings
        self._listener = listener
        self._open = contextlib.ExitStack()
        super().__init__()

    def load_config(self) -> None:
        host, port = parse_address(self._listener.address)
        values: dict[str, Any] = {
            "bind": [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"],
            "worker_class": ListeningWorker,
            "workers": 1,
            "threads": _THREADS,
            "worker_connections": ListeningWorker.most_connections(_THREADS),
            "timeout": 0,  # of the whole worker: a thread that sends 4 GB to a slow client is no reason to kill it
            "graceful_timeout": _GRACEFUL_S,
            "keepalive": _KEEPALIVE_S,
            "proc_name": "shiplap-registry",
            "accesslog": None,
            "loglevel": "error",
            "when_ready": _announce,
            "worker_exit": lambda _arbiter, _worker: self._open.close(),
            "certfile": str(self._listener.tls_cert) if self._listener.tls_cert else None,
            "keyfile": str(self._listener.tls_key) if self._listener.tls_key else None,
            "control_socket_disable": True,
        }
        for name, value in values.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """The application, made in the worker."""
        store = self._open.enter_context(Store.open(self._root))
        app = application(Registry.serving(store, self._settings))
        registry: Registry = app.extensions[EXTENSION]
        self._open.callback(registry.close)
        self._open.enter_context(_collecting(registry))
        app.wsgi_app = Impatient(app.wsgi_app, self._settings.stalled_s)  # type: ignore[method-assign]
        return app


def _announce(arbiter: Arbiter) -> None:
    scheme = "https" if arbiter.cfg.is_ssl else "http"
    for listener in arbiter.LISTENERS:
        host, port = listener.sock.getsockname()[:2]
        print(f"registry at {scheme}://{f'[{host}]' if ':' in host else host}:{port}", flush=True)  # noqa: T201 - for people and tests


@contextlib.contextmanager
def _collecting(registry: Registry) -> Iterator[None]:
    """Collect garbage now and then, in a thread, until the block ends."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(registry.settings.collect_every_s):
            try:
                report = collect(registry)
            except ShiplapError as error:  # a full disk, say: try again later
                _log.warning("garbage collection failed: %s", error)
            else:
                _log.info("garbage collection freed %d bytes", report.freed_bytes)

    thread = threading.Thread(target=loop, name="collect", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
