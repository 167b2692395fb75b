"""A directory of the client's, received: what it has is listed, and only what changed crosses.

The client sends a description of each file, parents first, then an empty one. We ask for the contents that we lack, by
the number of the description; it sends them in pieces, several files at once. FIN in both directions is the end.
Source: tonistiigi/fsutil, the protocol of BuildKit's FileSync.

What comes is a stranger's: a path may not lead out of the directory, and only directories of this very transfer are
parents. Each file has one path, so that nothing takes the place of a parent later: no link is ever followed. Sockets,
devices and pipes are left out: a build copies none.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

from core.cancellation import check
from core.files import storage_errors
from dockerapi.buildkit import messages
from dockerapi.buildkit.keeping import Place
from dockerapi.buildkit.listing import Listing, messages_of
from dockerapi.buildkit.making import Maker
from dockerapi.buildkit.rpc import Asked, Code, RpcError, decoded
from dockerapi.buildkit.sessions import Session, encoded

STAT, REQ, DATA, FIN, ERR = range(5)
"""Kinds of packets."""

IS_DIRECTORY: Final = 1 << 31
IS_LINK: Final = 1 << 27
OTHERS: Final = 1 << 26 | 1 << 25 | 1 << 24 | 1 << 19
"""Go's bits of a mode: devices, pipes, sockets, what it has no name for."""

_SETS: Final = ((1 << 23, stat.S_ISUID), (1 << 22, stat.S_ISGID), (1 << 20, stat.S_ISVTX))
_ANY_SET: Final = 1 << 23 | 1 << 22 | 1 << 20
_METHOD: Final = "/moby.filesync.v1.FileSync/DiffCopy"
_PATIENCE_S: Final = 120.0
_MOST_ASKED: Final = 256
"""Contents that were asked for and have not come to their end. More could fill both directions at once."""

_MOST_FILES: Final = 1_000_000
_MOST_BYTES: Final = 64 << 30
_MOST_PATH: Final = 4095
_MOST_NAMES: Final = 256 << 20
"""Bytes of all paths and links: they are kept in memory until the end."""

_MOST_DEPTH: Final = 256
"""Directories within each other: what removes a tree calls itself at each."""


def receive(
    session: Session, place: Place, metadata: Mapping[str, Sequence[str]], told: Callable[[int], None] | None = None
) -> None:
    """Make the directory ``place`` equal to the client's, with owners left out.

    metadata: ``dir-name``, and which of its files: ``exclude-patterns``, ``followpaths``.
    told: called now and then with the bytes that have crossed.
    Raises RpcError, also for a client that breaks the protocol, StorageFullError, and OSError.
    """
    with Asked(session.connection, _METHOD, encoded(metadata)) as asked:
        _Receiver(asked, os.fsencode(place.path), Listing(place.listing), told or (lambda _size: None)).run()


def permissions(mode: int) -> int:
    """The permission bits of one of Go's modes."""
    found = mode & 0o777
    if mode & _ANY_SET:
        found |= sum(ours for theirs, ours in _SETS if mode & theirs)
    return found


class _File(NamedTuple):
    """What is kept of a file's description: a client may have put megabytes more into it.

    path, link: as the client has them.
    mode: Go's.
    changed: its time in nanoseconds.
    """

    path: bytes
    link: bytes
    mode: int
    changed: int

    @classmethod
    def of(cls, described: Any) -> Self:
        return cls(bytes(described.path), bytes(described.linkname), described.mode, described.modTime)


