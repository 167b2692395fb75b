"""Writes planned nodes to a layer tar. Reads each content once, and compares it with what was hashed."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from builder.contexts.filetree import Directory, SelectedFile, read_xattrs
from builder.copying.archives import Archive
from builder.copying.destination import ArchiveMember, PlannedEntry
from builder.copying.earlierlayer import EarlierLayer
from builder.copying.owners import UnknownName
from builder.errors import CopyError
from builder.paths import NAME_MAX, check_length
from core.cancellation import check
from images.errors import LayerSourceError
from images.matching import TarMatcher
from images.survey import Survey
from images.tarheaders import BLOCK
from images.tarwriter import StretchReader, SupportsRead, TarWriter
from images.whiteouts import WHITEOUT_PREFIX

_IN_NAME = b"/" + WHITEOUT_PREFIX
_ASK_EVERY = 256  # files; those that are read ask for themselves
_ENCODING = sys.getfilesystemencoding()  # as os.fsencode has it, which takes ten times as long


class Written(NamedTuple):
    """What is known of a layer that has just been written.

    places: sha256 of each content that came from a tree, and where that content begins in the tar.
    survey: what a scan of the tar would find; None where only a scan can tell.
    unknown_names: names of ``--chown`` or USER that root replaces.
    """

    places: Sequence[tuple[bytes, int]]
    survey: Survey | None
    unknown_names: tuple[UnknownName, ...] = ()


def write_nodes(
    nodes: Mapping[str, PlannedEntry],
    archives: Sequence[Archive],
    writer: TarWriter,
    *,
    looked_at_ns: int = 0,
    earlier: EarlierLayer | None = None,
) -> Written:
    """Write every node, parents first. Files from archives come last, in the archives' order.

    looked_at_ns: a moment before the first file was stat'ed, nanoseconds since the epoch.
    earlier: a layer from which contents with known hashes are taken, so that their files need not be opened.
    Raises ContextChangedError, and CopyError for a name that a layer cannot have.
    """
    kind = _ContentMatcher if isinstance(writer, TarMatcher) else _ContentWriter
    content = kind(looked_at_ns, writer, earlier)
    is_plain = not archives
    members: list[dict[int, list[tuple[bytes, PlannedEntry]]]] = [{} for _ in archives]
    first_names: dict[ArchiveMember, bytes] = {}  # of links and devices, which may also have several names
    try:
        for number, (path, node) in enumerate(nodes.items()):
            if not number % _ASK_EVERY:
                check()
            name = path.encode(_ENCODING, "surrogateescape")
            if len(name) > NAME_MAX:
                check_length(path, "cannot put it into an image")
            if WHITEOUT_PREFIX in name and (name.startswith(WHITEOUT_PREFIX) or _IN_NAME in name):
                raise _reserved(path)
            type_ = node.mode & 0o170000
            if type_ == stat.S_IFREG:
                if isinstance(node.content, ArchiveMember):
                    of_archive = members[node.content.archive]
                    of_archive.setdefault(node.content.index, []).append((name, node))
                elif isinstance(node.content, bytes):
                    writer.file(
                        name, node.mode, node.uid, node.gid, node.mtime, len(node.content), node.content, node.xattrs
                    )
                else:
                    content.write(name, node)
            elif type_ == stat.S_IFDIR:
                writer.directory(name, node.mode, node.uid, node.gid, node.mtime, node.xattrs)
                if node.opaque:
                    writer.opaque(name)
            elif isinstance(node.content, ArchiveMember) and first_names.setdefault(node.content, name) is not name:
                writer.hardlink(name, first_names[node.content], node.mode, node.uid, node.gid, node.mtime)
            elif type_ == stat.S_IFLNK:
                writer.symlink(name, os.fsencode(node.target), node.uid, node.gid, node.mtime)
            else:
                is_plain = False
                writer.device(name, node.mode, node.uid, node.gid, node.mtime, node.rdev, node.xattrs)
    finally:
        content.close()
    for archive, wanted in zip(archives, members, strict=True):
        archive.write(wanted, writer)
    # Nodes come after their parents, and no name comes twice. Only the scan cares who reads devices as whiteouts.
    survey = Survey(writer.entries, {}, writer.marks, "" in nodes, None) if is_plain else None
    return Written(content.places(), survey)


class _ContentWriter:
    """Writes regular files of source trees. Keeps the last directory that it read open."""

    def __init__(self, looked_at_ns: int, writer: TarWriter, earlier: EarlierLayer | None) -> None:
        self._looked_at_ns = looked_at_ns
        self._writer = writer
        self._earlier = earlier
        self._ends: list[tuple[SelectedFile, int]] = []  # where the content of each ends in the tar, padding included
        self._directory: Directory | None = None
        self._directory_fd = -1
        self._names: dict[SelectedFile, bytes] = {}

    def places(self) -> list[tuple[bytes, int]]:
        """Hash and place of each content whose hash is known by now. Empty files are left out."""
        return [
            (entry.sha, end - (entry.size + -entry.size % BLOCK))
            for entry, end in self._ends
            if entry.sha is not None and entry.size
        ]

    def close(self) -> None:
        if self._directory_fd >= 0:
            os.close(self._directory_fd)
            self._directory_fd = -1

    def write(self, name: bytes, node: PlannedEntry) -> None:
        entry = node.content
        assert isinstance(entry, SelectedFile)
        first = self._names.setdefault(entry, name)
        if first is not name:
            self._writer.hardlink(name, first, node.mode, node.uid, node.gid, node.mtime)
            return
        if not self._take(name, node, entry):
            self._read(name, node, entry)
        self._ends.append((entry, self._writer.offset))

    def _take(self, name: bytes, node: PlannedEntry, entry: SelectedFile) -> bool:
        """Take the content from the earlier layer, if its hash is known and the layer has it."""
        if self._earlier is None or entry.sha is None or entry.xattrs is None:
            return False
        if not entry.size:
            self._writer.file(name, node.mode, node.uid, node.gid, node.mtime, 0, b"", entry.xattrs or None)
            return True
        content = self._earlier.content(entry.sha, entry.size)
        if content is None:
            return False
        self._writer.file_from_tar(name, node.mode, node.uid, node.gid, node.mtime, content, entry.xattrs or None)
        return True

    def _read(self, name: bytes, node: PlannedEntry, entry: SelectedFile) -> None:
        tree = entry.directory.tree
        if entry.directory is not self._directory:
            self.close()
            self._directory_fd = tree.open_directory(entry.directory.tree_path)
            self._directory = entry.directory
        fd = tree.open_file(entry, self._directory_fd)
        try:
            self._write_from(fd, name, node, entry)
            tree.check_unchanged(entry, fd)
        except LayerSourceError as error:
            raise tree.is_another(entry) from error
        finally:
            os.close(fd)

    def _write_from(self, fd: int, name: bytes, node: PlannedEntry, entry: SelectedFile) -> None:
        """Write the content, and make sure that it is what was hashed.

        A file is the same one if it was at rest when it was looked at and has the same stamp after writing. The hash
        decides for all other files.
        """
        if entry.xattrs is None:
            entry.xattrs = read_xattrs(fd)
        tree = entry.directory.tree
        elsewhere = tree.stretch(entry)
        source: int | SupportsRead = fd if elsewhere is None else StretchReader(elsewhere)
        if entry.sha is None or not tree.is_proven(entry, self._looked_at_ns):
            source = _HashingReader(source)
        self._writer.file(name, node.mode, node.uid, node.gid, node.mtime, entry.size, source, entry.xattrs or None)
        if isinstance(source, _HashingReader):
            sha = source.digest()
            if entry.sha is not None and entry.sha != sha:
                raise tree.is_another(entry)
            entry.sha = sha


class _ContentMatcher(_ContentWriter):
    """For a ``TarMatcher``: contents that are in the tar are not read."""

    def _write_from(self, fd: int, name: bytes, node: PlannedEntry, entry: SelectedFile) -> None:
        content = entry.directory.tree.stretch(entry)
        if content is None:
            super()._write_from(fd, name, node, entry)
            return
        if entry.xattrs is None:
            entry.xattrs = read_xattrs(fd)
        self._writer.file_from_tar(name, node.mode, node.uid, node.gid, node.mtime, content, entry.xattrs or None)


class _HashingReader:
    """A content, hashed as it is read: a descriptor's, or another reader's."""

    def __init__(self, source: int | SupportsRead) -> None:
        self._source = source
        self._hash = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        check()
        data = os.read(self._source, size) if isinstance(self._source, int) else self._source.read(size)
        self._hash.update(data)
        return data

    def digest(self) -> bytes:
        return self._hash.digest()


def _reserved(path: str) -> CopyError:
    return CopyError(
        f"cannot put /{path} into an image: names that begin with .wh. mark deleted files in layers",
        hint="rename the file, or list it in .dockerignore",
    )
