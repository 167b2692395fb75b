"""Lets somebody without a log-in fetch from registries with the rights of a client: HTTP on a unix socket.

Who is there asks for ``GET https://HOST/v2/…`` as of a proxy, and gets what the registry said. No token and no password
goes to them, and nothing can be pushed, removed or listed.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import socket
import socketserver
import threading
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from core.closing import Closing
from core.errors import ShiplapError
from core.references import PATH
from registry.client.client import Client
from registry.client.config import domain_of
from registry.client.http import Response
from registry.errors import ErrorCode, ResponseError

_ASKED: Final = re.compile(
    rf"/v2/(?P<name>{PATH})/(?P<what>(?:manifests|blobs|referrers)/[A-Za-z0-9_][\w.+:-]{{0,250}})",
    re.ASCII,
)
_HOST: Final = re.compile(r"[A-Za-z0-9.-]+(?::\d{1,5})?|\[[0-9a-fA-F:.]+\](?::\d{1,5})?", re.ASCII)
_MOST_NAME: Final = 255
_PASSED_ON: Final = ("Accept", "Range")
_PASSED_BACK: Final = ("Content-Type", "Content-Length", "Content-Range", "Docker-Content-Digest")
_PIECE_BYTES: Final = 1 << 18
_MOST_AT_ONCE: Final = 32
_TIMEOUT_S: Final = 120.0
_PUSHING: Final = "what is asked for here is fetched by the job's rights; to push, log in: docker login HOST"


class Relay(Closing):
    """Serves one socket until it is closed.

    Made by: whoever has the rights. Threads: one that accepts, and one for each request, ``_MOST_AT_ONCE`` at a time.
    """

    def __init__(self, listener: socket.socket, client: Client) -> None:
        """Begin to serve.

        listener: listening; it is closed in the end.
        client: stays the caller's.
        """
        self._server = _Server(listener, client)
        self._thread = threading.Thread(target=self._server.serve_forever, name="registry-relay", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Serve nobody any more. Requests under way end with the client's ``cancelled``, or with who asked."""
        self._server.socket.shutdown(socket.SHUT_RDWR)  # wakes who waits for the next request
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, client: Client) -> None:
        super().__init__("", _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.client = client
        self._places = threading.Semaphore(_MOST_AT_ONCE)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked is gone, in the midst of it."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    timeout = _TIMEOUT_S
    server_version = "shiplap"
    sys_version = ""

    def log_message(self, *_: object) -> None:
        """It is the step's to tell what it pulls."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._refuse(HTTPStatus.FORBIDDEN, ErrorCode.DENIED, _PUSHING)

    do_PUT = do_PATCH = do_DELETE = do_POST  # noqa: N815

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/v2/":
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        asked = _ASKED.fullmatch(parts.path)
        if asked is None or not _HOST.fullmatch(parts.netloc) or len(asked["name"]) > _MOST_NAME:
            self._refuse(HTTPStatus.NOT_FOUND, ErrorCode.UNSUPPORTED, "manifests and blobs are fetched here")
            return
        try:
            response = self._asked(domain_of(parts.netloc), asked["name"], asked["what"], parts.query)
        except ResponseError as error:
            code = error.reported[0].code if error.reported else ErrorCode.UNKNOWN
            said = error.reported[0].message if error.reported else error.message
            self._refuse(error.status, code, said)
        except ShiplapError as error:
            self._refuse(HTTPStatus.FAILED_DEPENDENCY, ErrorCode.UNAVAILABLE, error.message)
        else:
            with contextlib.closing(response):
                self._pass_back(response)

    def _asked(self, domain: str, name: str, what: str, query: str) -> Response:
        """The answer of the first place that has it. Raises RegistryErrors."""
        client = self.server.client
        headers = {each: self.headers[each] for each in _PASSED_ON if each in self.headers}
        *mirrors, last = client.config.endpoints(domain, mirrors=True)
        asked = f"v2/{name}/{what}" + (f"?{query}" if query and what.startswith("referrers/") else "")

        def ask(endpoint: Any) -> Response:
            method, scopes = self.command, (f"repository:{name}:pull",)
            return client.call(endpoint, method, asked, expect={200, 206}, scopes=scopes, headers=headers)

        for endpoint in mirrors:
            with contextlib.suppress(ShiplapError):
                return ask(endpoint)
        return ask(last)

    def _pass_back(self, response: Response) -> None:
        self.send_response(response.status)
        for name in _PASSED_BACK:
            if value := response.headers.get(name):
                self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        while data := response.read(_PIECE_BYTES):
            self.wfile.write(data)

    def _refuse(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
