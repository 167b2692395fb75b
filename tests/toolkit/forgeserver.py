"""A forge's API that checks nothing by itself: it notes every call, and answers what it is told to."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class ApiRequest:
    """headers: with names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class ForgeServer:
    """answers: (status, headers, body) of the next calls, in order; after these everything is 201."""

    url: str
    calls: list[ApiRequest] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)

    def states(self) -> list[str]:
        return [call.body["state"] for call in self.calls]


@contextlib.contextmanager
def forge_server() -> Iterator[ForgeServer]:
    """On a port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            server.calls.append(ApiRequest(self.command, self.path, headers, json.loads(data)))
            status, more, body = server.answers.pop(0) if server.answers else (201, {}, b"{}")
            self.send_response(status)
            for name, value in {**more, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None: ...

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = ForgeServer(f"http://127.0.0.1:{listener.server_address[1]}")
    thread = threading.Thread(target=listener.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()
