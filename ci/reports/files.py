"""The files of reports, as a job has left them: found in what it wrote, read within bounds, never by a link."""

from __future__ import annotations

import contextlib
import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from io import FileIO
from typing import Final, NamedTuple

from ci import patterns
from core.cancellation import check
from core.files import names_in
from core.kernel import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

MOST_FILES: Final = 2_000
MOST_BYTES: Final = 64 << 20
"""Of all reports of a job together, unpacked."""

_CHUNK: Final = 256 << 10
_DEEPEST: Final = 100
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CONFINED: Final = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_GZIP: Final = b"\x1f\x8b"


class ReportUnreadable(Exception):
    """A file cannot be read; its text says why."""


class Room:
    """How many bytes may still be read."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = self._left = most

    def take(self, count: int) -> None:
        """Raises ReportUnreadable when there are more."""
        self._left -= count
        if self._left < 0:
            raise ReportUnreadable(f"the reports of a job may have {self._most >> 20} MiB, unpacked, and have more")


class Found(NamedTuple):
    """Files that patterns name. is_cut: there are more of them."""

    paths: list[str]
    is_cut: bool = False


class Written:
    """What a job wrote, with nobody writing any more.

    top: a descriptor of the directory.
    """

    def __init__(self, top: int) -> None:
        self._top = top

    def find(self, wanted: Sequence[str]) -> Found:
        """The regular files that patterns mean, in the order of their paths."""
        meant = patterns.compiled(wanted)
        found: list[str] = []
        waiting = [""]
        while waiting:
            directory = waiting.pop()
            for name, mode in self._listed(directory):
                path = f"{directory}/{name}" if directory else name
                if stat.S_ISREG(mode) and meant.matches(path):
                    found.append(path)
                elif not stat.S_ISDIR(mode) or path.count("/") >= _DEEPEST:
                    continue
                elif meant.matches(path) or meant.reaches_below(path):
                    waiting.append(path)
        found.sort()
        return Found(found[:MOST_FILES], len(found) > MOST_FILES)

    def read(self, path: str, room: Room) -> Iterator[bytes]:
        """The content of a file, unpacked where it is gzip. Raises ReportUnreadable, in the middle too."""
        try:
            fd = openat2(self._top, path, _FILE, resolve=_CONFINED)
        except OSError as error:
            raise ReportUnreadable(error.strerror) from error
        with open(fd, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ReportUnreadable("it is no regular file")
            first = file.read(_CHUNK)
            yield from (
                _unpacked(_chunks(first, file), room)
                if first.startswith(_GZIP)
                else _counted(_chunks(first, file), room)
            )

    def _listed(self, directory: str) -> list[tuple[str, int]]:
        fd = openat2(self._top, directory or ".", _DIRECTORY, resolve=_CONFINED)
        try:
            return [(name, os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode) for name in _checked(names_in(fd))]
        finally:
            os.close(fd)


def _checked(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        check()
        yield name


def _chunks(first: bytes, file: FileIO) -> Iterator[bytes]:
    chunk = first
    while chunk:
        check()
        yield chunk
        chunk = file.read(_CHUNK)


def _counted(chunks: Iterator[bytes], room: Room) -> Iterator[bytes]:
    for chunk in chunks:
        room.take(len(chunk))
        yield chunk


def _unpacked(chunks: Iterator[bytes], room: Room) -> Iterator[bytes]:
    """gzip of one member or several. What a member would become is asked for in pieces, so that none is too large."""
    packed = b""
    member = zlib.decompressobj(zlib.MAX_WBITS | 16)
    is_begun = False
    try:
        while True:
            packed = packed or next(chunks, b"")
            if not packed:
                break
            piece = member.decompress(packed, _CHUNK)
            packed = member.unconsumed_tail
            is_begun = True
            room.take(len(piece))
            yield piece
            if member.eof:
                packed = member.unused_data + packed
                member = zlib.decompressobj(zlib.MAX_WBITS | 16)
                is_begun = False
    except zlib.error as error:
        raise ReportUnreadable(f"it begins like gzip, and is damaged: {error}") from error
    if is_begun:
        raise ReportUnreadable("it is gzip, and ends in the middle")


@contextlib.contextmanager
def written_in(directory: str) -> Iterator[Written]:
    """What a job wrote into its upper directory."""
    top = os.open(directory, _DIRECTORY)
    try:
        yield Written(top)
    finally:
        os.close(top)
