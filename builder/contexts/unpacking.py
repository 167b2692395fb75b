"""A build context that came as a tar, unpacked into a private directory.

Everything happens through descriptors below that directory, never through a path that the tar chooses. Parents are
opened without following links; a name that leads through a link is an error. The files are only copied from, and
owners and devices do not matter in a context. So files belong to whoever unpacks, and devices are left out.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from builder.errors import ContextError
from builder.paths import clean, split
from core.files import storage_errors
from core.kernel import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from images import tarheaders
from images.compression import DecompressingReader
from images.errors import CompressedDataError, InvalidLayerError, UnsupportedCompressionError
from images.tarreader import TarEntry, TarReader, write_content
from images.tarwriter import SupportsRead

_RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def unpack_context(stream: SupportsRead, directory: Path, *, limit_bytes: int) -> None:
    """Unpack ``stream`` into ``directory``, which is empty. Raises ContextError, and StorageFullError."""
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    directories: list[tuple[str, int, int]] = []  # path, mode, mtime; set once a directory is full
    unpacked = 0
    try:
        with storage_errors("the build context"):
            reader = TarReader(DecompressingReader(stream, limit_bytes=limit_bytes))
            for member in reader:
                unpacked += member.size
                if unpacked > limit_bytes:
                    raise ContextError(f"the build context unpacks to more than {limit_bytes} bytes")
                path = clean(os.fsdecode(member.name))
                if not path:
                    continue
                if member.kind == tarheaders.DIRECTORY:
                    os.close(_open_directory(root, path))
                    directories.append((path, member.mode, member.mtime))
                else:
                    _unpack(root, path, member, reader)
            for path, mode, mtime in directories:
                _finish_directory(root, path, mode, mtime)
    except (CompressedDataError, InvalidLayerError, UnsupportedCompressionError) as error:
        raise ContextError(
            f"cannot unpack the build context from standard input: {error}",
            hint="send a tar, plain or compressed with gzip, bzip2, xz or zstd: tar -c . | shiplap build -",
        ) from error
    except OSError as error:
        raise ContextError(
            f"cannot unpack the build context from standard input: {error}",
            hint="a tar whose names lead through links, or through files, is not unpacked",
        ) from error
    finally:
        os.close(root)


def _unpack(root: int, path: str, member: TarEntry, reader: TarReader) -> None:
    parent, name = split(path)
    parent_fd = _open_directory(root, parent)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent_fd)
        if member.kind == tarheaders.SYMLINK:
            os.symlink(member.link, name, dir_fd=parent_fd)
            os.utime(name, (member.mtime, member.mtime), dir_fd=parent_fd, follow_symlinks=False)
        elif member.kind == tarheaders.HARDLINK:
            other_parent, other = split(clean(os.fsdecode(member.link)))
            other_fd = _open_directory(root, other_parent)
            try:
                os.link(other, name, src_dir_fd=other_fd, dst_dir_fd=parent_fd, follow_symlinks=False)
            finally:
                os.close(other_fd)
        elif member.kind == tarheaders.FILE:
            fd = os.open(name, _CREATE, 0o600, dir_fd=parent_fd)
            try:
                write_content(fd, member, reader.chunks())
                os.fchmod(fd, member.mode)
                os.utime(fd, (member.mtime, member.mtime))
            finally:
                os.close(fd)
        elif member.kind == tarheaders.FIFO:
            os.mkfifo(name, member.mode, dir_fd=parent_fd)
    finally:
        os.close(parent_fd)


def _open_directory(root: int, path: str) -> int:
    """A descriptor of the directory ``path``, made if missing. Links are not followed."""
    fd = os.dup(root)
    for part in path.split("/") if path else ():
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=fd)
            below = openat2(fd, part, os.O_RDONLY | os.O_DIRECTORY, resolve=_RESOLVE)
        finally:
            os.close(fd)
        fd = below
    return fd


def _finish_directory(root: int, path: str, mode: int, mtime: int) -> None:
    fd = openat2(root, path, os.O_RDONLY | os.O_DIRECTORY, resolve=_RESOLVE)
    try:
        os.fchmod(fd, mode)
        os.utime(fd, (mtime, mtime))
    finally:
        os.close(fd)
