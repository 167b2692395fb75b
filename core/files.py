"""Durable files: write aside, fsync, rename, fsync the directory. Look-ups that cannot leave a root are kernel.py's."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from core.errors import StorageFullError

_LOCK_POLL_S = 0.02


def fsync_directory(path: str | Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: Path, *, mode: int = 0o777) -> None:
    """Make a directory, and its parents, where they are missing; the new names are durable."""
    missing = []
    above = path
    while not above.is_dir():
        missing.append(above)
        above = above.parent
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    for made in missing:
        with contextlib.suppress(PermissionError):  # one may be allowed to write a directory, and not to read it
            fsync_directory(made.parent)


def fsync_file(path: str | Path) -> None:
    """Make what has been written to a file durable, whoever wrote it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def names_in(directory: int) -> list[str]:
    """The names in a directory, by its descriptor, also when it was listed before.

    btrfs goes on where the last listing ended, and has what was there when the descriptor was opened, unless it is sent
    back to the beginning.
    """
    os.lseek(directory, 0, os.SEEK_SET)
    return os.listdir(directory)


@contextlib.contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn "no space left" and "quota exceeded" into StorageFullError naming ``what`` was being written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(
                f"no space left on the disk while writing {what}",
                hint="free some space (shiplap image prune removes what nothing uses) and run the same command again",
            ) from error
        raise


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of ``path`` when the block ends well.

    A reader, or a machine that lost power, sees the old content or the new, whole. Raises StorageFullError when there
    is no room; the old content stays.
    """
    with storage_errors(str(path)):
        # Not by tempfile, which takes 10 ms to load. The name is as good as new: nobody can foresee 64 bits.
        temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb", buffering=1 << 20) as file:
                yield file
                file.flush()
                os.fchmod(fd, mode)
                os.fsync(fd)
            os.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        fsync_directory(path.parent)


@contextlib.contextmanager
def appearing(path: Path, *, mode: int = 0o600) -> Iterator[BinaryIO]:
    """As ``replacing``, for large files: until the block ends well the file has no name, so a kill leaves nothing.

    Where the file system knows no files without names, it has a name that begins with a dot, as with ``replacing``.
    """
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fd = os.open(path.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
                raise
            with replacing(path, mode=mode) as named:
                yield named
            return
        with storage_errors(str(path)), open(fd, "w+b", buffering=1 << 20) as file:
            yield file
            file.flush()
            os.fchmod(fd, mode)
            os.fsync(fd)
            _name_file(fd, directory, path)
            os.fsync(directory)
    finally:
        os.close(directory)


def _name_file(fd: int, directory: int, path: Path) -> None:
    """Give an open file without a name this one, in the place of another file if there is one."""
    unnamed = f"/proc/self/fd/{fd}"  # linkat(2); it is absolute, so the directory that is passed with it is not used
    try:
        os.link(unnamed, path.name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=True)
    except FileExistsError:
        beside = f".{path.name}.{os.urandom(4).hex()}"
        os.link(unnamed, beside, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=True)
        os.rename(beside, path.name, src_dir_fd=directory, dst_dir_fd=directory)


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace ``path`` by ``data``, as ``replacing`` does."""
    with replacing(path, mode=mode) as file:
        file.write(data)


@contextlib.contextmanager
def scratch_directory(parent: Path, prefix: str) -> Iterator[Path]:
    """A new directory, which is removed when the block ends.

    It is locked until then. So ``reclaim_scratch`` knows what a killed process left, and removes it.
    """
    import shutil
    import tempfile

    while True:
        path = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        with contextlib.suppress(FileNotFoundError):  # reclaimed before it was locked
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                break
            os.close(fd)
    try:
        yield path
    finally:
        shutil.rmtree(path)
        os.close(fd)


def reclaim_scratch(parent: Path, prefix: str) -> None:
    """Remove the scratch directories with this prefix whose processes are gone. prefix: no other directory has it."""
    import shutil

    with os.scandir(parent) as entries:
        names = [
            entry.name for entry in entries if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False)
        ]
    for name in names:
        with contextlib.suppress(FileNotFoundError):  # its owner, or somebody else, was quicker
            fd = os.open(parent / name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(parent / name)
            except BlockingIOError:
                pass  # it is being used
            finally:
                os.close(fd)


def could_lock(fd: int, kind: int) -> bool:
    """Take the flock of an open file if it can be had at once, and say whether it could.

    kind: ``fcntl.LOCK_SH`` or ``LOCK_EX``.
    """
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_within(fd: int, within_s: float) -> bool:
    """Take the exclusive flock of an open file, waiting at most so long; says whether it could."""
    deadline = time.monotonic() + within_s
    while not could_lock(fd, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOCK_POLL_S)
    return True


def try_lock(path: Path) -> int | None:
    """Take an exclusive flock on ``path`` (made if missing) without waiting; None when another process holds it.

    The lock lasts until the returned descriptor is closed or the process ends, however it ends.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd
