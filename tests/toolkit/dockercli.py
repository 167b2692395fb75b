"""docker's own command line as a witness: it talks to a daemon of ours, which answers what a test says.

So a test sees what docker's client asks for, and what it prints, with no dockerd, no image and no container.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socketserver
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.toolkit.bounds import stretched

_VERSION = re.compile(r"^/v[0-9.]+")


@dataclass
class FakeDaemon:
    """A daemon that answers what it is told.

    answers: documents by method and path, as in ``GET /containers/x/json``.
    asked: the bodies that came, by the same; the query where there was no body.
    A path that has no answer gets 404 with docker's words for a container.
    """

    socket: Path
    home: Path
    answers: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)

    def docker(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run ``docker ARGUMENTS…`` against this daemon, to its end."""
        return subprocess.run(
            ["docker", "-H", f"unix://{self.socket}", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), **(env or {})},
            timeout=stretched(60),
        )


@contextlib.contextmanager
def fake_daemon(folder: Path) -> Iterator[FakeDaemon]:
    """A daemon whose socket and whose client's home are in ``folder``."""
    daemon = FakeDaemon(folder / "d.sock", folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_HEAD(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_DELETE(self) -> None:
            self._answer()

        def address_string(self) -> str:
            return "client"

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            del code, size

        def _answer(self) -> None:
            path, _, query = _VERSION.sub("", self.path).partition("?")
            what = f"{self.command} {path}"
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            daemon.asked[what] = json.loads(body) if body else query
            if path == "/_ping":
                self._send(200, b"OK")
            elif what in daemon.answers:
                self._send(200, json.dumps(daemon.answers[what]).encode())
            else:
                self._send(404, b'{"message":"No such container: it"}')

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Api-Version", "1.45")
            self.send_header("Ostype", "linux")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    with Server(str(daemon.socket), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield daemon
        finally:
            server.shutdown()
            thread.join()
