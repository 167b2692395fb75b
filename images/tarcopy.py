"""Entries of one tar written to another: as they are, or with their times changed."""

from __future__ import annotations

from typing import Final

from core.digests import DiffID
from images.store import Store
from images.tarheaders import DIRECTORY, FILE, HARDLINK, SYMLINK
from images.tarreader import DEVICE_TYPES, TarEntry, TarReader
from images.tarwriter import SupportsRead, TarWriter

_CLAMPED: Final = "layer.clamped"


def write_entry(writer: TarWriter, entry: TarEntry, content: SupportsRead) -> None:
    """Write one entry. content: what a regular file holds, ``entry.size`` bytes of it."""
    name, mode, uid, gid, mtime = entry.name, entry.mode, entry.uid, entry.gid, entry.mtime
    if entry.kind == FILE:
        writer.file(name, mode, uid, gid, mtime, entry.size, content, entry.xattrs)
    elif entry.kind == DIRECTORY:
        writer.directory(name, mode, uid, gid, mtime, entry.xattrs)
    elif entry.kind == SYMLINK:
        writer.symlink(name, entry.link, uid, gid, mtime, entry.xattrs)
    elif entry.kind == HARDLINK:
        writer.hardlink(name, entry.link, mode, uid, gid, mtime)
    else:
        writer.device(name, DEVICE_TYPES[entry.kind] | mode, uid, gid, mtime, entry.rdev, entry.xattrs)


def clamped_layer(store: Store, diff_id: DiffID, latest: int) -> DiffID:
    """The layer with no time after ``latest`` (seconds since the epoch); what is older keeps its own.

    Made once and remembered. Raises MissingBlobError and InvalidLayerError.
    """
    key = f"{latest} {diff_id}"
    known = store.cache.memo_get(_CLAMPED, key)
    if known is not None and store.layers.has(made := DiffID(known.decode())):
        return made
    with store.layers.writer(sync=False) as sink:
        with store.layers.open_checked([diff_id]) as (tar,):
            reader = TarReader(tar)
            writer = TarWriter(sink)
            for entry in reader:
                write_entry(writer, entry if entry.mtime <= latest else entry._replace(mtime=latest), reader)
            writer.close()
        made = sink.commit()
    store.cache.memo_put(_CLAMPED, key, made.encode())
    return made
