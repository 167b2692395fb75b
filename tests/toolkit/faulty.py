"""Registries that misbehave: one that is scripted, and a proxy that cuts connections to a real one."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

from tests.toolkit.bounds import stretched
from tests.toolkit.ports import free_port
from tests.toolkit.registries import serving

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """body: what is sent. length: what is announced, None: its true length. After ``cut`` the connection is closed."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None
    cut: bool = False


Fault = Callable[[Seen, Answer], Answer]


@dataclass
class ScriptedRegistry:
    """Serves ``manifests`` and ``blobs`` to pull. Each fault takes the answers to some requests and gives others."""

    host: str
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # by tag and by digest
    blobs: dict[str, bytes] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    faults: list[tuple[re.Pattern[str], list[Fault | None]]] = field(default_factory=list)
    knows_ranges: bool = True

    def add_blob(self, data: bytes) -> str:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return digest

    def add_manifest(self, tag: str, document: Mapping[str, Any] | bytes, media_type: str = OCI_MANIFEST) -> str:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.manifests[tag] = self.manifests[digest] = media_type, data
        return digest

    def fault(self, pattern: str, *faults: Fault | None) -> None:
        """For requests whose ``METHOD path`` matches: one fault each, in order; None lets one pass; then all do."""
        self.faults.append((re.compile(pattern), list(faults)))

    def requests(self, pattern: str) -> list[Seen]:
        return [seen for seen in self.seen if re.search(pattern, f"{seen.method} {seen.path}")]

    def answer(self, seen: Seen) -> Answer:
        answer = self._answer(seen)
        for pattern, faults in self.faults:
            if faults and pattern.search(f"{seen.method} {seen.path}"):
                fault = faults.pop(0)
                if fault is not None:
                    answer = fault(seen, answer)
        return answer

    def _answer(self, seen: Seen) -> Answer:
        if seen.path == "/v2/":
            return Answer()
        _, _, reference = seen.path.rpartition("/")
        if "/manifests/" in seen.path and reference in self.manifests:
            media_type, data = self.manifests[reference]
            digest = "sha256:" + hashlib.sha256(data).hexdigest()
            return Answer(headers={"Content-Type": media_type, "Docker-Content-Digest": digest}, body=data)
        if "/blobs/" in seen.path and reference in self.blobs:
            data = self.blobs[reference]
            wanted = re.fullmatch(r"bytes=(\d+)-", seen.headers.get("range", ""))
            if wanted and self.knows_ranges:
                first = int(wanted[1])
                rest = {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"}
                return Answer(206, rest, data[first:])
            return Answer(body=data)
        code = "MANIFEST_UNKNOWN" if "/manifests/" in seen.path else "BLOB_UNKNOWN"
        return Answer(404, body=json.dumps({"errors": [{"code": code, "message": "not here"}]}).encode())


@contextlib.contextmanager
def scripted_registry() -> Iterator[ScriptedRegistry]:
    port = free_port()
    registry = ScriptedRegistry(f"127.0.0.1:{port}")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            parts = urlsplit(self.path)  # whole URLs are asked of proxies
            seen = Seen(self.command, parts.path + (f"?{parts.query}" if parts.query else ""), headers)
            registry.seen.append(seen)
            answer = registry.answer(seen)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)
            self.close_connection = answer.cut

        do_HEAD = do_GET  # noqa: N815 - http.server's name

        def log_message(self, *arguments: object) -> None: ...

    with serving(Handler, port):
        yield registry


@dataclass
class RelayFault:
    """status: answered in place of the upstream's, None: the connection is closed. reached: whether upstream hears."""

    pattern: str
    status: int | None
    reached: bool = False
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Relay:
    """Passes requests on to a real registry, each fault being applied to the first request that matches it."""

    host: str
    faults: list[RelayFault] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, line: str) -> RelayFault | None:
        with self.lock:
            found = next((fault for fault in self.faults if re.search(fault.pattern, line)), None)
            if found is not None:
                self.faults.remove(found)
            return found


@contextlib.contextmanager
def relay(upstream_host: str) -> Iterator[Relay]:
    port = free_port()
    made = Relay(f"127.0.0.1:{port}")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = dict(self.headers.items())
            made.seen.append(Seen(self.command, self.path, {name.lower(): value for name, value in headers.items()}))
            fault = made.take(f"{self.command} {self.path}")
            status, answered, data = 0, [], b""
            if fault is None or fault.reached:
                upstream = http.client.HTTPConnection(upstream_host, timeout=stretched(60))
                upstream.request(self.command, self.path, body, headers)
                response = upstream.getresponse()
                status, answered, data = response.status, response.getheaders(), response.read()
                upstream.close()
            if fault is not None:
                if fault.status is None:
                    self.close_connection = True
                    return
                status, answered, data = fault.status, list(fault.headers.items()), fault.body
            self.send_response(status)
            for name, value in answered:
                if name.lower() not in ("content-length", "date", "transfer-encoding"):
                    self.send_header(name, value)
            length = next((value for name, value in answered if name.lower() == "content-length"), str(len(data)))
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _pass_on  # noqa: N815 - http.server's names

        def log_message(self, *arguments: object) -> None: ...

    with serving(Handler, port):
        yield made


@dataclass
class CuttingProxy:
    """Passes connections on to ``upstream``; those in ``cuts`` end after so many bytes from the client, or to it.

    cuts: for each connection that carries that many bytes at all, in order: (bytes up or None, bytes down or None).
    """

    host: str
    upstream: int
    cuts: list[tuple[int | None, int | None]] = field(default_factory=list)
    connections: int = 0
    made: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(("127.0.0.1", self.upstream))
            for source, sink, up in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._copy, args=(source, sink, up), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
                passed += len(data)
                if self._take(passed, up):
                    break
        for side in (source, sink):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()

    def _take(self, passed: int, up: bool) -> bool:
        with self._lock:
            limit = self.cuts[0][0 if up else 1] if self.cuts else None
            if limit is None or passed < limit:
                return False
            self.cuts.pop(0)
            self.made += 1
            return True


@contextlib.contextmanager
def cutting_proxy(upstream_host: str) -> Iterator[CuttingProxy]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = int(listener.getsockname()[1])
    proxy = CuttingProxy(f"127.0.0.1:{port}", int(upstream_host.rpartition(":")[2]))
    thread = threading.Thread(target=proxy.serve, args=(listener,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
