"""What a step left in its overlay upper directory, written as a layer tar.

``images.upperwalk`` says what overlayfs marks in an upper directory. As image-spec's layer.md wants it written:

- a name that is hidden is ``.wh.name``;
- a directory that hides what the same directory below has is ``.wh..wh..opq`` in it. The layer says it only where a
  directory below exists;
- ``user.overlay.*`` attributes are overlayfs's own and are never shipped;
- a directory is written when its own metadata differ from below, or as the parent of something that is written.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from collections.abc import Callable
from typing import NamedTuple

from images.tarwriter import TarWriter
from images.upperwalk import (
    DIRECTORY_FLAGS,
    Level,
    UpperWalk,
    attribute_names,
    is_opaque,
    lower_directory,
    unreadable,
)

_PRIVATE = "user.overlay."
_CAPABILITY = "security.capability"
_CAPABILITY_V2, _CAPABILITY_V3 = 0x02000000, 0x03000000
_REVISION_MASK = 0xFF000000


class DiffSummary(NamedTuple):
    """What the difference of two trees came to.

    entries: written to the tar, whiteouts included; 0 means that nothing changed.

    unrepresentable: paths of files that exist but that no layer can hold, because their names begin with ``.wh.``.
    """

    entries: int
    unrepresentable: tuple[bytes, ...] = ()


def write_upper(
    upper: str, lower: Callable[[], int | None], writer: TarWriter, *, root: tuple[int, int, int] | None = None
) -> DiffSummary:
    """Write the changes in ``upper`` (an overlay upper directory that nothing uses any more) to ``writer``.

    lower: gives a directory descriptor of the merged view of the layers below, None when there are none. It is called
    at most once, because a view takes a mount, and not at all where only files in the root directory were written.
    The writer is not closed. Directories come before what is in them, names in the order of their bytes. Of hard links
    the first name is the file. Sockets are left out. A file that was copied up counts as changed, whatever is in it.
    root: permissions, owner and group that the root directory had before; it is written where it has others now.

    Raises LayerSourceError naming a file that cannot be read or does not hold still.
    """
    before = writer.entries
    with contextlib.ExitStack() as stack:
        top = os.open(upper, DIRECTORY_FLAGS)
        stack.callback(os.close, top)
        walk = _Walk(top, lower, writer)
        stack.callback(walk.close)
        walk.write(root)
    return DiffSummary(writer.entries - before, tuple(walk.unrepresentable))


def write_tree(directory: int, writer: TarWriter) -> None:
    """Write all that is below a directory (a descriptor) which may be in use meanwhile. The writer is not closed.

    What is removed while this goes on is left out. A file that grows is as long as it was when it was met; what one
    loses is zeros. Sockets, and names that begin with ``.wh.``, are left out. Raises LayerSourceError for what cannot
    be read.
    """
    walk = _TreeWalk(directory, lambda: None, writer)
    try:
        walk.write(None)
    finally:
        walk.close()


class _Directory(Level):
    """A directory of the way, with the attributes that are shipped."""

    __slots__ = ("xattrs",)

    def __init__(
        self, name: bytes, fd: int, lower: int | None, info: os.stat_result, xattrs: dict[str, bytes] | None = None
    ) -> None:
        super().__init__(name, fd, lower, info)
        self.xattrs = xattrs or {}


class _Walk(UpperWalk[_Directory]):
    """Writes each thing that it meets, and the directories on the way there once."""

    def __init__(self, root: int, open_lower: Callable[[], int | None], writer: TarWriter) -> None:
        super().__init__(root, open_lower)
        self._writer = writer
        self._written = 0  # how many of the levels are in the tar
        self._links: dict[tuple[int, int], bytes] = {}
        self.unrepresentable: list[bytes] = []

    def write(self, root: tuple[int, int, int] | None) -> None:
        # The upper root is made by the builder, not copied up: its times and attributes say nothing.
        top = self.open_root()
        info = os.fstat(top)
        self.levels.append(_Directory(b"", top, None, info))
        self._written = 1
        if root is not None and root != (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid):
            self._written = 0
            self._write_levels()
        self.run()

    def passes_by(self, path: bytes) -> bool:
        self.unrepresentable.append(path)
        return True

    def wants_all(self, level: _Directory) -> bool:  # noqa: ARG002 - of each
        return True

    def file(self, path: bytes, info: os.stat_result, fd: int) -> None:
        names = attribute_names(fd, path)
        if self._known_link(path, info):
            return
        self._writer.file(
            path,
            info.st_mode,
            info.st_uid,
            info.st_gid,
            info.st_mtime_ns // 1_000_000_000,
            info.st_size,
            fd,
            _attributes(fd, path, names) if names else None,
        )

    def link(self, path: bytes, info: os.stat_result, target: bytes) -> None:
        if not self._known_link(path, info):
            self._writer.symlink(path, target, info.st_uid, info.st_gid, info.st_mtime_ns // 1_000_000_000)

    def special(self, path: bytes, info: os.stat_result) -> None:
        if not stat.S_ISSOCK(info.st_mode) and not self._known_link(path, info):
            mtime = info.st_mtime_ns // 1_000_000_000
            self._writer.device(path, info.st_mode, info.st_uid, info.st_gid, mtime, info.st_rdev)

    def gone(self, level: _Directory, name: bytes, path: bytes) -> None:
        if self.lower_stat(level, name) is None:
            return  # made and removed by the same step
        self._write_levels()
        self._writer.whiteout(path)

    def directory(self, level: _Directory, name: bytes, path: bytes, info: os.stat_result) -> bool:
        fd = os.open(name, DIRECTORY_FLAGS, dir_fd=level.fd)
        lower = lower_directory(name, self.lower_of(level))
        try:
            names = attribute_names(fd, path)
            xattrs = _attributes(fd, path, names)
            opaque = lower is not None and is_opaque(fd, names)
            changed = opaque or lower is None or _differs(info, xattrs, lower, path)
            if opaque and lower is not None:
                os.close(lower)
                lower = None
            entered = _Directory(name, fd, lower, info, xattrs)
        except BaseException:
            os.close(fd)
            if lower is not None:
                os.close(lower)
            raise
        self.descend(entered, path)
        if changed:
            self._write_levels()
        if opaque:
            self._writer.opaque(path)
        return True

    def left(self) -> None:
        self._written = min(self._written, len(self.levels))

    def _known_link(self, path: bytes, info: os.stat_result) -> bool:
        """Write the parents; if the same file was written by another name, write the entry too, as a hard link."""
        if self._written < len(self.levels):
            self._write_levels()
        if info.st_nlink == 1:
            return False
        first = self._links.setdefault((info.st_dev, info.st_ino), path)
        if first is path:
            return False
        self._writer.hardlink(path, first, info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns // 1_000_000_000)
        return True

    def _write_levels(self) -> None:
        """Put the directories on the way here into the tar, those that are not there yet."""
        path = b""
        for depth, level in enumerate(self.levels):
            path += level.name + b"/" if depth else b""
            if depth >= self._written:
                info = level.info
                mtime = info.st_mtime_ns // 1_000_000_000
                self._writer.directory(path, info.st_mode, info.st_uid, info.st_gid, mtime, level.xattrs)
        self._written = len(self.levels)


class _TreeWalk(_Walk):
    """A walk through what somebody may be changing."""

    def vanished(self, path: bytes) -> bool:  # noqa: ARG002 - whatever it is
        return True

    def file(self, path: bytes, info: os.stat_result, fd: int) -> None:
        names = attribute_names(fd, path)
        if self._known_link(path, info):
            return
        xattrs = _attributes(fd, path, names) if names else None
        write_moving_file(self._writer, path, info, fd, xattrs)


def write_moving_file(
    writer: TarWriter, name: bytes, info: os.stat_result, fd: int, xattrs: dict[str, bytes] | None = None
) -> None:
    """Write a file that may grow or shrink meanwhile, as a log does, with the size that ``info`` has."""
    mtime = info.st_mtime_ns // 1_000_000_000
    writer.file(name, info.st_mode, info.st_uid, info.st_gid, mtime, info.st_size, _Padded(fd), xattrs)


class _Padded:
    """A file's content, followed by zeros."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, size: int, /) -> bytes:
        return os.read(self._fd, size) or bytes(size)


