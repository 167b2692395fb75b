"""COPY and ADD: from a selection of files to a layer tar; and WORKDIR's directories.

Three steps: ``select`` finds the files, ``content_digest`` identifies what they hold (for the cache key), and
``write_layer`` plans the layer over the image so far and writes it. Nothing is mounted, unpacked or copied on the way:
a file goes from where it is straight into the tar.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from typing import Final

from builder.contexts.filetree import SelectedFile
from builder.copying.archives import Archive, open_archive
from builder.copying.destination import Destination, PlannedEntry
from builder.copying.digesting import content_digest, manifest
from builder.copying.earlierlayer import EarlierLayer
from builder.copying.layertar import Written, write_nodes
from builder.copying.modes import parse_chmod
from builder.copying.owners import parse_chown
from builder.copying.selecting import Selection, Source, select
from builder.errors import CopyConflictError
from builder.graph.copyspec import CopySpec, heredoc_file
from builder.paths import clean, join, resolve, split
from core.cancellation import check
from images.tarwriter import TarWriter

__all__ = [
    "CopySpec",
    "Selection",
    "Written",
    "content_digest",
    "manifest",
    "needs_rootfs",
    "select",
    "workdir_layer",
    "write_layer",
]

_CREATED: Final = 0o755
_ASK_EVERY: Final = 256  # files
_HEREDOC_MODE: Final = stat.S_IFREG | 0o644


def needs_rootfs(spec: CopySpec) -> bool:
    """Whether the layer depends on the image that is copied into. With ``--link`` it does not."""
    return not spec.link


def write_layer(
    selection: Selection,
    rootfs_fd: int | None,
    writer: TarWriter,
    *,
    created_at: int,
    timestamp: int | None = None,
    also: Sequence[Selection] = (),
    earlier: EarlierLayer | None = None,
) -> Written:
    """Write the layer that the instruction of ``selection`` adds. May write nothing. Leaves ``writer`` open.

    also: further selections of the instruction from other trees, with the same destination, owner and mode.
    rootfs_fd: the root of the merged image so far, which is only read; None for an empty one.
    created_at: mtime of directories made on the way and of heredocs, seconds since the epoch.
    timestamp: mtime of everything that is copied or made, in place of its own (SOURCE_DATE_EPOCH).
    earlier: the layer that the same instruction made before; the bytes of known contents are taken from it.
    Files that were hashed are written as they were hashed, or ContextChangedError is raised. Other files are hashed
    while they are written, so that ``content_digest`` reads nothing afterwards.
    Raises CopyError.
    """
    planner = _Planner(selection, rootfs_fd, created_at, timestamp)
    try:
        for each in (selection, *also):
            planner.plan(each)
        looked_at_ns = min(each.looked_at_ns for each in (selection, *also))
        written = write_nodes(
            planner.destination.nodes, planner.archives, writer, looked_at_ns=looked_at_ns, earlier=earlier
        )
        return written._replace(unknown_names=planner.unknown_names)
    finally:
        for archive in planner.archives:
            archive.close()


def workdir_layer(
    path: str, uid: int, gid: int, rootfs_fd: int | None, writer: TarWriter, *, created_at: int
) -> Written:
    """Write the missing directories of ``path``, if any, with mode 0755 and the given owner.

    path: absolute. Links are followed inside the image. Raises CopyConflictError when a file is in the way.
    """
    destination = Destination(rootfs_fd)
    real = resolve(destination, clean(path))
    destination.make_directories(real, mode=_CREATED, uid=uid, gid=gid, mtime=created_at, what=f"WORKDIR {path}")
    return write_nodes(destination.nodes, (), writer)


class _Planner:
    """Applies the sources of one instruction to a ``Destination``, in order, as if each was copied on its own."""

    def __init__(self, selection: Selection, rootfs_fd: int | None, created_at: int, timestamp: int | None) -> None:
        spec = selection.spec
        if not needs_rootfs(spec):
            rootfs_fd = None
        self._spec = spec
        owner = parse_chown(spec.chown, rootfs_fd, link=spec.link)
        self._owner = None if owner is None else (owner.uid, owner.gid)
        self.unknown_names = () if owner is None else owner.unknown
        self._chmod = parse_chmod(spec.chmod)
        self._timestamp = timestamp
        self._created_at = created_at if timestamp is None else timestamp
        self._what = f"{spec.verb} … {spec.destination}"
        self.destination = Destination(rootfs_fd)
        self.archives: list[Archive] = []

    def plan(self, selection: Selection) -> None:
        self._spec = selection.spec
        for source in selection.sources:
            if self._spec.extract_archives and source.top is not None and stat.S_ISREG(source.top.mode):
                archive = open_archive(selection.tree, source.top, selection.looked_at_ns)
                if archive is not None:
                    self.archives.append(archive)
                    self._unpack(archive)
                    continue
            self._copy(source)
        for name, content in self._spec.heredocs:
            target = self._target(heredoc_file(name), is_directory=False)
            node = self._node(_HEREDOC_MODE, 0, 0, self._created_at)
            node.content = content
            self._put_file(target, node, f"<<{name}")

    def _copy(self, source: Source) -> None:
        target = self._target(source.name, is_directory=source.top is None)
        if source.top is not None:
            self._put_file(target, self._from_entry(source.top), source.written)
            return
        self._make(target)
        self._merge(source, target)

    def _merge(self, source: Source, target: str) -> None:
        """Copy a directory's content into a directory that may already have files."""
        destination = self.destination
        nodes = destination.nodes
        destination.list_existing(target)
        empty: set[SelectedFile | None] = set()  # copied directories that are new: nothing inside can be in the way
        if destination.is_empty(target):
            empty.add(None)  # the parent of the entries at the top
        for number, entry in enumerate(source.entries):
            if not number % _ASK_EVERY:
                check()
            path = join(target, entry.path)
            is_directory = entry.mode & 0o170000 == stat.S_IFDIR
            if entry.directory.entry in empty:
                nodes[path] = self._from_entry(entry)
                if is_directory:
                    empty.add(entry)
            elif not is_directory:
                self._put_file(path, self._from_entry(entry), f"{entry.path} of {source.written}")
            elif (kind := destination.kind(path)) is None:
                destination.put(path, self._from_entry(entry))
                empty.add(entry)
            elif kind != "directory":
                raise CopyConflictError(
                    f"{self._what}: cannot copy the directory {entry.path} of {source.written} to /{path}: "
                    f"it is a {'symbolic link' if kind == 'link' else 'file'} there",
                    hint="copy to another place, or remove it before (RUN rm …)",
                )
            else:
                if entry.implied:
                    destination.change_mode(path, entry.mode)
                else:
                    destination.merge_directory(path, self._from_entry(entry))
                destination.list_existing(path)

    def _target(self, name: str, *, is_directory: bool) -> str:
        """Where a source of this name goes, its parents made: BuildKit's rules for slashes and existing directories."""
        written = self._spec.destination
        last = written.rpartition("/")[2]
        directory = written if last in ("", ".") else written[: -len(last)]
        self._make(resolve(self.destination, clean(directory)))
        target = resolve(self.destination, clean(written))
        if not is_directory and self.destination.is_directory(target):
            return join(target, name)
        if not is_directory:
            self._make(split(target)[0])
        return target

    def _make(self, path: str) -> None:
        uid, gid = self._owner or (0, 0)
        mode = _CREATED if self._chmod is None or self._chmod.octal is None else self._chmod.octal
        self.destination.make_directories(path, mode=mode, uid=uid, gid=gid, mtime=self._created_at, what=self._what)

    def _put_file(self, path: str, node: PlannedEntry, source: str) -> None:
        if self.destination.is_directory(path):
            raise CopyConflictError(
                f"{self._what}: cannot replace the directory /{path} with the file {source}",
                hint="copy to another place, or remove the directory before (RUN rm -r …)",
            )
        self.destination.put(path, node)

    def _from_entry(self, entry: SelectedFile) -> PlannedEntry:
        uid, gid = (0, 0) if self._spec.from_context else (entry.uid, entry.gid)
        node = self._node(entry.mode, uid, gid, entry.mtime)
        mode = entry.mode
        if stat.S_ISREG(mode):
            node.content = entry.leader or entry
        elif stat.S_ISLNK(mode):
            node.target = entry.target
        elif stat.S_ISDIR(mode):
            node.xattrs = entry.xattrs
        else:
            node.rdev = entry.rdev
        return node

    def _node(self, mode: int, uid: int, gid: int, mtime: int) -> PlannedEntry:
        if self._owner is not None:
            uid, gid = self._owner
        if self._chmod is not None and not stat.S_ISLNK(mode):
            mode = self._chmod.apply(mode)
        return PlannedEntry(mode, uid, gid, mtime if self._timestamp is None else self._timestamp)

    def _unpack(self, archive: Archive) -> None:
        target = resolve(self.destination, clean(self._spec.destination))
        self._make(target)
        archive.plan(
            self.destination,
            target,
            len(self.archives) - 1,
            owner=self._owner,
            timestamp=self._timestamp,
            created_at=self._created_at,
        )
