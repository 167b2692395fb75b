"""Directories that a layer implies without containing them: the layers below say what they look like.

overlayfs takes a merged directory's owner and mode from the topmost layer that has the directory. So a snapshot of a
layer with ``tmp/file`` but no ``tmp`` must give ``tmp`` the mode that it has below. docker does the same when it
unpacks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final

from core.cancellation import check
from core.digests import DiffID
from images.erofs import DirectoryMetadata
from images.layers import LayerStore
from images.records import OF_LAYERS, CacheRecords

_MEMO: Final = OF_LAYERS[0]
_DEFAULT_MODE: Final = 0o755
_CACHED_TABLES: Final = 64

_Table = tuple[dict[bytes, tuple[int, int, int, int, dict[str, bytes]]], set[bytes], set[bytes]]


class ParentDirectories:
    """Looks directories up in layers' tars; what a tar says about directories is memoised."""

    def __init__(self, layers: LayerStore, cache: CacheRecords) -> None:
        self._layers = layers
        self._cache = cache
        self._tables: dict[DiffID, _Table] = {}

    def resolve(self, implied: Mapping[bytes, int], below: Sequence[DiffID]) -> dict[bytes, DirectoryMetadata]:
        """Metadata for each path; those that no layer below (base first) has are 0755, root's, with the time given."""
        return {
            path: self._find(path, below) or DirectoryMetadata(_DEFAULT_MODE, 0, 0, mtime)
            for path, mtime in sorted(implied.items())
        }

    def _find(self, path: bytes, below: Sequence[DiffID]) -> DirectoryMetadata | None:
        ancestors = [path[:at] for at, byte in enumerate(path) if byte == 0x2F]
        for diff_id in reversed(below):
            check()
            directories, whiteouts, opaque = self._table(diff_id)
            found = directories.get(path)
            if found is not None:
                mode, uid, gid, mtime, xattrs = found
                return DirectoryMetadata(mode, uid, gid, mtime, tuple(sorted(xattrs.items())))
            if path in whiteouts or not whiteouts.isdisjoint(ancestors) or not opaque.isdisjoint(ancestors):
                return None
        return None

    def _table(self, diff_id: DiffID) -> _Table:
        table = self._tables.get(diff_id)
        if table is None:
            import msgspec

            data = self._cache.memo_get(_MEMO, diff_id)
            if data is None:
                table = self._read(diff_id)
                self._cache.memo_put(_MEMO, diff_id, msgspec.msgpack.encode(table))
            else:
                table = msgspec.msgpack.decode(data, type=_Table)
            if len(self._tables) >= _CACHED_TABLES:
                self._tables.clear()
            self._tables[diff_id] = table
        return table

    def _read(self, diff_id: DiffID) -> _Table:
        from images.tarheaders import DIRECTORY, normalise
        from images.tarreader import TarReader
        from images.whiteouts import METADATA_PREFIX, OPAQUE_NAME, WHITEOUT_PREFIX

        directories: dict[bytes, tuple[int, int, int, int, dict[str, bytes]]] = {}
        whiteouts: set[bytes] = set()
        opaque: set[bytes] = set()
        with self._layers.open(diff_id) as tar:
            for entry in TarReader(tar, seekable=True):
                if entry.kind == DIRECTORY:
                    directories[normalise(entry.name)] = (entry.mode, entry.uid, entry.gid, entry.mtime, entry.xattrs)
                elif WHITEOUT_PREFIX in entry.name:
                    parent, _, name = normalise(entry.name).rpartition(b"/")
                    if name == OPAQUE_NAME:
                        opaque.add(parent)
                    elif name.startswith(WHITEOUT_PREFIX) and not name.startswith(METADATA_PREFIX):
                        hidden = name.removeprefix(WHITEOUT_PREFIX)
                        whiteouts.add(parent + b"/" + hidden if parent else hidden)
        return directories, whiteouts, opaque


def implied_directories(path: str) -> dict[bytes, int]:
    """What ``survey`` gives as implied, for tars that it finds unusual; also the root, as ``b""``, if it has no entry.

    Raises InvalidLayerError.
    """
    from images.survey import ImpliedBytes
    from images.tarheaders import DIRECTORY, normalise
    from images.tarreader import TarReader

    directories: set[bytes] = set()
    implied = {b"": 0}
    implied_bytes = ImpliedBytes()
    with open(path, "rb", buffering=0) as tar:
        for entry in TarReader(tar, seekable=True):
            name = normalise(entry.name)
            if entry.kind == DIRECTORY:
                directories.add(name)
            above = name.rpartition(b"/")[0]
            while above not in directories and above not in implied:
                implied_bytes.add(above)
                implied[above] = entry.mtime
                above = above.rpartition(b"/")[0]
    return {name: mtime for name, mtime in implied.items() if name not in directories}


def set_metadata(root: int, path: bytes, metadata: DirectoryMetadata) -> None:
    """Give the directory ``path`` below the descriptor ``root`` this metadata; links are not followed."""
    from core.kernel import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

    fd = openat2(root, path or b".", os.O_RDONLY | os.O_DIRECTORY, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    try:
        if os.geteuid() == 0:
            os.fchown(fd, metadata.uid, metadata.gid)
        os.fchmod(fd, metadata.mode)
        for name, value in metadata.xattrs:
            if not name.startswith(("user.overlay.", "trusted.")):
                os.setxattr(fd, name, value)
        os.utime(fd, (metadata.mtime, metadata.mtime))
    finally:
        os.close(fd)
