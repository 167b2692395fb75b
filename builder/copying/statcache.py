"""The stat cache: the last hash of each file, trusted for as long as the file's stat data stays the same.

The hash of a racy file is not kept (``builder.contexts.stamps``).

The cache is one blob: a header, the records (fixed size), the paths (NUL-separated, same order), and the extended
attributes of the few files that have any. Reading it costs a few milliseconds for 20,000 files.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from typing import Final, Self, TypeAlias

from builder.contexts.filetree import NO_XATTRS, decode_xattrs, encode_xattrs
from builder.contexts.stamps import STAMP, is_settled

_MAGIC: Final = b"shiplap-stat-2\n"
_COUNTS = struct.Struct("<QQQ")  # records, bytes of paths, bytes of extended attributes
_RECORD = struct.Struct(f"<{STAMP.size}s32sB")
_XATTRS = struct.Struct("<QI")  # index of the record, length
_MAX_AGE: Final = 20

Known: TypeAlias = tuple[bytes, Mapping[str, bytes]]
"""What is known of a file's content: its sha256, and the extended attributes that ship."""


class StatCache:
    """The stamps and hashes of one context's files, by path. Thread-safe; ``dump`` only after all threads finished."""

    def __init__(self) -> None:
        self._records: dict[str, tuple[bytes, bytes, int]] = {}  # path: stamp, sha256, builds since it was last used
        self._xattrs: dict[str, Mapping[str, bytes]] = {}
        self._used: set[str] = set()
        self._changed = False
        self._loaded = b""  # what was loaded, as long as its paths are exactly the known ones
        self._put: set[str] = set()

    @classmethod
    def load(cls, data: bytes | None) -> Self:
        """Load what ``dump`` returned. None, and anything that is not a whole cache, give an empty one."""
        cache = cls()
        if data is None or not data.startswith(_MAGIC) or len(data) < len(_MAGIC) + _COUNTS.size:
            return cache
        count, path_bytes, xattr_bytes = _COUNTS.unpack_from(data, len(_MAGIC))
        start = len(_MAGIC) + _COUNTS.size
        paths_at = start + count * _RECORD.size
        xattrs_at = paths_at + path_bytes
        if len(data) != xattrs_at + xattr_bytes:
            return cache
        paths = os.fsdecode(data[paths_at:xattrs_at]).split("\0") if count else []
        if len(paths) != count:
            return cache
        cache._records = dict(zip(paths, _RECORD.iter_unpack(data[start:paths_at]), strict=True))
        at = xattrs_at
        while at < len(data):
            index, length = _XATTRS.unpack_from(data, at)
            at += _XATTRS.size
            cache._xattrs[paths[index]] = decode_xattrs(data[at : at + length])
            at += length
        if not any(data[start + _RECORD.size - 1 : paths_at : _RECORD.size]):  # no age that would have to go down
            cache._loaded = data
        return cache

    def get(self, path: str, stamp: bytes) -> Known | None:
        """The hash of the file ``path`` when it had exactly this stamp."""
        record = self._records.get(path)
        if record is None or record[0] != stamp:
            return None
        self._used.add(path)
        return record[1], self._xattrs.get(path, NO_XATTRS)

    def put(self, path: str, stamp: bytes, known: Known, looked_at_ns: int) -> None:
        """Remember a file unless it is racy. It was read after ``looked_at_ns``, with this stamp before and after."""
        self._changed = True
        if not is_settled(stamp, looked_at_ns):
            self._records.pop(path, None)
            self._loaded = b""
            return
        sha, xattrs = known
        if path not in self._records or xattrs != self._xattrs.get(path, NO_XATTRS):
            self._loaded = b""
        self._put.add(path)
        self._records[path] = (stamp, sha, 0)
        self._used.add(path)
        if xattrs:
            self._xattrs[path] = xattrs
        else:
            self._xattrs.pop(path, None)

    def dump(self) -> bytes | None:
        """The cache as bytes, or None when nothing in it is new.

        Files that nobody asked for are kept for some more builds: another Dockerfile may use them.
        """
        if not self._changed:
            return None
        if self._loaded and len(self._used) == len(self._records):
            return self._patched()
        kept: list[tuple[str, bytes, bytes, int]] = []
        for path, (stamp, sha, age) in sorted(self._records.items()):
            now = 0 if path in self._used else age + 1
            if now <= _MAX_AGE:
                kept.append((path, stamp, sha, now))
        paths = os.fsencode("\0".join(path for path, _, _, _ in kept))
        xattrs = b"".join(
            _XATTRS.pack(index, len(blob)) + blob
            for index, (path, _, _, _) in enumerate(kept)
            if (blob := encode_xattrs(self._xattrs.get(path, NO_XATTRS)))
        )
        records = b"".join(_RECORD.pack(stamp, sha, age) for _, stamp, sha, age in kept)
        return _MAGIC + _COUNTS.pack(len(kept), len(paths), len(xattrs)) + records + paths + xattrs

    def _patched(self) -> bytes:
        """The loaded bytes with new records for the files that were read since, mostly one of thousands."""
        data = bytearray(self._loaded)
        for index, path in enumerate(self._records):  # in the order in which they were loaded
            if path in self._put:
                stamp, sha, _ = self._records[path]
                _RECORD.pack_into(data, len(_MAGIC) + _COUNTS.size + index * _RECORD.size, stamp, sha, 0)
        return bytes(data)
