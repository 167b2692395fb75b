"""A walk through an overlay's upper directory: what a container wrote, and what that hides of the layers below.

The upper directory was written through overlayfs mounted in a user namespace (option ``userxattr``) over idmapped
mounts, so owners on disk are the container's. overlayfs marks in it:

- a character device 0/0, or an empty file with ``user.overlay.whiteout``, hides a name below;
- a directory with ``user.overlay.opaque=y`` hides what the same directory below has. overlayfs marks nearly every new
  directory so, for its own speed;
- a directory is copied up whenever something in it changes.

Source of the rules: Documentation/filesystems/overlayfs.rst; containerd's and BuildKit's overlay differs.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from core.cancellation import check
from core.kernel import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from images.errors import LayerSourceError
from images.whiteouts import WHITEOUT_PREFIX

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CONFINED = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_ASK_EACH = 16  # names: the question may take as long as a small file
_OPEN_LEVELS = 64  # directories kept open at once: the depth of a tree is not ours to trust

_OPAQUE = "user.overlay.opaque"
_WHITEOUT = "user.overlay.whiteout"


class Level:
    """A directory on the way from the root to where the walk is.

    fd, lower: descriptors of the upper and the lower directory; None while closed to save descriptors. ``lower`` is
    also None when that directory does not exist or is hidden (``has_lower`` tells).
    info: of the upper directory.
    names: those that are still to be looked at, and whether they are regular files.
    """

    __slots__ = ("fd", "has_lower", "info", "lower", "name", "names")

    def __init__(self, name: bytes, fd: int, lower: int | None, info: os.stat_result) -> None:
        self.name = name
        self.fd: int | None = fd
        self.lower = lower
        self.has_lower = lower is not None
        self.info = info
        with os.scandir(fd) as entries:
            found = [(os.fsencode(entry.name), entry.is_file(follow_symlinks=False)) for entry in entries]
        self.names: Iterator[tuple[bytes, bool]] = iter(sorted(found))

    def close(self) -> None:
        for fd in (self.fd, self.lower):
            if fd is not None:
                os.close(fd)
        self.fd = self.lower = None


_L = TypeVar("_L", bound=Level)


class UpperWalk(Generic[_L]):
    """The walk: depth first, names in the order of their bytes. A subclass says what becomes of what is met.

    levels: the way to where it is, the root first.
    prefix: the path of the last level, with a slash.

    ``open_lower`` gives a descriptor of the merged view of the layers below, None when there are none. It is called at
    most once, because a view takes a mount. Raises LayerSourceError naming a file that cannot be read.
    """

    def __init__(self, root: int, open_lower: Callable[[], int | None]) -> None:
        self._root = root
        self._open_lower: Callable[[], int | None] | None = open_lower  # None: it has been called
        self.lower_root: int | None = None
        self.levels: list[_L] = []
        self.prefix = b""
        self._met = 0  # names

    # What a subclass says.

    def passes_by(self, path: bytes) -> bool:  # noqa: ARG002 - for subclasses
        """Whether a name that no layer can hold, because it begins with ``.wh.``, is not looked at."""
        return False

    def vanished(self, path: bytes) -> bool:  # noqa: ARG002 - for subclasses
        """Whether it is right that a name that was listed is not there any more: somebody is using the directory."""
        return False

    def wants(self, level: _L, name: bytes, path: bytes) -> bool:  # noqa: ARG002 - for subclasses
        """Whether something that is no directory is to be looked at."""
        return True

    def wants_all(self, level: _L) -> bool:  # noqa: ARG002 - for subclasses
        """Whether ``wants`` would say so of everything that is right in a level, and need not be asked."""
        return False

    def directory(self, level: _L, name: bytes, path: bytes, info: os.stat_result) -> bool:
        """Enter a directory by ``descend``; False: it is passed by."""
        raise NotImplementedError

    def file(self, path: bytes, info: os.stat_result, fd: int) -> None:
        """Do with a regular file, which is open as ``fd``, whatever is to be done."""
        raise NotImplementedError

    def link(self, path: bytes, info: os.stat_result, target: bytes) -> None:
        """Do with a symbolic link whatever is to be done."""
        raise NotImplementedError

    def special(self, path: bytes, info: os.stat_result) -> None:
        """Do with a device, FIFO or socket whatever is to be done."""
        raise NotImplementedError

    def gone(self, level: _L, name: bytes, path: bytes) -> None:
        """Do with a name that is hidden, if there is something below, whatever is to be done."""
        raise NotImplementedError

    def left(self) -> None:
        """The last level has been taken away."""

    # The walk.

    def open_root(self) -> int:
        """A descriptor of the upper directory, for the first level, which the subclass makes."""
        return os.open(".", DIRECTORY_FLAGS, dir_fd=self._root)

    def run(self) -> None:
        """Walk on until everything has been met."""
        while self.levels:
            level = self.levels[-1]
            wants_all = self.wants_all(level)
            for name, is_file in level.names:
                self._met += 1
                if not self._met % _ASK_EACH:
                    check()
                if is_file and wants_all and self._take(level, name):
                    continue
                if self._visit(level, name):
                    break  # into a directory
            else:
                self._leave()

    def close(self) -> None:
        for level in self.levels:
            level.close()

    def lower_of(self, level: _L) -> int | None:
        """The lower directory of the level that the walk is at."""
        if self._open_lower is not None:  # nobody asked before, so this is the root
            open_lower, self._open_lower = self._open_lower, None
            self.lower_root = open_lower()
            if self.lower_root is not None:
                level.lower = os.open(".", DIRECTORY_FLAGS, dir_fd=self.lower_root)
                level.has_lower = True
        return level.lower

    def lower_stat(self, level: _L, name: bytes) -> os.stat_result | None:
        """What is below under this name; None: nothing."""
        lower = self.lower_of(level)
        if lower is None:
            return None
        try:
            return os.stat(name, dir_fd=lower, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def descend(self, level: _L, path: bytes) -> None:
        """Go into a directory."""
        self.levels.append(level)
        self.prefix = path + b"/"
        if len(self.levels) > _OPEN_LEVELS:
            self.levels[-_OPEN_LEVELS].close()

    def _take(self, level: _L, name: bytes) -> bool:
        """Tell the subclass of a regular file, by one look at its path. False: ``_visit`` has to say what it is."""
        if name.startswith(WHITEOUT_PREFIX):
            return False
        try:
            fd = os.open(name, _FILE_FLAGS | os.O_NOATIME, dir_fd=level.fd)
        except OSError:
            return False
        try:
            info = os.fstat(fd)
            if not info.st_size or not stat.S_ISREG(info.st_mode):
                return False
            self.file(self.prefix + name, info, fd)
            return True
        finally:
            os.close(fd)

    def _visit(self, level: _L, name: bytes) -> bool:
        """Tell the subclass what ``name`` is; True when it is a directory, which was entered."""
        path = self.prefix + name
        if name.startswith(WHITEOUT_PREFIX) and self.passes_by(path):
            return False
        fd, target = -1, b""
        try:
            info = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
            kind = stat.S_IFMT(info.st_mode)
            if kind == stat.S_IFDIR:
                return self.directory(level, name, path, info)
            is_gone = is_whiteout(info, name, level.fd)
            if not is_gone:
                if not self.wants(level, name, path):
                    return False
                if kind == stat.S_IFREG:
                    fd = open_file(name, level.fd)
                elif kind == stat.S_IFLNK:
                    target = os.readlink(name, dir_fd=level.fd)
        except FileNotFoundError as error:
            if self.vanished(path):
                return False
            raise unreadable(path, error) from error
        except OSError as error:
            raise unreadable(path, error) from error
        if is_gone:
            self.gone(level, name, path)
        elif kind == stat.S_IFREG:
            try:
                self.file(path, info, fd)
            finally:
                os.close(fd)
        elif kind == stat.S_IFLNK:
            self.link(path, info, target)
        else:
            self.special(path, info)
        return False

    def _leave(self) -> None:
        left = self.levels.pop()
        left.close()
        self.prefix = self.prefix[: len(self.prefix) - len(left.name) - 1]
        self.left()
        if self.levels and self.levels[-1].fd is None:
            self._reopen(self.levels[-1])

    def _reopen(self, level: _L) -> None:
        path = self.prefix or b"."
        try:
            level.fd = openat2(self._root, path, DIRECTORY_FLAGS, resolve=_CONFINED)
            if level.has_lower and self.lower_root is not None:
                level.lower = openat2(self.lower_root, path, DIRECTORY_FLAGS, resolve=_CONFINED)
        except OSError as error:
            raise unreadable(path, error) from error


def is_opaque(fd: int, names: list[str]) -> bool:
    """Whether a directory hides what the same directory below has. names: of its extended attributes."""
    return _OPAQUE in names and os.getxattr(fd, _OPAQUE) == b"y"


def open_file(name: bytes, directory: int | None) -> int:
    try:
        # Without O_NOATIME, reading a file that was just written makes the file system write its inode once more.
        return os.open(name, _FILE_FLAGS | os.O_NOATIME, dir_fd=directory)
    except PermissionError:  # it is for the file's owner
        return os.open(name, _FILE_FLAGS, dir_fd=directory)


def lower_directory(name: bytes, directory: int | None) -> int | None:
    """The lower directory under a directory of the upper; None when there is none, or something else."""
    if directory is None:
        return None
    try:
        return os.open(name, DIRECTORY_FLAGS, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise


def attribute_names(fd: int, path: bytes) -> list[str]:
    try:
        return os.listxattr(fd)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise unreadable(path, error) from error


def unreadable(path: bytes, error: OSError) -> LayerSourceError:
    return LayerSourceError(f"cannot put {os.fsdecode(path)!r} into a layer: {error.strerror}")


def is_whiteout(info: os.stat_result, name: bytes, directory: int | None) -> bool:
    """Whether a name of an upper directory says that it is gone. info: of the name, links not followed."""
    if stat.S_ISCHR(info.st_mode):
        return info.st_rdev == 0
    if info.st_size or not stat.S_ISREG(info.st_mode):
        return False
    fd = open_file(name, directory)
    try:
        return _WHITEOUT in attribute_names(fd, name)
    finally:
        os.close(fd)
