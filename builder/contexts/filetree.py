"""Directory trees that COPY and ADD read from: the build context, or a stage's root filesystem.

Everything is looked up below a directory descriptor, and the kernel keeps the walk inside. Ignore patterns hide files
as if they did not exist: a symbolic link to an ignored file is dangling.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from builder.contexts.stamps import STAMP, is_settled, stamp_of
from builder.errors import ContextChangedError, ContextError
from core.cancellation import check
from core.kernel import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2

if TYPE_CHECKING:
    from core.digests import DiffID
    from images.tarwriter import Stretch

NO_XATTRS: Final[Mapping[str, bytes]] = {}
"""One for all: a dictionary for each of 100,000 files would take more room than their names."""

_RESOLVE = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_by_name = attrgetter("name")
_pack_stamp = STAMP.pack


class LayerTar(NamedTuple):
    """A layer's tar, open for as long as a tree."""

    diff_id: DiffID
    fd: int
    size: int


class PathFilter(Protocol):
    """Which paths of a tree take part. Paths are clean, relative to where the filter starts."""

    def wants(self, path: str) -> bool:
        """Whether ``path`` itself takes part."""

    def may_want_below(self, directory: str) -> bool:
        """Whether something below the unwanted ``directory`` may be wanted. False saves the walk."""


class Directory:
    """A directory of a walk: its path in the tree, and the prefixes of its children's paths in tree and walk."""

    __slots__ = ("entry", "parent", "prefix", "recorded", "tree", "tree_path", "tree_prefix")

    def __init__(
        self, tree: SourceTree, tree_path: str, prefix: str, parent: Directory | None, entry: SelectedFile | None
    ) -> None:
        self.tree = tree
        self.tree_path = tree_path
        self.tree_prefix = tree_path + "/" if tree_path else ""
        self.prefix = prefix
        self.parent = parent
        self.entry = entry
        self.recorded = True


class SelectedFile:
    """One file of a selection. There may be 100,000, hence the slots, the plain ``__init__`` and no early computation.

    path: relative to the source that it was selected by.
    stamp: see ``builder.contexts.stamps``.
    target: of a symbolic link.
    rdev: of a device.
    leader: the first name of the inode, for its second and later names.
    implied: a directory that is there only because something below it matched.
    sha and xattrs: None until somebody has read the file.
    """

    __slots__ = (
        "directory",
        "gid",
        "implied",
        "leader",
        "mode",
        "mtime",
        "path",
        "rdev",
        "sha",
        "size",
        "stamp",
        "target",
        "uid",
        "xattrs",
    )

    def __init__(self, path: str, directory: Directory, st: os.stat_result) -> None:
        self.path = path
        self.directory = directory
        self.mode = mode = st.st_mode
        self.uid = st.st_uid
        self.gid = st.st_gid
        self.size = size = st.st_size
        mtime_ns = st.st_mtime_ns
        self.mtime = mtime_ns // 1_000_000_000
        self.stamp = _pack_stamp(st.st_dev, st.st_ino, size, mtime_ns, st.st_ctime_ns, mode)
        self.target = ""
        self.rdev = 0
        self.leader: SelectedFile | None = None
        self.implied = False
        self.sha: bytes | None = None
        self.xattrs: Mapping[str, bytes] | None = None

    @property
    def tree_path(self) -> str:
        directory = self.directory
        return directory.tree_prefix + self.path[len(directory.prefix) :]


def read_xattrs(fd: int) -> Mapping[str, bytes]:
    """The extended attributes of a file that belong into an image."""
    try:
        names = os.listxattr(fd)
    except OSError:  # the file system has none
        return NO_XATTRS
    if not names:
        return NO_XATTRS
    return {name: os.getxattr(fd, name) for name in sorted(names) if ships(name)}


def ships(xattr: str) -> bool:
    """Whether an extended attribute belongs into an image: file capabilities and ``user.*``, not overlayfs's own."""
    return xattr == "security.capability" or (xattr.startswith("user.") and not xattr.startswith("user.overlay."))


