"""The content digest of a selection, which is part of the cache key of a COPY or ADD.

It covers exactly what the layer depends on: names, types, permissions, owners, sizes, link targets, device
numbers, content, file capabilities and ``user.*`` attributes; never times. Owners that ``--chown`` replaces, and
permissions that an octal ``--chmod`` replaces, do not count.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence

from builder.contexts.filetree import NO_XATTRS, SelectedFile, SourceTree, encode_xattrs, read_xattrs
from builder.copying.modes import parse_chmod
from builder.copying.selecting import Selection
from builder.copying.statcache import StatCache
from core.cancellation import check
from core.digests import Digest
from images.tarwriter import Stretch

_WHOLE = 1024 * 1024
"""Files up to this size are read in one go."""
_BUFFER = 1024 * 1024
_BIG = 8 * 1024 * 1024
"""Files of this size and more are hashed by several threads. Measured: threads gain nothing for small files."""


def content_digest(selection: Selection, cache: StatCache | None = None) -> Digest:
    """Identify what ``selection`` selects, by content.

    cache: gives the hashes of unchanged files, and receives those of the others.
    Raises ContextChangedError when a file changes while it is hashed, and ContextError when one cannot be read.
    """
    return Digest.of(manifest(selection, cache))


def manifest(selection: Selection, cache: StatCache | None = None) -> bytes:
    """What ``content_digest`` hashes: a record for each file. Two manifests tell which files caused a cache miss."""
    hash_files(selection, cache)
    spec = selection.spec
    keeps_owners = not spec.chown and not spec.from_context
    chmod = parse_chmod(spec.chmod)
    mask = 0o170000 if chmod is not None and chmod.octal is not None else 0o177777
    described: dict[tuple[int, int, int], str] = {}  # few combinations of mode and owner exist
    fields: list[str] = []  # no field has a NUL; a record's first field tells its length
    for number, source in enumerate(selection.sources):
        fields += ("source", str(number), source.name if source.top is not None else "")
        for entry in (source.top,) if source.top is not None else source.entries:
            mode = entry.mode
            key = (mode, entry.uid, entry.gid) if keeps_owners else (mode, 0, 0)
            description = described.get(key)
            if description is None:
                description = described[key] = f"{mode & mask:o} {key[1]}:{key[2]}"
            inode = entry.leader or entry
            xattrs = inode.xattrs
            fields += (
                "entry" if not entry.implied else "implied",
                entry.path,
                description,
                _what(entry, inode),
                encode_xattrs(xattrs).hex() if xattrs else "",
            )
    return os.fsencode("\0".join(fields))


def _what(entry: SelectedFile, inode: SelectedFile) -> str:
    """What a file is, other than name and permissions: a digest (it covers the size), a target or a device number."""
    sha = inode.sha
    if sha is not None:
        return sha.hex()
    if stat.S_ISLNK(entry.mode):
        return entry.target
    return "" if stat.S_ISDIR(entry.mode) else str(entry.rdev)


def hash_files(selection: Selection, cache: StatCache | None = None) -> None:
    """Find out ``sha`` and ``xattrs`` of every regular file of ``selection`` that does not know them yet."""
    missing: list[SelectedFile] = []
    known = cache.get if cache is not None else None
    for entry in selection.entries():
        if entry.leader is not None or entry.mode & 0o170000 != stat.S_IFREG:
            continue
        found = known(entry.tree_path, entry.stamp) if known is not None else None
        if entry.sha is not None:  # already hashed, while it was written or before
            if cache is not None and found is None:
                cache.put(entry.tree_path, entry.stamp, (entry.sha, entry.xattrs or NO_XATTRS), selection.looked_at_ns)
        elif found is None:
            missing.append(entry)
        else:
            entry.sha, entry.xattrs = found
    if missing:
        _hash_all(selection.tree, [entry for entry in missing if entry.size < _BIG])
        _hash_in_threads(selection.tree, [entry for entry in missing if entry.size >= _BIG])
        if cache is not None:
            for entry in missing:
                assert entry.sha is not None
                cache.put(entry.tree_path, entry.stamp, (entry.sha, entry.xattrs or NO_XATTRS), selection.looked_at_ns)


def _hash_in_threads(tree: SourceTree, entries: Sequence[SelectedFile]) -> None:
    workers = min(len(entries), os.cpu_count() or 1)
    if workers < 2:
        _hash_all(tree, entries)
        return
    from concurrent.futures import ThreadPoolExecutor
    from contextvars import copy_context

    with ThreadPoolExecutor(workers, thread_name_prefix="hash") as pool:
        for done in [pool.submit(copy_context().run, _hash_all, tree, [entry]) for entry in entries]:
            done.result()


def _hash_all(tree: SourceTree, entries: Sequence[SelectedFile]) -> None:
    buffer = bytearray(_BUFFER)
    directory = None
    directory_fd = -1
    try:
        for entry in entries:
            check()
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


def _hash_one(tree: SourceTree, entry: SelectedFile, directory_fd: int, buffer: bytearray) -> None:
    fd = tree.open_file(entry, directory_fd)
    try:
        elsewhere = tree.stretch(entry)
        if elsewhere is not None:
            sha = hash_stretch(elsewhere, buffer)
        elif entry.size <= _WHOLE:
            sha = hashlib.sha256(os.read(fd, entry.size + 1))
        else:
            sha = hash_descriptor(fd, buffer)
        entry.xattrs = read_xattrs(fd)
        tree.check_unchanged(entry, fd)
    finally:
        os.close(fd)
    entry.sha = sha.digest()


def hash_stretch(stretch: Stretch, buffer: bytearray) -> hashlib._Hash:
    """The sha256 of a part of a tar; of less, where the tar has lost its end."""
    sha = hashlib.sha256()
    at, end = stretch.offset, stretch.offset + stretch.size
    view = memoryview(buffer)
    while at < end and (size := os.preadv(stretch.fd, [view[: end - at]], at)):
        check()
        sha.update(view[:size])
        at += size
    return sha


def hash_descriptor(fd: int, buffer: bytearray | None = None) -> hashlib._Hash:
    """The sha256 of a descriptor's content, from where it stands."""
    buffer = buffer or bytearray(_BUFFER)
    view = memoryview(buffer)
    sha = hashlib.sha256()
    while size := os.readv(fd, [buffer]):
        check()
        sha.update(view[:size])
    return sha
