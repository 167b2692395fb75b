"""Copying out of containers and into them as tars: docker's ``cp``. See ``inside`` for who does it."""

from __future__ import annotations

import os
import stat
from typing import Any, BinaryIO, Final

from core.kernel import openat2
from engine.errors import InvalidRequestError
from engine.inside import CONFINED, Tree, described, no_such_path, open_parent, work
from images.apply import apply_layer
from images.diff import write_moving_file, write_tree
from images.errors import InvalidLayerError
from images.tarheaders import DIRECTORY
from images.tarreader import TarReader
from images.tarwriter import TarWriter

_LOOK_PATIENCE_S: Final = 60.0
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def look(tree: Tree, path: str) -> dict[str, Any]:
    """What is at a path, as docker's ``X-Docker-Container-Path-Stat``, with ``mtime_ns``. Raises PathNotFoundError."""
    return work(tree, lambda root: _stat(root, path), _LOOK_PATIENCE_S)


def copy_out(tree: Tree, path: str, sink: int) -> dict[str, Any]:
    """Write a tar of what is at a path to a descriptor; it has one name at its top, that of the path.

    Links in it stay links. Returns what ``look`` does. Raises PathNotFoundError.
    """
    return work(tree, lambda root: _write(root, path, sink))


def copy_in(tree: Tree, path: str, tar: BinaryIO, *, owners: bool, no_overwrite: bool) -> None:
    """Unpack a tar (seekable, at its start) into the directory at a path.

    owners: as the tar says, else all is root's. no_overwrite: a directory does not take the place of something else,
    and nothing else that of a directory. Raises PathNotFoundError, InvalidRequestError.
    """

    def unpack(root: int) -> dict[str, Any]:
        try:
            directory = openat2(root, path, os.O_RDONLY | os.O_DIRECTORY, resolve=CONFINED)
        except FileNotFoundError as error:
            raise no_such_path(path) from error
        except NotADirectoryError as error:
            raise InvalidRequestError("extraction point is not a directory") from error
        if no_overwrite:
            _refuse_overwriting(directory, tar)
        try:
            apply_layer(tar, directory, overlay=False, owners=owners, devices=False)
        except InvalidLayerError as error:
            raise InvalidRequestError(error.message, hint=error.hint) from error
        return {}

    work(tree, unpack)


def _stat(root: int, path: str) -> dict[str, Any]:
    parent, name = open_parent(root, path)
    try:
        info = os.stat(name, dir_fd=parent, follow_symlinks=False)
        target = os.readlink(name, dir_fd=parent) if stat.S_ISLNK(info.st_mode) else ""
    except FileNotFoundError as error:
        raise no_such_path(path) from error
    return described(_shown(path, name), info, target)


def _shown(path: str, name: str) -> str:
    if name != ".":
        return name
    return os.path.basename(os.path.normpath(path)) or "/"


def _write(root: int, path: str, sink: int) -> dict[str, Any]:
    found = _stat(root, path)
    parent, name = open_parent(root, path)
    info = os.stat(name, dir_fd=parent, follow_symlinks=False)
    top = b"" if found["name"] == "/" else os.fsencode(found["name"])
    with open(sink, "wb", closefd=False) as file:
        writer = TarWriter(file)
        if stat.S_ISDIR(info.st_mode):
            directory = os.open(name, _DIRECTORY, dir_fd=parent)
            if top:
                writer.directory(top, info.st_mode, info.st_uid, info.st_gid, int(info.st_mtime))
            write_tree(directory, Below(writer, top))
        elif stat.S_ISLNK(info.st_mode):
            target = os.readlink(os.fsencode(name), dir_fd=parent)
            writer.symlink(top, target, info.st_uid, info.st_gid, int(info.st_mtime))
        elif stat.S_ISREG(info.st_mode):
            fd = os.open(name, _FILE, dir_fd=parent)
            info = os.fstat(fd)
            write_moving_file(writer, top, info, fd)
        else:
            writer.device(top, info.st_mode, info.st_uid, info.st_gid, int(info.st_mtime), info.st_rdev)
        writer.close()
    return found


class Below(TarWriter):
    """Writes to another writer, with all names below a directory. top: its name; empty is the root."""

    def __init__(self, writer: TarWriter, top: bytes) -> None:
        self._writer = writer
        self._top = top + b"/" if top else b""

    @property
    def entries(self) -> int:  # type: ignore[override]
        return self._writer.entries

    def directory(self, name: bytes, *rest: Any, **named: Any) -> None:
        self._writer.directory(self._top + name, *rest, **named)

    def file(self, name: bytes, *rest: Any, **named: Any) -> None:
        self._writer.file(self._top + name, *rest, **named)

    def symlink(self, name: bytes, *rest: Any, **named: Any) -> None:
        self._writer.symlink(self._top + name, *rest, **named)

    def hardlink(self, name: bytes, target: bytes, *rest: Any, **named: Any) -> None:
        self._writer.hardlink(self._top + name, self._top + target, *rest, **named)

    def device(self, name: bytes, *rest: Any, **named: Any) -> None:
        self._writer.device(self._top + name, *rest, **named)


def _refuse_overwriting(directory: int, tar: BinaryIO) -> None:
    start = tar.tell()
    for entry in TarReader(tar):
        name = entry.name.strip(b"/").removeprefix(b"./") or b"."
        try:
            fd = openat2(directory, name, os.O_PATH | os.O_NOFOLLOW, resolve=CONFINED)
        except OSError:
            continue
        is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        os.close(fd)
        if is_directory != (entry.kind == DIRECTORY):
            there, new = ("directory", "non-directory") if is_directory else ("non-directory", "directory")
            raise InvalidRequestError(f"cannot overwrite {there} {os.fsdecode(name)!r} with {new}")
    tar.seek(start)
