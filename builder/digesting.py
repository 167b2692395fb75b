"""The content digest of a selection: what goes into the cache key of a COPY or ADD.

It covers what the layer depends on and nothing else: names, types, permissions, owners, sizes, link targets, device
numbers, content, file capabilities and ``user.*`` attributes; never times. Owners that ``--chown`` replaces, and
permissions that an octal ``--chmod`` replaces, do not count.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence

from builder.filetree import Entry, SourceTree, changed, encode_xattrs, read_xattrs, regular_files, stamp_of
from builder.modes import parse_chmod
from builder.selecting import Selection
from builder.statcache import StatCache
from core.digests import Digest

_WHOLE = 1024 * 1024
"""Files up to this size are read in one go."""
_BUFFER = 1024 * 1024


def content_digest(selection: Selection, cache: StatCache | None = None) -> Digest:
    """Identify what ``selection`` selects, by content.

    cache: hashes of unchanged files are taken from it, and those of the others are put into it. Raises
    ContextChangedError when a file changes meanwhile, and ContextError when one cannot be read.
    """
    return Digest.of(manifest(selection, cache))


def manifest(selection: Selection, cache: StatCache | None = None) -> bytes:
    """What ``content_digest`` hashes: a record for each file. Two of them tell which files a cache miss is about."""
    hash_files(selection, cache)
    spec = selection.spec
    owned = "%d:%d" if not spec.chown and not spec.from_context else ""
    chmod = parse_chmod(spec.chmod)
    mask = stat.S_IFMT(~0) if chmod is not None and chmod.octal is not None else ~0
    fields: list[str] = []  # none has a NUL, and the first of a record tells how many there are
    for number, source in enumerate(selection.sources):
        fields += ("source", str(number), source.name if source.top is not None else "")
        for entry in (source.top,) if source.top is not None else source.entries:
            mode = entry.mode
            kind = mode & 0o170000
            inode = entry.leader or entry
            what = ""
            if kind == stat.S_IFREG:
                assert inode.sha is not None
                what = inode.sha.hex()
            elif kind == stat.S_IFLNK:
                what = entry.target
            elif kind != stat.S_IFDIR:
                what = str(entry.rdev)
            xattrs = encode_xattrs(inode.xattrs).hex() if inode.xattrs else ""
            size = entry.size if kind == stat.S_IFREG else 0
            owner = owned % (entry.uid, entry.gid) if owned else ""
            fields += ("entry", entry.path, f"{mode & mask:o} {owner} {size} {entry.implied:d}", what, xattrs)
    return os.fsencode("\0".join(fields))


def hash_files(selection: Selection, cache: StatCache | None = None) -> None:
    """Find out ``sha`` and ``xattrs`` of every regular file of ``selection`` that does not know them yet."""
    missing: list[Entry] = []
    for entry in regular_files(selection.entries()):
        if entry.sha is not None:
            continue
        known = cache.get(entry.tree_path, entry.stamp) if cache is not None else None
        if known is None:
            missing.append(entry)
        else:
            entry.sha, entry.xattrs = known
    if missing:
        _hash_all(selection.tree, missing)
        if cache is not None:
            for entry in missing:
                assert entry.sha is not None
                cache.put(entry.tree_path, entry.stamp, (entry.sha, entry.xattrs or {}), selection.looked_at_ns)


def _hash_all(tree: SourceTree, entries: Sequence[Entry]) -> None:
    buffer = bytearray(_BUFFER)
    directory = None
    directory_fd = -1
    try:
        for entry in entries:
            if entry.directory is not directory:
                if directory_fd >= 0:
                    os.close(directory_fd)
                    directory_fd = -1
                directory = entry.directory
                directory_fd = tree.open_directory(directory.tree_path)
            _hash_one(tree, entry, directory_fd, buffer)
    finally:
        if directory_fd >= 0:
            os.close(directory_fd)


def _hash_one(tree: SourceTree, entry: Entry, directory_fd: int, buffer: bytearray) -> None:
    fd = tree.open_file(entry, directory_fd)
    try:
        small = entry.size <= _WHOLE
        sha = hashlib.sha256(os.read(fd, entry.size + 1)) if small else hash_descriptor(fd, buffer)
        entry.xattrs = read_xattrs(fd)
        if stamp_of(fd) != entry.stamp:
            raise changed(tree, entry.tree_path)
    finally:
        os.close(fd)
    entry.sha = sha.digest()


def hash_descriptor(fd: int, buffer: bytearray | None = None) -> hashlib._Hash:
    """The sha256 of a descriptor's content, from where it stands."""
    buffer = buffer or bytearray(_BUFFER)
    view = memoryview(buffer)
    sha = hashlib.sha256()
    while size := os.readv(fd, [buffer]):
        sha.update(view[:size])
    return sha
