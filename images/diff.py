"""What a step left in its overlay upper directory, written as a layer tar.

The upper directory was written through overlayfs mounted in a user namespace (option ``userxattr``) over idmapped
mounts, so owners on disk are the container's. In overlayfs's terms, and as image-spec's layer.md wants them written:

- a character device 0/0, or an empty file with ``user.overlay.whiteout``, hides a name below: ``.wh.name``;
- a directory with ``user.overlay.opaque=y`` hides what the same directory below has: ``.wh..wh..opq`` in it. overlayfs
  marks nearly every new directory so, for its own speed; the layer says it only where a directory below exists;
- other ``user.overlay.*`` attributes are overlayfs's own and are never shipped;
- a directory is copied up whenever something in it changes: it is written when its own metadata differ from below, or
  as the parent of something that is written.

Source of the rules: Documentation/filesystems/overlayfs.rst; containerd's and BuildKit's overlay differs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from core.cancellation import check
from core.kernel import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from images.errors import LayerSourceError
from images.tarwriter import TarWriter
from images.whiteouts import WHITEOUT_PREFIX

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_LEVELS = 64  # directories kept open at once: the depth of a tree is not ours to trust

_OPAQUE = "user.overlay.opaque"
_WHITEOUT = "user.overlay.whiteout"
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
        top = os.open(upper, _DIRECTORY_FLAGS)
        stack.callback(os.close, top)
        walk = _Walk(top, lower, writer)
        stack.callback(walk.close)
        walk.run(root)
    return DiffSummary(writer.entries - before, tuple(walk.unrepresentable))


class _Level:
    """A directory on the way from the root to where the walk is.

    fd, lower: descriptors of the upper and the lower directory; None while closed to save descriptors. ``lower`` is
    also None when that directory does not exist or is hidden (``has_lower`` tells).
    """

    __slots__ = ("fd", "has_lower", "info", "lower", "name", "names", "xattrs")

    def __init__(self, name: bytes, fd: int, lower: int | None, info: os.stat_result, xattrs: dict[str, bytes]) -> None:
        self.name = name
        self.fd: int | None = fd
        self.lower = lower
        self.has_lower = lower is not None
        self.info = info
        self.xattrs = xattrs
        self.names: Iterator[bytes] = iter(sorted(map(os.fsencode, os.listdir(fd))))

    def close(self) -> None:
        for fd in (self.fd, self.lower):
            if fd is not None:
                os.close(fd)
        self.fd = self.lower = None


class _Walk:
    """The walk through the upper directory, depth first, with the way to where it is on a stack."""

    def __init__(self, root: int, open_lower: Callable[[], int | None], writer: TarWriter) -> None:
        self._writer = writer
        self._root = root
        self._open_lower: Callable[[], int | None] | None = open_lower  # None: it has been called
        self._lower_root: int | None = None
        self._levels: list[_Level] = []
        self._written = 0  # how many of the levels are in the tar
        self._prefix = b""  # the path of the last level, with a slash
        self._links: dict[tuple[int, int], bytes] = {}
        self.unrepresentable: list[bytes] = []

    def run(self, root: tuple[int, int, int] | None) -> None:
        info = os.fstat(self._root)
        # The upper root is made by the builder, not copied up: its times and attributes say nothing.
        self._levels.append(_Level(b"", os.open(".", _DIRECTORY_FLAGS, dir_fd=self._root), None, info, {}))
        self._written = 1
        if root is not None and root != (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid):
            self._written = 0
            self._write_levels()
        while self._levels:
            level = self._levels[-1]
            for name in level.names:
                check()
                if self._visit(level, name):
                    break  # into a directory
            else:
                self._leave()

    def close(self) -> None:
        for level in self._levels:
            level.close()

    def _lower_of(self, level: _Level) -> int | None:
        """The lower directory of the level that the walk is at."""
        if self._open_lower is not None:  # nobody asked before, so this is the root
            open_lower, self._open_lower = self._open_lower, None
            self._lower_root = open_lower()
            if self._lower_root is not None:
                level.lower = os.open(".", _DIRECTORY_FLAGS, dir_fd=self._lower_root)
                level.has_lower = True
        return level.lower

    def _visit(self, level: _Level, name: bytes) -> bool:
        """Write what ``name`` is; True when it is a directory, which is entered."""
        path = self._prefix + name
        if name.startswith(WHITEOUT_PREFIX):
            self.unrepresentable.append(path)
            return False
        try:
            info = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
            kind = stat.S_IFMT(info.st_mode)
            if kind == stat.S_IFDIR:
                self._enter(level, name, info)
                return True
            if kind == stat.S_IFREG:
                fd = _open_file(name, level.fd)
            target = os.readlink(name, dir_fd=level.fd) if kind == stat.S_IFLNK else b""
        except OSError as error:
            raise _unreadable(path, error) from error
        if kind == stat.S_IFREG:
            try:
                self._file(level, name, path, info, fd)
            finally:
                os.close(fd)
        elif kind == stat.S_IFCHR and info.st_rdev == 0:
            self._whiteout(level, name, path)
        elif kind != stat.S_IFSOCK and not self._known_link(path, info):
            mtime = info.st_mtime_ns // 1_000_000_000
            if kind == stat.S_IFLNK:
                self._writer.symlink(path, target, info.st_uid, info.st_gid, mtime)
            else:
                self._writer.device(path, info.st_mode, info.st_uid, info.st_gid, mtime, info.st_rdev)
        return False

    def _file(self, level: _Level, name: bytes, path: bytes, info: os.stat_result, fd: int) -> None:
        names = _attribute_names(fd, path)
        if names and info.st_size == 0 and _WHITEOUT in names:
            self._whiteout(level, name, path)
            return
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

    def _known_link(self, path: bytes, info: os.stat_result) -> bool:
        """Write the parents; if the same file was written by another name, write the entry too, as a hard link."""
        if self._written < len(self._levels):
            self._write_levels()
        if info.st_nlink == 1:
            return False
        first = self._links.setdefault((info.st_dev, info.st_ino), path)
        if first is path:
            return False
        self._writer.hardlink(path, first, info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns // 1_000_000_000)
        return True

    def _whiteout(self, level: _Level, name: bytes, path: bytes) -> None:
        lower = self._lower_of(level)
        if lower is None:
            return
        try:
            os.stat(name, dir_fd=lower, follow_symlinks=False)
        except FileNotFoundError:
            return  # made and removed by the same step
        self._write_levels()
        self._writer.whiteout(path)

    def _enter(self, level: _Level, name: bytes, info: os.stat_result) -> None:
        path = self._prefix + name
        fd = os.open(name, _DIRECTORY_FLAGS, dir_fd=level.fd)
        lower = _open_lower(name, self._lower_of(level))
        try:
            names = _attribute_names(fd, path)
            xattrs = _attributes(fd, path, names)
            opaque = _OPAQUE in names and os.getxattr(fd, _OPAQUE) == b"y" and lower is not None
            changed = opaque or lower is None or _differs(info, xattrs, lower, path)
            if opaque and lower is not None:
                os.close(lower)
                lower = None
            entered = _Level(name, fd, lower, info, xattrs)
        except BaseException:
            os.close(fd)
            if lower is not None:
                os.close(lower)
            raise
        self._levels.append(entered)
        self._prefix = path + b"/"
        if len(self._levels) > _OPEN_LEVELS:
            self._levels[-_OPEN_LEVELS].close()
        if changed:
            self._write_levels()
        if opaque:
            self._writer.opaque(path)

    def _leave(self) -> None:
        left = self._levels.pop()
        left.close()
        self._prefix = self._prefix[: len(self._prefix) - len(left.name) - 1]
        self._written = min(self._written, len(self._levels))
        if self._levels and self._levels[-1].fd is None:
            self._reopen(self._levels[-1])

    def _reopen(self, level: _Level) -> None:
        confined = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
        path = self._prefix or b"."
        try:
            level.fd = openat2(self._root, path, _DIRECTORY_FLAGS, resolve=confined)
            if level.has_lower and self._lower_root is not None:
                level.lower = openat2(self._lower_root, path, _DIRECTORY_FLAGS, resolve=confined)
        except OSError as error:
            raise _unreadable(path, error) from error

    def _write_levels(self) -> None:
        """Put the directories on the way here into the tar, those that are not there yet."""
        path = b""
        for depth, level in enumerate(self._levels):
            path += level.name + b"/" if depth else b""
            if depth >= self._written:
                info = level.info
                mtime = info.st_mtime_ns // 1_000_000_000
                self._writer.directory(path, info.st_mode, info.st_uid, info.st_gid, mtime, level.xattrs)
        self._written = len(self._levels)


def _open_file(name: bytes, directory: int | None) -> int:
    try:
        # Without O_NOATIME, reading a file that was just written makes the file system write its inode once more.
        return os.open(name, _FILE_FLAGS | os.O_NOATIME, dir_fd=directory)
    except PermissionError:  # it is for the file's owner
        return os.open(name, _FILE_FLAGS, dir_fd=directory)


def _open_lower(name: bytes, directory: int | None) -> int | None:
    """The lower directory under a directory of the upper; None when there is none, or something else."""
    if directory is None:
        return None
    try:
        return os.open(name, _DIRECTORY_FLAGS, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise


def _differs(info: os.stat_result, xattrs: dict[str, bytes], lower: int, path: bytes) -> bool:
    below = os.fstat(lower)
    if (info.st_mode, info.st_uid, info.st_gid) != (below.st_mode, below.st_uid, below.st_gid):
        return True
    return xattrs != _attributes(lower, path, _attribute_names(lower, path))


def _attribute_names(fd: int, path: bytes) -> list[str]:
    try:
        return os.listxattr(fd)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise _unreadable(path, error) from error


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
        raise _unreadable(path, error) from error
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


def _unreadable(path: bytes, error: OSError) -> LayerSourceError:
    return LayerSourceError(f"cannot put {os.fsdecode(path)!r} into a layer: {error.strerror}")
