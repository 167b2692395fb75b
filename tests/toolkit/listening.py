"""``python -m tests.toolkit.listening SETTINGS``: a small application behind the listener, for its tests.

SETTINGS is JSON: ``threads``, ``proxies``, ``certificate`` and ``key``, ``bounds`` of the lobby, ``grace`` (seconds
that requests have once the worker ends), and ``constants`` of the listener's modules by their dotted names. The port
is printed. The application: ``GET /`` answers at once, ``GET /slow`` after a second, ``GET /much`` with 64 MiB, ``GET
/follow`` a line each 0.2 s, ``POST /`` with the length of the body; ``X-Known`` has the application vouch.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.workers import gthread  # type: ignore[import-untyped]

from core.proxies import TrustedProxies
from registry.server.listening.lobby import Bounds
from registry.server.listening.vouching import vouch
from registry.server.listening.worker import ListeningWorker

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

MUCH = 64 << 20


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    if "HTTP_X_KNOWN" in environ:
        vouch()
    path = environ["PATH_INFO"]
    if path == "/refuse":
        start_response("401 Unauthorized", [("Content-Length", "3")])
        return [b"no\n"]
    if path == "/slow":
        time.sleep(1)
    if path == "/much":
        start_response("200 OK", [("Content-Length", str(MUCH))])
        return [bytes(1 << 20)] * (MUCH >> 20)
    if path == "/follow":
        start_response("200 OK", [])
        return follow()
    count = 0
    if environ["REQUEST_METHOD"] == "POST":
        while data := environ["wsgi.input"].read(1 << 16):
            count += len(data)
    answer = b"%d\n" % count
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]


def follow() -> Iterator[bytes]:
    for number in range(100):
        yield b"line %d\n" % number
        time.sleep(0.2)


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        settings = self._settings
        for name, value in {
            "bind": ["127.0.0.1:0"],
            "worker_class": ListeningWorker,
            "threads": settings.get("threads", 8),
            "worker_connections": 2000,
            "keepalive": settings.get("keepalive", 5),
            "certfile": settings.get("certificate"),
            "keyfile": settings.get("key"),
            "graceful_timeout": settings.get("grace", 5),
            "control_socket_disable": True,
            "loglevel": "error",
            "when_ready": announce,
        }.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return application


def announce(arbiter: Any) -> None:
    print(arbiter.LISTENERS[0].sock.getsockname()[1], flush=True)


def main() -> None:
    settings = json.loads(sys.argv[1])
    for name, value in settings.get("constants", {}).items():
        module, _, constant = name.rpartition(".")
        setattr(importlib.import_module(f"registry.server.listening.{module}"), constant, value)
    if "grace" in settings:
        gthread.STOP_KEEPALIVE_LINGER = settings["grace"]
    ListeningWorker.proxies = TrustedProxies(settings.get("proxies", []))
    ListeningWorker.bounds = Bounds(**settings.get("bounds", {}))
    Server(settings).run()


if __name__ == "__main__":
    main()