class SourceTree:
    """A tree below ``fd``. The caller keeps and closes ``fd``. Others may write to the tree during a walk.

    label: for messages: ``the build context /src``, ``stage "build"``.
    ignored: which paths of the tree do not take part.
    """

    contents: Mapping[str, bytes] | None = None
    """The sha256 of each regular file by path, where known without reading the file."""

    def __init__(self, fd: int, label: str, *, ignored: PathFilter | None = None) -> None:
        self.fd = fd
        self.label = label
        self._wanted = ignored

    def is_proven(self, entry: SelectedFile, looked_at_ns: int) -> bool:
        """Whether a file keeps its hash for as long as ``check_unchanged`` finds it unchanged.

        looked_at_ns: a moment before it was hashed, nanoseconds since the epoch. False: hash it again.
        """
        return is_settled(entry.stamp, looked_at_ns)

    def check_unchanged(self, entry: SelectedFile, fd: int) -> None:
        """Raises ContextChangedError when ``fd`` is no longer the file that was looked at."""
        if stamp_of(fd) != entry.stamp:
            raise changed(self, entry.tree_path)

    def is_another(self, entry: SelectedFile) -> ContextError:
        """The error to raise when a file's hash has changed."""
        return changed(self, entry.tree_path)

    def mode(self, path: str) -> int | None:
        st = self.stat(path)
        return None if st is None else st.st_mode

    def stat(self, path: str) -> os.stat_result | None:
        """The stat data of ``path`` itself; None when it is missing or ignored. Only its last part may be a link."""
        st = self.stat_unfiltered(path)
        return None if st is not None and not stat.S_ISDIR(st.st_mode) and self.ignores(path) else st

    def stat_unfiltered(self, path: str) -> os.stat_result | None:
        try:
            fd = openat2(self.fd, path or ".", os.O_PATH | os.O_NOFOLLOW, resolve=_RESOLVE)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            return None  # below a symbolic link that is ignored, so nobody followed it
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def link_target(self, path: str) -> str:
        fd = openat2(self.fd, path, os.O_PATH | os.O_NOFOLLOW, resolve=_RESOLVE)
        try:
            return os.readlink("", dir_fd=fd)
        finally:
            os.close(fd)

    def open_directory(self, path: str) -> int:
        """A descriptor of ``path`` for listing and for opening files in. Raises ContextError."""
        try:
            return openat2(self.fd, path or ".", _OPEN_DIRECTORY, resolve=_RESOLVE)
        except PermissionError as error:
            raise unreadable(self, path) from error
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise _too_deep(self, path) from error
            raise changed(self, path) from error

    def open_file(self, entry: SelectedFile, directory_fd: int) -> int:
        """A descriptor of a regular file's content. Raises ContextError."""
        try:
            return os.open(entry.path[len(entry.directory.prefix) :], _OPEN_FILE, dir_fd=directory_fd)
        except PermissionError as error:
            raise unreadable(self, entry.tree_path) from error
        except OSError as error:
            raise changed(self, entry.tree_path) from error

    def expect(self, entries: Iterable[SelectedFile]) -> None:
        """These files are going to be read."""
        del entries

    def stretch(self, entry: SelectedFile) -> Stretch | None:
        """Where else the file's content is, if it is better read there."""
        del entry
        return None

    def main_layer(self) -> LayerTar | None:
        """The tar that has most of what is going to be read, and not much else."""
        return None

    def names(self, path: str) -> list[str]:
        """The names in a directory, sorted, ignored ones included. Raises ContextError."""
        fd = self.open_directory(path)
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)

    def entry(self, path: str) -> SelectedFile:
        """The one file ``path``, as a selection of itself."""
        parent, _, name = path.rpartition("/")
        directory = Directory(self, parent, "", None, None)
        fd = self.open_directory(parent)
        try:
            st = os.stat(name or ".", dir_fd=fd, follow_symlinks=False)
            entry = SelectedFile(name, directory, st)
            if stat.S_ISLNK(st.st_mode):
                entry.target = os.readlink(name, dir_fd=fd)
            entry.rdev = st.st_rdev
        except FileNotFoundError as error:
            raise changed(self, path) from error
        finally:
            os.close(fd)
        if self.contents is not None and stat.S_ISREG(st.st_mode):
            _know(entry, self.contents)
        return entry

    def walk(
        self, top: str, *, included: PathFilter | None = None, excluded: PathFilter | None = None
    ) -> list[SelectedFile]:
        """Everything below the directory ``top``: a directory before its children, which stand together, sorted.

        included, excluded: filters on paths relative to ``top``.
        Sockets are left out. Raises ContextError.
        """
        entries: list[SelectedFile] = []
        leaders: dict[bytes, SelectedFile] = {}
        stack = [Directory(self, top, "", None, None)]
        filters = _Filters(self._wanted, included, excluded)
        while stack:
            check()
            directory = stack.pop()
            fd = self.open_directory(directory.tree_path)
            try:
                if directory.entry is not None:
                    directory.entry.xattrs = read_xattrs(fd)
                below = self._list(fd, directory, filters if filters.any else None, entries, leaders)
            except FileNotFoundError as error:
                raise changed(self, directory.tree_path) from error
            finally:
                os.close(fd)
            below.reverse()
            stack += below
        return entries

    def ignores(self, path: str) -> bool:
        """Whether ignore patterns name ``path``. Something in an ignored directory may still take part."""
        return bool(path) and self._wanted is not None and not self._wanted.wants(path)

    def _list(
        self,
        fd: int,
        directory: Directory,
        filters: _Filters | None,
        entries: list[SelectedFile],
        leaders: dict[bytes, SelectedFile],
    ) -> list[Directory]:
        """Append the children of one directory. Returns the child directories to walk."""
        below: list[Directory] = []
        prefix = directory.prefix
        with os.scandir(fd) as listing:
            children: list[os.DirEntry[str]] = sorted(listing, key=_by_name)
        for child in children:
            if filters is not None:  # there may be many patterns
                check()
            name = child.name
            st = child.stat(follow_symlinks=False)
            kind = st.st_mode & 0o170000
            entry = SelectedFile(prefix + name, directory, st)
            if kind == stat.S_IFDIR:
                subdirectory = Directory(self, directory.tree_prefix + name, prefix + name + "/", directory, entry)
                if filters is not None and not filters.admit_directory(subdirectory):
                    continue
                below.append(subdirectory)
                if not subdirectory.recorded:
                    continue
            elif kind == stat.S_IFSOCK or (filters is not None and not filters.admit(directory, entry.path)):
                continue
            elif kind == stat.S_IFREG:
                if self.contents is not None:
                    _know(entry, self.contents)
                elif st.st_nlink > 1:
                    leader = leaders.setdefault(entry.stamp[:16], entry)
                    entry.leader = None if leader is entry else leader
            elif kind == stat.S_IFLNK:
                entry.target = os.readlink(name, dir_fd=fd)
            else:
                entry.rdev = st.st_rdev
            if not directory.recorded:
                _record(directory, entries)
            entries.append(entry)
        return below


