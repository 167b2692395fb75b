"""Sends a build context to a server, without the files that the server already has."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any, BinaryIO, Final

from builder.errors import BuildCancelledError
from cli.remote.http import Client
from cli.remote.manifest import Manifest

_SMALL_BYTES: Final = 1 << 20  # several such files share a request
_BATCH_BYTES: Final = 8 << 20
_BATCH_FILES: Final = 2000
_TELL_BYTES: Final = 8 << 20
_BLOBS: Final = "application/vnd.shiplap.blobs"


def send_context(
    client: Client, manifest: Manifest, *, progress: Callable[[int, int], None], cancelled: threading.Event
) -> str:
    """Upload what the server lacks, and return the context's digest. progress: bytes sent, and bytes in all.

    Raises RemoteError, ContextError when a file changes before it is sent, BuildCancelledError.
    """
    described: dict[str, Any] = client.call("POST", "/contexts", {"entries": manifest.entries})
    missing: list[str] = described["missing"]
    total = sum(manifest.blobs[digest].size_bytes for digest in missing)
    sent = 0
    for group in _groups(manifest, missing):
        size = sum(manifest.blobs[digest].size_bytes for digest in group)
        tell = functools.partial(_tell, progress, sent, sent + size, total)
        if len(group) == 1:
            with manifest.blobs[group[0]].open() as file:
                client.upload("PUT", f"/contexts/blobs/{group[0]}", _Body(file, tell, cancelled), size)
        else:
            data = _batch(manifest, group)
            body = _Body(BytesIO(data), tell, cancelled)
            client.upload("POST", "/contexts/blobs", body, len(data), media=_BLOBS)
        sent += size
        progress(sent, total)
    return str(described["context"])


def _tell(progress: Callable[[int, int], None], before: int, after: int, total: int, done: int) -> None:
    progress(min(before + done, after), total)


class _Body:
    """A file that is being sent. Reports its progress now and then, and stops once the build is cancelled."""

    def __init__(self, file: BinaryIO, tell: Callable[[int], None], cancelled: threading.Event) -> None:
        self._file = file
        self._tell = tell
        self._cancelled = cancelled
        self._done = 0

    def read(self, size: int = -1, /) -> bytes:
        if self._cancelled.is_set():
            raise BuildCancelledError("cancelled before the run was queued")
        data = self._file.read(size)
        if self._done // _TELL_BYTES != (self._done + len(data)) // _TELL_BYTES:
            self._tell(self._done + len(data))
        self._done += len(data)
        return data

    def seek(self, offset: int, /) -> int:
        self._done = self._file.seek(offset)
        return self._done


def _groups(manifest: Manifest, digests: Sequence[str]) -> list[list[str]]:
    """Digests in groups for one request each: big files alone, small ones together."""
    groups: list[list[str]] = []
    room = 0
    for digest in sorted(digests, key=lambda digest: manifest.blobs[digest].size_bytes):
        size = manifest.blobs[digest].size_bytes
        if not groups or size > _SMALL_BYTES or size > room or len(groups[-1]) >= _BATCH_FILES:
            groups.append([])
            room = _BATCH_BYTES
        groups[-1].append(digest)
        room -= size
    return groups


def _batch(manifest: Manifest, digests: Sequence[str]) -> bytes:
    parts: list[bytes] = []
    for digest in digests:
        with manifest.blobs[digest].open() as file:
            data = file.read(_SMALL_BYTES + 1)
        parts += (f"{digest} {len(data)}\n".encode(), data)
    return b"".join(parts)
