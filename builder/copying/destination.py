"""The filesystem that is copied into, with what the instruction has planned for it so far.

A layer is first planned as a tree of nodes over the read-only root filesystem, then written. So a later source of one
COPY sees what an earlier one made. Every rule about links, parents and conflicts is decided before a byte is written.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from builder.contexts.filetree import SelectedFile, SourceTree, read_xattrs
from builder.errors import CopyConflictError
from builder.paths import split

Kind: TypeAlias = Literal["directory", "link", "other"]

_DIRECTORY_MODE: Final = stat.S_IFDIR | 0o755
_MAX_SHOWN: Final = 1 << 14


class ArchiveMember:
    """Content from an archive: member number ``index`` of the instruction's archive number ``archive``."""

    __slots__ = ("archive", "index", "size")

    def __init__(self, archive: int, index: int, size: int) -> None:
        self.archive = archive
        self.index = index
        self.size = size


Content: TypeAlias = SelectedFile | ArchiveMember | bytes | None


class PlannedEntry:
    """One planned entry of the layer. mode has its type bits.

    below: the directory is in the root filesystem too.
    content: where a regular file's content comes from, or the archive member that it is. Two nodes with the same
    content are names of one inode.
    hides: a file stands where the root filesystem has a directory.
    opaque: a new directory stands there.
    """

    __slots__ = ("below", "content", "gid", "hides", "mode", "mtime", "opaque", "rdev", "target", "uid", "xattrs")

    def __init__(
        self,
        mode: int,
        uid: int,
        gid: int,
        mtime: int,
        *,
        content: Content = None,
        target: str = "",
        rdev: int = 0,
        xattrs: Mapping[str, bytes] | None = None,
        below: bool = False,
    ) -> None:
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime = mtime
        self.content = content
        self.target = target
        self.rdev = rdev
        self.xattrs = xattrs
        self.below = below
        self.hides = False
        self.opaque = False

    def twin(self) -> PlannedEntry:
        """Another name for the same file."""
        return PlannedEntry(
            self.mode,
            self.uid,
            self.gid,
            self.mtime,
            content=self.content,
            target=self.target,
            rdev=self.rdev,
            xattrs=self.xattrs,
        )