def _know(entry: SelectedFile, contents: Mapping[str, bytes]) -> None:
    entry.sha = contents.get(entry.tree_path)
    if entry.sha is not None:
        entry.xattrs = NO_XATTRS


class _Filters:
    """The three filters of a walk, asked in one go."""

    __slots__ = ("_excluded", "_included", "_wanted", "any")

    def __init__(self, wanted: PathFilter | None, included: PathFilter | None, excluded: PathFilter | None) -> None:
        self._wanted = wanted
        self._included = included
        self._excluded = excluded
        self.any = not (wanted is included is excluded is None)

    def admit(self, directory: Directory, path: str) -> bool:
        if self._wanted is not None and not self._wanted.wants(directory.tree_prefix + path[len(directory.prefix) :]):
            return False
        if self._excluded is not None and not self._excluded.wants(path):
            return False
        return self._included is None or self._included.wants(path)

    def admit_directory(self, directory: Directory) -> bool:
        """Whether to walk the directory. ``recorded`` becomes False if only files below it can make it count."""
        path = directory.prefix[:-1]
        for chosen, where in (
            (self._wanted, directory.tree_path),
            (self._excluded, path),
            (self._included, path),
        ):
            if chosen is None or chosen.wants(where):
                continue
            if not chosen.may_want_below(where):
                return False
            directory.recorded = False
            if chosen is self._included and directory.entry is not None:
                directory.entry.implied = True
        return True


def _record(directory: Directory, entries: list[SelectedFile]) -> None:
    """Something below a held-back directory counts: put it, and the directories above it, into the list."""
    waiting: list[Directory] = []
    step: Directory | None = directory
    while step is not None and not step.recorded:
        waiting.append(step)
        step = step.parent
    for one in reversed(waiting):
        one.recorded = True
        if one.entry is not None:
            entries.append(one.entry)


def changed(tree: SourceTree, path: str) -> ContextChangedError:
    return ContextChangedError(
        f"{path or '.'} in {tree.label} changed while it was being read",
        hint="run the same command again when nothing writes to it, or list it in .dockerignore",
    )


def _too_deep(tree: SourceTree, path: str) -> ContextError:
    return ContextError(
        f"{path[:60]}… in {tree.label} has a path of {len(os.fsencode(path))} bytes, and the kernel takes 4095",
        hint="list it in .dockerignore, or copy something further down",
    )


def unreadable(tree: SourceTree, path: str) -> ContextError:
    return ContextError(
        f"cannot read {path or '.'} in {tree.label}: permission denied",
        hint="make it readable for the user who builds, or list it in .dockerignore",
    )


def encode_xattrs(xattrs: Mapping[str, bytes]) -> bytes:
    """An unambiguous form, the same for the same attributes: for keys, and for the stat cache."""
    return b"".join(
        struct.pack("<HI", len(key := os.fsencode(name)), len(value)) + key + value for name, value in xattrs.items()
    )


def decode_xattrs(data: bytes) -> dict[str, bytes]:
    """The reverse of ``encode_xattrs``. Raises struct.error for what is not its output."""
    xattrs: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        name_length, value_length = struct.unpack_from("<HI", data, at)
        at += 6
        name, at = data[at : at + name_length], at + name_length
        xattrs[os.fsdecode(name)], at = data[at : at + value_length], at + value_length
    return xattrs
