"""A registry that takes uploads to the letter of the specification, and hangs up in the middle of them as told."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

from tests.toolkit.ports import free_port
from tests.toolkit.registries import serving


@dataclass
class UploadRegistry:
    """hang_up_after: for each body of over 1000 bytes, in order: after how many bytes to hang up; what came is kept,
    unless ``forget_after``.

    most_bytes: a larger body is answered by 413, as by nginx; 0 is no limit. least_bytes: of a chunk, as it is told.
    takes_streams: else a body of no stated length is answered by 411. loses_streams: it is taken, and nothing kept.
    arrived: how many bytes of streams came so far. deleted: uploads that were given up.
    sent: how many bytes of such bodies arrived, and ranges: what PATCHes said they were, one for each request.
    """

    host: str
    hang_up_after: list[int] = field(default_factory=list)
    forget_after: bool = False
    most_bytes: int = 0
    least_bytes: int = 0
    takes_streams: bool = True
    loses_streams: bool = False
    arrived: int = 0
    deleted: int = 0
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    sent: list[int] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)


@contextlib.contextmanager
def upload_registry() -> Iterator[UploadRegistry]:
    port = free_port()
    registry = UploadRegistry(f"127.0.0.1:{port}")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            digest = self.path.rpartition("/")[2]
            data = registry.blobs.get(digest)
            self._answer(404 if data is None else 200)

        def do_GET(self) -> None:
            if self.path == "/v2/":
                self._answer(200)
                return
            upload = registry.uploads.get(self._name())
            if upload is None:
                self._answer(404, body=b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')
            else:
                self._answer(204, Location=self.path, Range=f"0-{max(0, len(upload) - 1)}")

        def do_POST(self) -> None:
            name = str(len(registry.uploads))
            registry.uploads[name] = bytearray()
            headers = {"Location": f"/v2/x/blobs/uploads/{name}"}
            if registry.least_bytes:
                headers["OCI-Chunk-Min-Length"] = str(registry.least_bytes)
            self._answer(202, body=b"", **headers)

        def do_PATCH(self) -> None:
            upload = registry.uploads.get(self._name())
            if upload is None:
                self._body()
                self._answer(404, body=b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')
                return
            if "Content-Length" not in self.headers and not registry.takes_streams:
                self.close_connection = True
                self._answer(411)
                return
            if 0 < registry.most_bytes < int(self.headers.get("Content-Length") or 0):
                self.rfile.read(int(self.headers["Content-Length"]))
                self._answer(413)
                return
            stated = re.fullmatch(r"(\d+)-\d+", self.headers.get("Content-Range", ""))
            registry.ranges.append(self.headers.get("Content-Range", ""))
            data, whole = self._body()
            if stated and int(stated[1]) != len(upload):
                self._answer(416)
                return
            if "Content-Length" in self.headers or not registry.loses_streams:
                upload += data
            if whole:
                self._answer(202, Location=self.path, Range=f"0-{max(0, len(upload) - 1)}")

        def do_PUT(self) -> None:
            data, whole = self._body()
            if "/manifests/" in self.path:
                registry.manifests[self.path.rpartition("/")[2]] = data
                self._answer(201)
                return
            upload = registry.uploads.get(self._name())
            if upload is None or not whole:
                self._answer(404, body=b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')
                return
            upload += data
            digest = parse_qs(urlsplit(self.path).query)["digest"][0]
            if digest != "sha256:" + hashlib.sha256(upload).hexdigest():
                self._answer(400, body=b'{"errors":[{"code":"DIGEST_INVALID"}]}')
                return
            registry.blobs[digest] = bytes(registry.uploads.pop(self._name()))
            self._answer(201, Location=f"/v2/x/blobs/{digest}")

        def do_DELETE(self) -> None:
            registry.deleted += registry.uploads.pop(self._name(), None) is not None
            self._answer(204)

        def _name(self) -> str:
            return urlsplit(self.path).path.rpartition("/")[2]

        def _stream(self) -> tuple[bytes, bool]:
            data = bytearray()
            most = registry.hang_up_after.pop(0) if registry.hang_up_after else None
            while (line := self.rfile.readline()) and (size := int(line, 16)):
                data += self.rfile.read(size)
                registry.arrived += size
                self.rfile.readline()
                if most is not None and len(data) >= most:
                    break
            else:
                self.rfile.readline()
                registry.sent.append(len(data))
                return bytes(data), bool(line)
            self.close_connection = True
            registry.sent.append(most)
            return bytes(data[:most]), False

        def _body(self) -> tuple[bytes, bool]:
            if self.headers.get("Transfer-Encoding") == "chunked":
                return self._stream()
            length = int(self.headers.get("Content-Length") or 0)
            if length <= 1000 or not registry.hang_up_after:
                data = self.rfile.read(length)
                if length > 1000:
                    registry.sent.append(len(data))
                return data, True
            data = self.rfile.read(min(length, registry.hang_up_after.pop(0)))
            registry.sent.append(len(data))
            self.close_connection = True
            if registry.forget_after:
                registry.uploads.clear()
            return data, False

        def _answer(self, status: int, *, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None: ...

    with serving(Handler, port):
        yield registry
