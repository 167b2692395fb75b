"""``/v2/<name>/blobs/<digest>``: bytes leave through the server's file wrapper, which is sendfile(2) under gunicorn."""

from __future__ import annotations

from typing import IO, BinaryIO, Final, cast

from flask import Response, request
from werkzeug.wsgi import wrap_file

from registry.server.errors import SpecError
from registry.server.http import empty, requested_range
from registry.server.names import parse_digest
from registry.server.registry import Registry

_BUFFER_BYTES: Final = 256 << 10  # where there is no sendfile: TLS, other servers
_FOREVER: Final = "max-age=31536000, immutable"


class _Part:
    """The next ``size`` bytes of a file, as a file: for servers that do not send by descriptor and length."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size
        self.fileno = file.fileno
        self.seek = file.seek
        self.close = file.close

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


class BlobViews:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def get(self, name: str, digest: str) -> Response:
        """GET and HEAD: 200, 206 for a range, 304, 404, 416."""
        wanted = parse_digest(digest)
        try:
            blob = self._registry.content.find(name, wanted)
        except SpecError:
            if self._registry.mirror is None or not self._registry.mirror.fetch_blob(name, wanted):
                raise
            blob = self._registry.content.find(name, wanted)
        headers = {
            "Docker-Content-Digest": str(wanted),
            "ETag": f'"{wanted}"',
            "Accept-Ranges": "bytes",
            "Cache-Control": _FOREVER,
        }
        if wanted in request.if_none_match:
            return empty(304, headers)
        if request.method == "HEAD":
            response = Response(b"", 200, headers, mimetype="application/octet-stream")
            response.content_length = blob.size
            return response
        part = requested_range(blob.size)
        file = self._registry.content.open(blob)
        first, end = part or (0, blob.size)
        file.seek(first)
        source = cast(IO[bytes], _Part(file, end - first)) if part else file
        body = wrap_file(request.environ, source, _BUFFER_BYTES)
        response = Response(body, 206 if part else 200, headers, mimetype="application/octet-stream")
        response.direct_passthrough = True
        response.content_length = end - first
        if part:
            response.headers["Content-Range"] = f"bytes {first}-{end - 1}/{blob.size}"
        return response

    def delete(self, name: str, digest: str) -> Response:
        """202, 404."""
        wanted = parse_digest(digest)
        self._registry.content.unlink(name, wanted)
        return empty(202, {"Docker-Content-Digest": str(wanted)})