class _Receiver:
    """One transfer. root: the directory. listing: its last one."""

    def __init__(self, asked: Asked, root: bytes, listing: Listing, told: Callable[[int], None]) -> None:
        self._asked = asked
        self._root = root
        self._listing = listing
        self._is_listed = False
        self._told = told
        self._count = 0
        self._bytes = 0
        self._names = 0
        self._seen: dict[bytes, tuple[int, int]] = {}  # mode and time
        self._directories: set[bytes] = {b""}
        self._new_directories: set[bytes] = set()
        self._missing: deque[int] = deque()
        self._numbered: dict[int, _File] = {}
        self._wanted: dict[int, _File] = {}
        self._maker = Maker()
        self._open: dict[int, int] = {}
        self._links: list[_File] = []

    def run(self) -> None:
        with storage_errors("a directory of the client's"):
            known = self._listing.known()
            passed = self._asked.pass_over(known, _PATIENCE_S) if known else 0
            if known and passed == len(known):
                self._is_listed = True
                self._transfer()  # the end of it
                return
            self._listing.forget()
            for message in messages_of(known[:passed]):
                check()
                self._described(decoded(messages.Packet, message), message)
            try:
                self._transfer()
            finally:
                self._maker.close()
                for fd in self._open.values():
                    os.close(fd)
            self._finish()
            self._listing.keep()

    def _transfer(self) -> None:
        is_told = False
        while True:
            if self._missing and len(self._wanted) <= _MOST_ASKED // 2:
                self._ask()
            if self._is_listed and not self._wanted and not is_told:
                is_told = True
                self._asked.send(messages.Packet(type=FIN))
            before = self._bytes
            received = self._asked.receive_some(_PATIENCE_S)
            if not received:
                raise _broken("it ended before its end")
            check()
            for message in received:
                packet = decoded(messages.Packet, message)
                kind = packet.type
                if kind == DATA:
                    self._content(packet.ID, packet.data)
                elif kind == STAT:
                    self._described(packet, message)
                elif kind == FIN:
                    if not is_told:
                        raise _broken("it ended before all files were there")
                    return
                elif kind == ERR:
                    raise RpcError(Code.UNKNOWN, f"the client failed: {packet.data[:1000].decode(errors='replace')}")
                else:
                    raise _broken(f"a packet of kind {kind}")
            if self._bytes != before:
                self._told(self._bytes)

    def _ask(self) -> None:
        """Ask for contents, for as many as may be under way."""
        numbers = [self._missing.popleft() for _ in range(min(len(self._missing), _MOST_ASKED - len(self._wanted)))]
        if numbers:
            asked = {number: self._numbered.pop(number) for number in numbers}
            self._maker.make({number: self._place(file.path) for number, file in asked.items()})
            self._wanted |= asked
            self._asked.send_all(messages.Packet(type=REQ, ID=number) for number in numbers)

    def _described(self, packet: Any, message: bytes) -> None:
        """A file that the client has, or the end of those."""
        if self._is_listed:
            raise _broken("a file after the last one")
        self._listing.note(message)
        if packet.HasField("stat"):
            self._listed(packet.stat)
        else:
            self._is_listed = True

    def _listed(self, described: Any) -> None:
        """A file that the client has."""
        number, self._count = self._count, self._count + 1
        path: bytes = bytes(described.path)
        parent, _, name = path.rpartition(b"/")
        is_bad = not name or name in (b".", b"..") or b"\0" in path or len(path) > _MOST_PATH
        is_bad |= path.startswith(b"/")  # another path of the same file, in the place of which a link could come
        if is_bad or parent not in self._directories or path in self._seen:
            raise _broken(f"the file {path[:200]!r}")
        self._names += len(path) + len(described.linkname)
        if number >= _MOST_FILES or self._names > _MOST_NAMES or path.count(b"/") >= _MOST_DEPTH:
            raise RpcError(
                Code.RESOURCE_EXHAUSTED,
                f"the file {path[:200]!r} is too much: a context has at most {_MOST_FILES} files, {_MOST_DEPTH} levels "
                f"of directories and {_MOST_NAMES} bytes of paths; a .dockerignore leaves files out",
            )
        if described.mode & OTHERS:
            return
        self._seen[path] = described.mode, described.modTime
        place = self._place(path)
        there = None if parent in self._new_directories else _stat_of(place)
        if described.mode & IS_DIRECTORY:
            self._directories.add(path)
            if there is None or not stat.S_ISDIR(there.st_mode):
                _remove(place, there)
                os.mkdir(place, 0o700)
                self._new_directories.add(path)
        elif described.mode & IS_LINK:
            if there is None or not stat.S_ISLNK(there.st_mode) or os.readlink(place) != described.linkname:
                _remove(place, there)
                _link(bytes(described.linkname), place)
        elif described.linkname:
            self._links.append(_File.of(described))
        elif not _is_same(there, described):
            _remove(place, there)
            self._numbered[number] = _File.of(described)
            self._missing.append(number)

    def _content(self, number: int, data: bytes) -> None:
        """A piece of a file that was asked for; an empty one is its end."""
        file = self._wanted.get(number)
        if file is None:
            raise _broken(f"the content of file {number}, which nobody asked for")
        fd = self._open.get(number)
        if fd is None:
            fd = self._open[number] = self._maker.take(number)
        if data:
            self._bytes += len(data)
            if self._bytes > _MOST_BYTES:
                raise RpcError(Code.RESOURCE_EXHAUSTED, f"a context of more than {_MOST_BYTES} bytes")
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
            return
        os.fchmod(fd, permissions(file.mode))
        os.utime(fd, ns=(file.changed, file.changed))
        os.close(fd)
        del self._open[number], self._wanted[number]

    def _finish(self) -> None:
        """Hard links, what is not there any more, and the modes and times of directories, the deepest first."""
        for file in self._links:
            self._hard_link(file.path, file.link)
        self._remove_others(b"")
        for path, (mode, changed) in reversed(self._seen.items()):
            if mode & (IS_DIRECTORY | IS_LINK):
                place = self._place(path)
                there = os.lstat(place)
                if there.st_mtime_ns != changed:
                    os.utime(place, ns=(changed, changed), follow_symlinks=False)
                if mode & IS_DIRECTORY and stat.S_IMODE(there.st_mode) != permissions(mode):
                    os.chmod(place, permissions(mode))

    def _hard_link(self, path: bytes, target: bytes) -> None:
        first = self._seen.get(target)
        if first is None or first[0] & (IS_DIRECTORY | IS_LINK) or target == path:
            raise _broken(f"the link {path[:200]!r}")
        place, there = self._place(path), _stat_of(self._place(path))
        original = _stat_of(self._place(target))
        if original is None:
            raise _broken(f"the link {path[:200]!r}")
        if there is None or (there.st_ino, there.st_dev) != (original.st_ino, original.st_dev):
            _remove(place, there)
            os.link(self._place(target), place, follow_symlinks=False)

    def _remove_others(self, directory: bytes) -> None:
        with os.scandir(self._place(directory) if directory else self._root) as entries:
            found = list(entries)
        for entry in found:
            path = directory + b"/" + entry.name if directory else entry.name
            if path not in self._seen:
                _remove(entry.path, entry.stat(follow_symlinks=False))
            elif path in self._directories and path not in self._new_directories:
                self._remove_others(path)

    def _place(self, path: bytes) -> bytes:
        return self._root + b"/" + path


def _is_same(there: os.stat_result | None, described: Any) -> bool:
    """Whether a file is what the client has, as far as one sees without reading it."""
    if there is None or not stat.S_ISREG(there.st_mode):
        return False
    return (there.st_size, there.st_mtime_ns, stat.S_IMODE(there.st_mode)) == (
        described.size,
        described.modTime,
        permissions(described.mode),
    )


def _stat_of(place: bytes) -> os.stat_result | None:
    try:
        return os.lstat(place)
    except FileNotFoundError:
        return None


def _remove(place: bytes | str, there: os.stat_result | None) -> None:
    if there is None:
        return
    if stat.S_ISDIR(there.st_mode):
        shutil.rmtree(place)
    else:
        os.unlink(place)


def _link(target: bytes, place: bytes) -> None:
    if not target or b"\0" in target:
        raise _broken("a link without a target")
    with contextlib.suppress(FileExistsError):
        os.symlink(target, place)


def _broken(what: str) -> RpcError:
    return RpcError(Code.INVALID_ARGUMENT, f"the transfer of files broke the protocol: {what}")
