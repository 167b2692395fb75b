"""Layer tars unpacked into a directory: the way to a root filesystem where a tar cannot be mounted as it is.

A layer is foreign input. The kernel looks every name up, confined to the root (openat2, RESOLVE_IN_ROOT). A symbolic
link among the parents is followed inside the root, as in a container; the last component of a name is never followed.
What is in the way is unlinked, not written through. overlayfs's own attributes are never taken from a tar, so that a
layer cannot redirect or hide what it does not own; 0/0 character devices are skipped for the same reason. Memory does
not grow with the layer, but for some 50 bytes per directory.
Spec: image-spec layer.md, "Applying Changesets".
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

from core.cancellation import check
from core.files import storage_errors
from core.kernel import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2
from images.errors import InvalidLayerError, SnapshotError
from images.survey import MAX_XATTR_NAME_BYTES, ImpliedBytes
from images.tarheaders import CHARACTER_DEVICE, DIRECTORY, FIFO, FILE, HARDLINK, SYMLINK, normalise
from images.tarreader import DEVICE_TYPES, TarEntry, TarReader, write_content
from images.trees import empty_directory
from images.whiteouts import OPAQUE_NAME, WHITEOUT_PREFIX, hidden_name

_OPAQUE_ATTRIBUTE: Final = "user.overlay.opaque"
_ORIGIN_ATTRIBUTE: Final = "user.overlay.origin"
_CONFINED = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_PARENT_FLAGS = os.O_PATH | os.O_DIRECTORY
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY_RECORD = struct.Struct("<qHH")  # mtime, mode, length of the path that follows
_SHOWN_NAME: Final = 100
_NOT_THE_LAYERS_FAULT = (errno.EPERM, errno.EACCES, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE)


def apply_layer(
    layer: BinaryIO,
    root: int,
    *,
    overlay: bool,
    below: int | None = None,
    owners: bool = True,
    devices: bool = True,
) -> None:
    """Unpack the tar ``layer`` (seekable, at its start) into the directory ``root`` (a descriptor).

    overlay: True makes a directory for an overlay mount with ``userxattr``: a whiteout becomes a 0/0 character device,
    an opaque directory gets its attribute; ``root`` must be empty. False applies the layer to what is there: whiteouts
    remove what was there before, never what is of the same layer.
    below: the merged view of the layers below. A directory that the tar has files in, but no entry for, takes its owner
    and mode from there (else 0755, root).
    owners: False leaves all files to this user, without setuid and file capabilities.
    devices: False skips them.

    Raises InvalidLayerError, SnapshotError when this process may not do what the layer
    asks for, StorageFullError. What was unpacked until then stays.
    """
    unpacker = Unpacker(root, overlay=overlay, below=below, owners=owners, devices=devices)
    with contextlib.closing(unpacker):
        if not overlay and _has_entries(root):
            start = layer.tell()
            for entry in TarReader(layer, seekable=True):
                unpacker.remove_hidden(entry)
            layer.seek(start)
        reader = TarReader(layer, seekable=True)
        for entry in reader:
            unpacker.add(entry, reader.chunks())
        unpacker.finish()


class Unpacker:
    """Makes entries below a root directory. ``finish`` sets the directories' modes and times; ``close`` in any case."""

    def __init__(
        self, root: int, *, overlay: bool = False, below: int | None = None, owners: bool = True, devices: bool = True
    ) -> None:
        self._root = root
        self._overlay = overlay
        self._below = below
        self._owners = owners
        self._devices = devices
        self._parent_path: bytes | None = None
        self._parent_fd = -1
        self._parent_is_stale = False
        self._implied_bytes = ImpliedBytes()
        self._directories = bytearray()  # a _DIRECTORY_RECORD and a path for each

    def close(self) -> None:
        self._forget_parent()

    def add(self, entry: TarEntry, chunks: Iterable[tuple[int, bytes]]) -> None:
        """Make one entry. chunks: a file's content as (offset, bytes); holes may be left out."""
        path = normalise(entry.name)
        with _entry_errors(path):
            if not path:
                if entry.kind != DIRECTORY:
                    raise InvalidLayerError("the layer has an entry without a name")
                self._directory_metadata(self._root, path, entry)
                return
            parent_path, _, name = path.rpartition(b"/")
            if name.startswith(WHITEOUT_PREFIX):
                if self._overlay:
                    self._whiteout(self._parent(parent_path), name)
                return
            parent = self._parent(parent_path)
            if entry.kind == FILE:
                self._file(parent, name, entry, chunks)
            elif entry.kind == DIRECTORY:
                self._directory(parent, name, path, entry)
            elif entry.kind == SYMLINK:
                self._clear(parent, name)
                os.symlink(entry.link, name, dir_fd=parent)
                self._link_metadata(parent, name, entry)
            elif entry.kind == HARDLINK:
                self._hardlink(parent, name, path, entry)
            else:
                self._special(parent, name, entry)

    def remove_hidden(self, entry: TarEntry) -> None:
        """Remove what ``entry``, if it is a whiteout, hides of what is there already."""
        path = normalise(entry.name)
        parent_path, _, name = path.rpartition(b"/")
        if not name.startswith(WHITEOUT_PREFIX):
            return
        with _entry_errors(path):
            target = hidden_name(name)
            try:
                parent = openat2(self._root, parent_path or b".", _PARENT_FLAGS, resolve=_CONFINED)
            except (FileNotFoundError, NotADirectoryError):
                return
            try:
                if target:
                    self._clear(parent, target)
                elif name == OPAQUE_NAME:
                    empty_directory(parent)
            finally:
                os.close(parent)

    def finish(self) -> None:
        """Give the directories their modes and times, now that nothing is made in them any more."""
        self._forget_parent()
        at = 0
        while at < len(self._directories):
            check()
            mtime, mode, length = _DIRECTORY_RECORD.unpack_from(self._directories, at)
            at += _DIRECTORY_RECORD.size
            path = bytes(self._directories[at : at + length])
            at += length
            with _entry_errors(path):
                self._finish_directory(path, mode, mtime)
        self._directories.clear()

    def _finish_directory(self, path: bytes, mode: int, mtime: int) -> None:
        try:
            fd = openat2(self._root, path or b".", _DIRECTORY_FLAGS, resolve=_CONFINED)
        except OSError as error:
            replaced = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # by a later entry
            locked = error.errno == errno.EACCES and not self._owners  # by a parent's mode, as the image wants it
            if replaced or locked:
                return
            raise
        try:
            os.fchmod(fd, mode)
            os.utime(fd, ns=(mtime * 10**9, mtime * 10**9))
        finally:
            os.close(fd)

    # Parents.

    def _parent(self, path: bytes) -> int:
        """A descriptor of the directory ``path``, made if missing; it stays open until the next one is asked for."""
        if path != self._parent_path or self._parent_is_stale:
            self._forget_parent()
            self._parent_fd = self._open_parent(path)
            self._parent_path = path
            self._parent_is_stale = False
        return self._parent_fd

    def _open_parent(self, path: bytes) -> int:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # the latter: of a whiteout
            return openat2(self._root, path or b".", _PARENT_FLAGS, resolve=_CONFINED)
        parts = path.split(b"/")
        for depth in range(1, len(parts) + 1):
            self._imply(b"/".join(parts[: depth - 1]), parts[depth - 1], b"/".join(parts[:depth]))
        return openat2(self._root, path, _PARENT_FLAGS, resolve=_CONFINED)

    def _imply(self, parent_path: bytes, name: bytes, path: bytes) -> None:
        """Make a directory that has no entry of its own, unless there is something by its name."""
        parent = openat2(self._root, parent_path or b".", _PARENT_FLAGS, resolve=_CONFINED)
        try:
            there = _lstat(parent, name)
            if there is None or (self._overlay and _is_whiteout(there)):
                self._implied_bytes.add(path)
                self._directory(parent, name, path, self._implied(path))
        finally:
            os.close(parent)

    def _implied(self, path: bytes) -> TarEntry:
        entry = TarEntry(path, DIRECTORY, 0o755, 0, 0, 0, 0, b"", 0, {}, None)
        if self._below is None:
            return entry
        try:
            fd = openat2(self._below, path, os.O_RDONLY | os.O_DIRECTORY, resolve=_CONFINED)
        except (FileNotFoundError, NotADirectoryError):
            return entry
        try:
            info = os.fstat(fd)
            return entry._replace(
                mode=stat.S_IMODE(info.st_mode),
                uid=info.st_uid,
                gid=info.st_gid,
                mtime=info.st_mtime_ns // 10**9,
                xattrs={key: os.getxattr(fd, key) for key in os.listxattr(fd)},
            )
        finally:
            os.close(fd)

    def _forget_parent(self) -> None:
        if self._parent_path is not None:
            os.close(self._parent_fd)
            self._parent_path = None

    # Kinds of entries.

    def _file(self, parent: int, name: bytes, entry: TarEntry, chunks: Iterable[tuple[int, bytes]]) -> None:
        try:
            fd = os.open(name, _FILE_FLAGS, 0o600, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name)
            fd = os.open(name, _FILE_FLAGS, 0o600, dir_fd=parent)
        try:
            write_content(fd, entry, chunks)
            mode = entry.mode
            if self._owners:
                os.fchown(fd, entry.uid, entry.gid)  # before the mode: it takes setuid and setgid away
            else:
                mode &= 0o1777
            os.fchmod(fd, mode)
            self._set_xattrs(fd, entry)
            os.utime(fd, ns=(entry.mtime * 10**9, entry.mtime * 10**9))
        finally:
            os.close(fd)

    def _directory(self, parent: int, name: bytes, path: bytes, entry: TarEntry) -> None:
        opaque = False
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            there = _lstat(parent, name)
            if there is None or not stat.S_ISDIR(there.st_mode):
                opaque = self._overlay and there is not None and _is_whiteout(there)
                self._clear(parent, name)
                os.mkdir(name, 0o700, dir_fd=parent)
        fd = os.open(name, _DIRECTORY_FLAGS, dir_fd=parent)
        try:
            if opaque:  # the layer hides this name, and then makes a directory of it
                os.setxattr(fd, _OPAQUE_ATTRIBUTE, b"y")
            self._directory_metadata(fd, path, entry)
        finally:
            os.close(fd)

    def _directory_metadata(self, fd: int, path: bytes, entry: TarEntry) -> None:
        mode = entry.mode
        if self._owners:
            os.fchown(fd, entry.uid, entry.gid)
        else:
            mode &= 0o1777
        self._set_xattrs(fd, entry)
        self._directories += _DIRECTORY_RECORD.pack(entry.mtime, mode, len(path)) + path

    def _hardlink(self, parent: int, name: bytes, path: bytes, entry: TarEntry) -> None:
        target = normalise(entry.link)
        if not target or target == path:
            raise InvalidLayerError(f"the layer has a hard link to itself: {os.fsdecode(path)!r}")
        target_parent, _, target_name = target.rpartition(b"/")
        try:
            fd = openat2(self._root, target_parent or b".", _PARENT_FLAGS, resolve=_CONFINED)
            try:
                if _lstat(fd, target_name) is None:
                    raise FileNotFoundError
                self._clear(parent, name)
                os.link(target_name, name, src_dir_fd=fd, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(fd)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InvalidLayerError(
                f"the layer has a hard link to a file that it does not have: {os.fsdecode(path)!r} to "
                f"{os.fsdecode(entry.link)!r}"
            ) from error

    def _special(self, parent: int, name: bytes, entry: TarEntry) -> None:
        if entry.kind != FIFO and not self._devices:
            return
        if entry.kind == CHARACTER_DEVICE and entry.rdev == 0:
            return  # it would be a whiteout to overlayfs
        self._clear(parent, name)
        os.mknod(name, DEVICE_TYPES[entry.kind] | 0o600, entry.rdev, dir_fd=parent)
        self._link_metadata(parent, name, entry)

    def _link_metadata(self, parent: int, name: bytes, entry: TarEntry) -> None:
        """Owner, mode and time of what cannot be opened."""
        if self._owners:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.kind != SYMLINK:
            os.chmod(name, entry.mode, dir_fd=parent)  # made a moment ago, and no link: nothing to follow
        os.utime(name, ns=(entry.mtime * 10**9, entry.mtime * 10**9), dir_fd=parent, follow_symlinks=False)

    def _set_xattrs(self, fd: int, entry: TarEntry) -> None:
        for name, value in entry.xattrs.items():
            if name == "security.capability":
                if not self._owners or entry.kind != FILE:
                    continue
            elif not name.startswith("user.") or name.startswith("user.overlay."):
                continue
            try:
                os.setxattr(fd, name, value)
            except (OSError, ValueError) as error:
                if isinstance(error, OSError) and error.errno == errno.ENOTSUP:
                    continue
                if isinstance(error, OSError) and error.errno in (*_NOT_THE_LAYERS_FAULT, errno.EDQUOT):
                    raise
                raise _odd_xattr(entry, name, value, error) from error

    def _whiteout(self, parent: int, name: bytes) -> None:
        target = hidden_name(name)
        if target:
            there = _lstat(parent, target)
            if there is None:
                os.mknod(target, stat.S_IFCHR, 0, dir_fd=parent)
                # Without it, overlayfs lists the device where no layer below has the directory. See Linux b79e05aaa166.
                _mark(parent, b".", _ORIGIN_ATTRIBUTE, b"")
            elif stat.S_ISDIR(there.st_mode):  # the layer has made it again already
                _mark(parent, target, _OPAQUE_ATTRIBUTE, b"y")
        elif name == OPAQUE_NAME:
            _mark(parent, b".", _OPAQUE_ATTRIBUTE, b"y")

    def _clear(self, parent: int, name: bytes) -> None:
        """Make way for an entry: remove ``name``, whatever it is, following nothing."""
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except IsADirectoryError:
            fd = os.open(name, _DIRECTORY_FLAGS, dir_fd=parent)
            try:
                empty_directory(fd)
            finally:
                os.close(fd)
            os.rmdir(name, dir_fd=parent)
        # The remembered parent may have been inside, or reached through it: the next look-up has to be new.
        self._parent_is_stale = True


def _odd_xattr(entry: TarEntry, name: str, value: bytes, error: OSError | ValueError) -> InvalidLayerError:
    """The error for an extended attribute that the file system does not take: file, attribute and reason."""
    shown = name if len(name) <= _SHOWN_NAME else f"{name[:_SHOWN_NAME]}…"
    match error.errno if isinstance(error, OSError) else errno.EINVAL:
        case errno.ENOSPC | errno.E2BIG:
            reason = f"its value of {len(value)} bytes is more than the file system takes"
        case errno.ERANGE:
            reason = f"its name has {len(os.fsencode(name))} bytes, at most {MAX_XATTR_NAME_BYTES} are possible"
        case _:
            reason = getattr(error, "strerror", None) or "its name is none"
    return InvalidLayerError(
        f"{os.fsdecode(entry.name)!r} has an extended attribute {shown!r} that cannot be set: {reason}",
        hint="build the layer again without that attribute (tar --no-xattrs, or setfattr -x before)",
    )


def _mark(parent: int, name: bytes, attribute: str, value: bytes) -> None:
    fd = os.open(name, _DIRECTORY_FLAGS, dir_fd=parent)
    try:
        os.setxattr(fd, attribute, value)
    finally:
        os.close(fd)


def _lstat(parent: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_whiteout(info: os.stat_result) -> bool:
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def _has_entries(directory: int) -> bool:
    fd = os.open(".", _DIRECTORY_FLAGS, dir_fd=directory)
    try:
        with os.scandir(fd) as entries:
            return next(entries, None) is not None
    finally:
        os.close(fd)


@contextlib.contextmanager
def _entry_errors(path: bytes) -> Iterator[None]:
    """Let errors name the entry, and say whether the layer is to blame, this host, or a full disk."""
    try:
        with storage_errors(os.fsdecode(path)):
            yield
    except OSError as error:
        message = f"cannot unpack {os.fsdecode(path)!r}: {error.strerror}"
        if error.errno in _NOT_THE_LAYERS_FAULT:
            raise SnapshotError(message) from error
        raise InvalidLayerError(message) from error