def _differs(info: os.stat_result, xattrs: dict[str, bytes], lower: int, path: bytes) -> bool:
    below = os.fstat(lower)
    if (info.st_mode, info.st_uid, info.st_gid) != (below.st_mode, below.st_uid, below.st_gid):
        return True
    return xattrs != _attributes(lower, path, attribute_names(lower, path))


def _attributes(fd: int, path: bytes, names: list[str]) -> dict[str, bytes]:
    """The extended attributes that a layer ships: the user's own, and file capabilities."""
    found = {}
    try:
        for name in names:
            if name == _CAPABILITY:
                found[name] = _plain_capability(os.getxattr(fd, name))
            elif name.startswith("user.") and not name.startswith(_PRIVATE) and "=" not in name:
                found[name] = os.getxattr(fd, name)
    except OSError as error:
        raise unreadable(path, error) from error
    return found


def _plain_capability(value: bytes) -> bytes:
    """``struct vfs_cap_data`` as revision 2. Revision 3 adds the user namespace's root, which means nothing elsewhere.

    Source: linux/capability.h.
    """
    if len(value) != 24:
        return value
    (magic,) = struct.unpack_from("<I", value)
    if magic & _REVISION_MASK != _CAPABILITY_V3:
        return value
    return struct.pack("<I", magic & ~_REVISION_MASK | _CAPABILITY_V2) + value[4:20]