class Destination:
    """Where a COPY writes to, as paths of the image's filesystem.

    rootfs_fd: the root of the merged, read-only image so far; None when there is none, or ``--link`` ignores it.
    """

    def __init__(self, rootfs_fd: int | None) -> None:
        self._rootfs = None if rootfs_fd is None else SourceTree(rootfs_fd, "the image")
        self.nodes: dict[str, PlannedEntry] = {}
        self._listings: dict[str, dict[str, Kind]] = {}
        self._shown: dict[str, bool] = {}  # see _contents_show

    # Looking. As a ``paths.Lookup``:

    def mode(self, path: str) -> int | None:
        node = self.nodes.get(path)
        if node is not None:
            return node.mode
        if not path:
            return _DIRECTORY_MODE
        return self._rootfs.mode(path) if self._rootfs is not None and self._shows_through(path) else None

    def link_target(self, path: str) -> str:
        node = self.nodes.get(path)
        if node is not None:
            return node.target
        assert self._rootfs is not None
        return self._rootfs.link_target(path)

    def kind(self, path: str) -> Kind | None:
        """What ``path`` itself is. After ``list_existing``, it is quick for many files of a directory."""
        node = self.nodes.get(path)
        if node is None:
            parent, name = split(path)
            listing = self._listings.get(parent)
            if listing is not None and path:
                return listing.get(name)
        mode = self.mode(path)
        return None if mode is None else _kind(mode)

    def is_directory(self, path: str) -> bool:
        return self.kind(path) == "directory"

    def list_existing(self, path: str) -> None:
        """Read a directory of the root filesystem once. Call it before asking for many names in the directory."""
        if path in self._listings or not self._directory_shows_through(path):
            return
        assert self._rootfs is not None
        fd = self._rootfs.open_directory(path)
        try:
            with os.scandir(fd) as children:
                self._listings[path] = {
                    child.name: "directory"
                    if child.is_dir(follow_symlinks=False)
                    else "link"
                    if child.is_symlink()
                    else "other"
                    for child in children
                }
        finally:
            os.close(fd)

    def is_empty(self, path: str) -> bool:
        """Whether the directory ``path`` is surely empty: it was planned just now, or nothing exists at all."""
        if not self.nodes:
            return not path and self._rootfs is None
        last, node = next(reversed(self.nodes.items()))
        return last == path and not node.below

    def _shows_through(self, path: str) -> bool:
        """Whether the root filesystem's ``path`` is visible: no planned file or new directory stands above it."""
        return not path or self._contents_show(split(path)[0])

    def _contents_show(self, directory: str) -> bool:
        """Whether the root filesystem's files in ``directory`` show. The nearest planned directory above decides.

        The answer is remembered: names are looked up part by part, and each lookup would go all the way up again.
        """
        asked = []
        shown = True
        while directory:
            node = self.nodes.get(directory)
            known = node.below if node is not None else self._shown.get(directory)
            if known is not None:
                shown = known
                break
            asked.append(directory)
            directory = split(directory)[0]
        else:
            shown = "" not in self.nodes or self.nodes[""].below
        if len(self._shown) > _MAX_SHOWN:
            self._shown.clear()
        self._shown.update(dict.fromkeys(asked, shown))
        return shown

    def _directory_shows_through(self, path: str) -> bool:
        if self._rootfs is None:
            return False
        node = self.nodes.get(path)
        if node is not None:
            return node.below
        if not path:
            return True
        mode = self.mode(path)
        return mode is not None and stat.S_ISDIR(mode)

    # Planning.

    def put(self, path: str, node: PlannedEntry) -> None:
        """Plan ``node`` at ``path``, whose parent is a directory. A file replaces a file or link; see ``replace``."""
        parent = split(path)[0]
        if parent not in self.nodes:
            self._show(parent)
        self.nodes[path] = node

    def make_directories(self, path: str, *, mode: int, uid: int, gid: int, mtime: int, what: str) -> list[str]:
        """``mkdir -p`` of a path without links; returns what was missing. What exists is left as it is.

        what: the instruction, for the message of CopyConflictError when a file is in the way.
        """
        missing: list[str] = []
        step = path
        while step and (kind := self.kind(step)) != "directory":
            if kind is not None:
                raise CopyConflictError(
                    f"{what}: /{step} is not a directory, so nothing can be put into it",
                    hint="choose another destination, or remove the file before (RUN rm …)",
                )
            missing.append(step)
            step = split(step)[0]
        for step in reversed(missing):
            self.put(step, PlannedEntry(stat.S_IFDIR | mode, uid, gid, mtime))
        return missing

    def merge_directory(self, path: str, node: PlannedEntry) -> None:
        """Give the existing directory ``path`` the attributes of ``node``; what is in it stays."""
        self._show(path)
        old = self.nodes[path]
        node.below = old.below
        node.opaque = old.opaque
        if old.xattrs:
            node.xattrs = {**old.xattrs, **(node.xattrs or {})}
        self.nodes[path] = node

    def change_mode(self, path: str, mode: int) -> None:
        """Give the existing directory ``path`` other permissions, and nothing else."""
        self._show(path)
        self.nodes[path].mode = stat.S_IFDIR | stat.S_IMODE(mode)

    def replace(self, path: str, node: PlannedEntry) -> None:
        """Plan ``node`` in place of whatever is at ``path``, even a whole directory."""
        old = self.nodes.get(path)
        if self.is_directory(path):
            was_below = old.below if old is not None else True
            for inside in [other for other in self.nodes if other.startswith(path + "/")]:
                del self.nodes[inside]
            self._forget_listings(path)
            self._shown.clear()
            node.hides = was_below or (old is not None and old.opaque)
        elif old is not None:
            node.hides = old.hides
        if stat.S_ISDIR(node.mode) and node.hides:
            node.hides, node.opaque = False, True
        if old is not None:
            del self.nodes[path]  # to the end: a hard link or a child must not come before it
        self.put(path, node)

    def _forget_listings(self, path: str) -> None:
        for listed in [other for other in self._listings if other == path or other.startswith(path + "/")]:
            del self._listings[listed]

    def _show(self, path: str) -> None:
        """Put the existing directory ``path`` and those above it into the layer, unchanged: tars name all parents.

        The root is left out: every unpacker makes it, and only a base layer says anything about it.
        """
        missing: list[str] = []
        while path and path not in self.nodes:
            missing.append(path)
            path = split(path)[0]
        for one in reversed(missing):
            assert self._rootfs is not None
            fd = self._rootfs.open_directory(one)
            try:
                st = os.fstat(fd)
                xattrs = read_xattrs(fd)
            finally:
                os.close(fd)
            self.nodes[one] = PlannedEntry(
                st.st_mode, st.st_uid, st.st_gid, int(st.st_mtime), xattrs=xattrs or None, below=True
            )


def _kind(mode: int) -> Kind:
    if stat.S_ISDIR(mode):
        return "directory"
    return "link" if stat.S_ISLNK(mode) else "other"
