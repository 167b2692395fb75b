"""``/v2/<name>/blobs/uploads/``: monolithic, chunked, streamed and resumed uploads, and mounts."""

from __future__ import annotations

import contextlib

from flask import Response, g, request

from core.digests import Digest
from registry.errors import ErrorCode
from registry.server.content import over_quota
from registry.server.errors import SpecError, size_invalid
from registry.server.http import body_length, body_pieces, content_range, empty, location
from registry.server.names import is_name, parse_digest
from registry.server.registry import Registry
from registry.server.uploads import BrokenBodyError


class UploadViews:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._uploads = registry.uploads

    def begin(self, name: str) -> Response:
        """POST: 202 with an upload; 201 when ``digest`` came with the blob, or ``mount`` found it."""
        mount = request.args.get("mount")
        if mount is not None:
            mounted = parse_digest(mount)
            if self._mount(name, mounted, request.args.get("from") or None):
                return _created(name, mounted)
        algorithm = request.args.get("digest-algorithm", "sha256")
        if algorithm not in ("sha256", "sha512"):
            raise SpecError(400, ErrorCode.DIGEST_INVALID, f"unsupported digest algorithm {algorithm[:40]!r}")
        text = request.args.get("digest")
        whole = parse_digest(text) if text is not None else None
        self._check_room(name)
        identity = self._uploads.begin(name)
        if whole is None:
            return _progress(202, name, identity, 0)
        with contextlib.ExitStack() as undo:
            undo.callback(self._forget, name, identity)
            try:
                self._uploads.finish(name, identity, whole, body_pieces())
            except BrokenBodyError:
                raise size_invalid("the body ended early") from None
            undo.pop_all()
        return _created(name, whole)

    def status(self, name: str, identity: str) -> Response:
        """GET: 204 with Range, 404."""
        return _progress(204, name, identity, self._uploads.size(name, identity))

    def append(self, name: str, identity: str) -> Response:
        """PATCH: 202, 404, 416 for a chunk out of order."""
        self._uploads.size(name, identity)
        start, length = content_range() or (None, None)
        self._check_room(name)
        try:
            size = self._uploads.append(name, identity, body_pieces(), start=start, length=length)
        except BrokenBodyError:
            raise size_invalid("the body ended early: what came is kept, ask for the upload's range") from None
        return _progress(202, name, identity, size)

    def finish(self, name: str, identity: str) -> Response:
        """PUT: 201, 400 for another digest, 404, 416."""
        text = request.args.get("digest")
        if text is None:
            raise SpecError(400, ErrorCode.DIGEST_INVALID, "the digest parameter is missing")
        digest = parse_digest(text)
        self._uploads.size(name, identity)
        start, length = content_range() or (None, None)
        self._check_room(name)
        try:
            self._uploads.finish(name, identity, digest, body_pieces(), start=start, length=length)
        except BrokenBodyError:
            raise size_invalid("the body ended early: what came is kept, ask for the upload's range") from None
        return _created(name, digest)

    def cancel(self, name: str, identity: str) -> Response:
        """DELETE: 204, 404."""
        self._uploads.cancel(name, identity)
        return empty(204, {})

    def _mount(self, name: str, digest: Digest, source: str | None) -> bool:
        if source is not None and not is_name(source):
            return False
        return self._registry.content.mount(
            name, digest, source=source, readable=lambda other: bool(g.client.may(other, "pull"))
        )

    def _check_room(self, name: str) -> None:
        """Refuse what cannot fit, before the body is read."""
        length, room = body_length(), self._registry.content.room_left(name)
        if length is not None and room is not None and length > room:
            quota = self._registry.settings.policy(name).quota_bytes or 0
            raise over_quota(name, quota, quota - room + length)

    def _forget(self, name: str, identity: str) -> None:
        """End the upload of a single request that failed: nobody knows its ID."""
        with contextlib.suppress(SpecError):  # 404: a wrong digest has ended it already
            self._uploads.cancel(name, identity)


def _created(name: str, digest: Digest) -> Response:
    headers = {"Location": location(f"/v2/{name}/blobs/{digest}"), "Docker-Content-Digest": str(digest)}
    return empty(201, headers)


def _progress(status: int, name: str, identity: str, size: int) -> Response:
    headers = {
        "Location": location(f"/v2/{name}/blobs/uploads/{identity}"),
        "Range": f"0-{max(0, size - 1)}",
        "Docker-Upload-UUID": identity,
    }
    return empty(status, headers)
