"""A server of files over http, as tests need one: with ETags, dates, redirects, and a record of what was asked for."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


@dataclass
class FileServer:
    """files: content by path. headers: more headers by path. redirects: by path. requests: method and path, in order.

    authorization: the header that every request needs; empty for none. standing_still: paths whose last byte never
    comes.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    authorization: str = ""
    etags: bool = True
    standing_still: set[str] = field(default_factory=set)


@contextlib.contextmanager
def serving_files() -> Iterator[FileServer]:
    """On a port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            server.requests.append(f"{self.command} {self.path}")
            content = server.files.get(path, server.files.get(unquote(path)))
            etag = f'"{hashlib.sha256(content or b"").hexdigest()}"' if server.etags else ""
            headers = {"ETag": etag} if etag else {}
            if server.authorization and self.headers.get("Authorization") != server.authorization:
                status, content, headers = 401, b"", {"WWW-Authenticate": "Bearer"}
            elif path in server.redirects:
                status, content, headers = 302, b"", {"Location": server.redirects[path]}
            elif content is None:
                status, content, headers = 404, b"not here", {}
            elif etag and self.headers.get("If-None-Match") == etag:
                status, content = 304, b""
            else:
                status, headers = 200, {**headers, **server.headers.get(path, {})}
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            stands_still = path in server.standing_still
            self.send_header("Content-Length", str(len(content) + stands_still))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)
            if stands_still:
                ended.wait()

        do_HEAD = do_GET  # noqa: N815 - http.server's name

        def log_message(self, *arguments: object) -> None: ...

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = FileServer(f"http://127.0.0.1:{listener.server_address[1]}")
    ended = threading.Event()
    thread = threading.Thread(target=listener.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        ended.set()
        listener.shutdown()
        thread.join()
        listener.server_close()
