"""Caches in directories of the client's: ``--cache-to`` and ``--cache-from`` with ``type=local``.

The client offers each such directory as a store of blobs, by containerd's content service, and writes the directory's
index itself, with the manifest that the build's answer names.
Sources: containerd's api/services/content/v1, moby/buildkit's session/content.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from io import BytesIO
from typing import Any, BinaryIO, Final

from builder.cacheio.places import CacheContents, contents_of
from builder.errors import CacheExportError, CacheFormatError
from builder.request.cache import CacheFrom, CacheTo
from core.cancellation import check
from core.digests import Digest
from dockerapi.buildkit import messages
from dockerapi.buildkit.rpc import Asked, Code, RpcError
from dockerapi.buildkit.sessions import Session
from images.oci import MAX_DOCUMENT_BYTES, OCI_MANIFEST, Descriptor

_SERVICE: Final = "/containerd.services.content.v1.Content/"
_STORE: Final = "buildkit-attachable-store-id"
_WRITE, _COMMIT = 1, 2
_PIECE: Final = 256 << 10
_PATIENCE_S: Final = 120.0


class ClientCaches:
    """The directories of a build's client. manifest: of the cache that was written; None before that."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.manifest: Descriptor | None = None

    def source(self, origin: CacheFrom) -> _Source:
        """Where to read. Nothing has been read yet."""
        return _Source(self._session, origin)

    def target(self, wanted: CacheTo) -> AbstractContextManager[_Target]:
        """Where to write."""
        return nullcontext(_Target(self, self._session, wanted))

    def answers(self) -> dict[str, str]:
        """What the client needs to write its index."""
        if self.manifest is None:
            return {}
        found = {"mediaType": OCI_MANIFEST, "digest": str(self.manifest.digest), "size": self.manifest.size}
        return {"cache.manifest": json.dumps(found)}


class _Source:
    """A cache in a directory of the client's."""

    def __init__(self, session: Session, origin: CacheFrom) -> None:
        self._session = session
        self._origin = origin

    def __str__(self) -> str:
        return self._origin.location

    def read(self) -> CacheContents:
        if not self._origin.digest:
            raise CacheFormatError(f"the client names no cache in {self._origin.location}")
        manifest = self._document(Digest.parse(self._origin.digest), MAX_DOCUMENT_BYTES)
        return contents_of(manifest, lambda config: self._document(config.digest, config.size))

    def open_layer(self, layer: Descriptor, moved: Callable[[int], None]) -> _Stream:
        return _Stream(self._session, self._origin, layer.digest, moved)

    def _document(self, digest: Digest, most_bytes: int) -> bytes:
        found = bytearray()
        with closing(_Stream(self._session, self._origin, digest, lambda _size: None)) as stream:
            while data := stream.read(_PIECE):
                found += data
                if len(found) > most_bytes:
                    raise CacheFormatError(f"blob {digest} of {self._origin.location} has over {most_bytes} bytes")
        if Digest.of(bytes(found)) != digest:
            raise CacheFormatError(f"blob {digest} of {self._origin.location} is damaged")
        return bytes(found)


class _Stream:
    """A blob while it is read. moved: called with the bytes so far."""

    def __init__(self, session: Session, origin: CacheFrom, digest: Digest, moved: Callable[[int], None]) -> None:
        self._where = origin.location
        self._moved = moved
        self._done = 0
        self._left = b""
        try:
            self._asked = Asked(session.connection, f"{_SERVICE}Read", _store(self._where))
            self._asked.send(messages.ReadContentRequest(digest=str(digest)))
            self._asked.end()
        except RpcError as error:  # the connection is lost, and the stream with it
            raise CacheFormatError(f"the cache in {self._where} cannot be read: {error.message}") from error

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; b"" at the end. Raises CacheFormatError."""
        while not self._left:
            check()
            try:
                piece = self._asked.receive(messages.ReadContentResponse, _PATIENCE_S)
            except RpcError as error:
                raise CacheFormatError(f"the cache in {self._where} cannot be read: {error.message}") from error
            if piece is None:
                return b""
            self._left = piece.data
        data, self._left = self._left[:size], self._left[size:]
        self._done += len(data)
        self._moved(self._done)
        return data

    def close(self) -> None:
        self._asked.stream.close()


class _Target:
    """A directory of the client's that a cache is written to."""

    def __init__(self, caches: ClientCaches, session: Session, wanted: CacheTo) -> None:
        self._caches = caches
        self._session = session
        self._where = wanted.location

    def __str__(self) -> str:
        return self._where

    def send(self, blob: Descriptor, open_blob: Callable[[], BinaryIO] | None, moved: Callable[[int], None]) -> bool:
        try:
            if self._has(blob):
                return True
            if open_blob is None:
                return False
            with open_blob() as file:
                self._write(blob, file, moved)
        except RpcError as error:
            raise CacheExportError(
                f"the client did not take the cache for {self._where}: {error.message}",
                hint="check the directory in dest=",
            ) from error
        return True

    def is_current(self, manifest: bytes) -> bool:
        del manifest  # the client's index may stand for another: it is written again, and nothing else
        return False

    def finish(self, manifest: bytes) -> None:
        blob = Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(manifest), size=len(manifest))
        self.send(blob, lambda: BytesIO(manifest), lambda _size: None)
        self._caches.manifest = blob

    def _has(self, blob: Descriptor) -> bool:
        with Asked(self._session.connection, f"{_SERVICE}Info", _store(self._where)) as asked:
            asked.send(messages.ContentInfoRequest(digest=str(blob.digest)))
            asked.end()
            try:
                found = asked.receive(messages.ContentInfoResponse, _PATIENCE_S)
            except RpcError as error:
                if error.code == Code.NOT_FOUND:
                    return False
                raise
        return found is not None and found.info.size == blob.size

    def _write(self, blob: Descriptor, file: BinaryIO, moved: Callable[[int], None]) -> None:
        """Write a blob piece by piece, each answered, and commit it."""
        digest = str(blob.digest)
        about: dict[str, Any] = {"ref": f"shiplap-{digest}", "total": blob.size, "expected": digest}
        offset = 0
        with Asked(self._session.connection, f"{_SERVICE}Write", _store(self._where)) as asked:
            while data := file.read(_PIECE):
                check()
                asked.send(messages.WriteContentRequest(action=_WRITE, offset=offset, data=data, **about))
                if asked.receive(messages.WriteContentResponse, _PATIENCE_S) is None:
                    raise RpcError(Code.UNKNOWN, "it ended before its end")
                offset += len(data)
                moved(offset)
            asked.send(messages.WriteContentRequest(action=_COMMIT, offset=offset, **about))
            asked.end()
            try:
                while asked.receive(messages.WriteContentResponse, _PATIENCE_S) is not None:
                    pass
            except RpcError as error:
                if error.code != Code.ALREADY_EXISTS:  # another build of the client's was as quick
                    raise


def _store(where: str) -> dict[str, list[str]]:
    return {_STORE: [f"local:{where}"]}
