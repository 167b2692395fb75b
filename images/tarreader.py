"""Tars read as a stream: names as bytes, about 10 µs an entry, bounded memory, and no trust in what they say.

Understood: v7, ustar, PAX (local and global records, SCHILY.xattr) and GNU (long names, base-256 numbers, sparse files
of the old kind and PAX 0.0, 0.1 and 1.0). Entries of other types (volume labels and the like) are skipped.
The standard library's tarfile is three to four times slower, decodes names, and keeps every member: decision 21.
Spec: pax(1) in POSIX.1-2017; GNU tar manual, "Tar Internals".
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, NoReturn, Protocol, TypeAlias

from core.cancellation import check
from images.tarheaders import (
    BLOCK,
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    DIRECTORY,
    FIFO,
    FILE,
    MAX_DIGITS,
    MAX_METADATA_BYTES,
    MAX_SIZE_BYTES,
    SPARSE_KEY,
    XATTR_KEY,
    damaged,
    header_name,
    number,
    pax_records,
    plain,
    too_big,
)
from images.tarwriter import SupportsRead

DEVICE_TYPES: Final = {CHARACTER_DEVICE: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK, FIFO: stat.S_IFIFO}

_KINDS = {bytes([code]): bytes([code]) for code in b"0123456"} | {b"\0": FILE, b"7": FILE, b"S": FILE}
_CHUNK = 256 * 1024
_SEEKABLE_CHUNK = 64 * 1024  # less is read in vain before the next seek
_USED_RECORDS = frozenset((b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime"))
_USED_PREFIXES = (XATTR_KEY, SPARSE_KEY)
_MAX_SPARSE_MAP = 8 * 1024 * 1024
_MAX_SPARSE_NUMBERS = _MAX_SPARSE_MAP // 12
_MAX_ID = 2**32 - 2  # the one above means "leave as it is" to chown
_MAX_TIME = 2**40  # thirty thousand years; beyond that a time is nonsense and is cut
_ZEROS = bytes(BLOCK)
_SIGNED_SUM = struct.Struct("148b8x356b")

_Records: TypeAlias = dict[bytes, bytes]
_Extents: TypeAlias = tuple[tuple[int, int], ...]


class TarEntry(NamedTuple):
    """One entry, as the archive has it: the name is not normalised (see ``normalise``).

    size: bytes of content when holes are filled; 0 for all but files.
    mtime: whole seconds.
    link: the target of a symbolic or hard link.
    extents: (offset, length) of the parts of a sparse file that are stored, None for others.
    """

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: bytes
    rdev: int
    xattrs: dict[str, bytes]
    extents: _Extents | None


class Seekable(SupportsRead, Protocol):
    """A stream whose unwanted parts can be skipped."""

    def seek(self, offset: int, whence: int, /) -> int: ...


class Content:
    """A file-like reader over the stored parts of a file of ``size`` bytes, with zeros for the holes between them."""

    __slots__ = ("_pieces", "_rest")

    def __init__(self, chunks: Iterator[tuple[int, bytes]], size: int) -> None:
        self._pieces = _filled(chunks, size)
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes, fewer only at the end."""
        parts, missing = [self._rest], size - len(self._rest)
        while missing > 0:
            piece = next(self._pieces, None)
            if piece is None:
                break
            parts.append(piece)
            missing -= len(piece)
        data = b"".join(parts) if len(parts) > 1 else parts[0]
        self._rest = data[size:]
        return data[:size]


def write_content(fd: int, entry: TarEntry, chunks: Iterable[tuple[int, bytes]]) -> None:
    """Write a file's stored parts, as ``TarReader.chunks`` gives them, into an empty file: holes stay holes."""
    if entry.extents is not None:
        os.ftruncate(fd, entry.size)
    for offset, data in chunks:
        written = 0
        while written < len(data):
            written += os.pwrite(fd, data[written:] if written else data, offset + written)


def _filled(chunks: Iterator[tuple[int, bytes]], size: int) -> Iterator[bytes]:
    position = 0
    for offset, data in chunks:
        yield from _zeros(offset - position)
        yield data
        position = offset + len(data)
    yield from _zeros(size - position)


def _zeros(size: int) -> Iterator[bytes]:
    while size > 0:
        check()
        yield bytes(min(size, _CHUNK))
        size -= _CHUNK


class TarReader:
    """Iterates over the entries of a tar that starts where ``stream`` stands.

    Until the next entry is asked for, the content of the last one can be read: with ``read`` (holes filled) or
    ``chunks`` (holes left out).
    seekable: skip what is not read by ``stream.seek`` instead of reading it.

    Iterating and reading raise InvalidLayerError when the archive is damaged or truncated, and ask whether the work has
    to end (``core.cancellation``).
    """

    def __init__(self, stream: SupportsRead | Seekable, *, seekable: bool = False) -> None:
        self._stream = stream
        self._seekable = seekable
        self._buffer = b""
        self._at = 0
        self._base = 0  # of the buffer, from where the stream stood at first
        self._content_end = 0  # padding included
        self._entry: TarEntry | None = None
        self._content = Content(iter(()), 0)
        self._globals: _Records = {}

    @property
    def offset(self) -> int:
        """How far from its start the archive has been read: right after ``next``, where the entry's content starts."""
        return self._base + self._at

    def __iter__(self) -> Iterator[TarEntry]:
        while (entry := self.next()) is not None:
            yield entry

    def next(self) -> TarEntry | None:
        """The next entry, None at the end of the archive."""
        self._skip(self._content_end - self.offset)
        self._entry = None
        records: _Records = {}
        while True:
            check()
            header = self._header()
            if header is None:
                if records:
                    self._fail("it ends after an extended header")
                return None
            kind = header[156:157]
            if kind in (b"x", b"X"):
                records = self._merged(records, self._pax(header))
            elif kind == b"g":
                self._globals = self._merged(self._globals, self._pax(header))
            elif kind == b"L":
                records[b"path"] = self._metadata(header).partition(b"\0")[0]
            elif kind == b"K":
                records[b"linkpath"] = self._metadata(header).partition(b"\0")[0]
            elif kind in _KINDS:
                self._entry = self._parse(header, kind, self._globals | records if self._globals else records)
                self._content = Content(self.chunks(), self._entry.size)
                return self._entry
            else:
                size = number(header[124:136])
                if size > MAX_SIZE_BYTES:
                    raise too_big(size)
                self._skip(size + -size % BLOCK)
                records = {}

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes of the entry's content, fewer only at its end. Holes are zeros."""
        return self._content.read(size)

    def chunks(self) -> Iterator[tuple[int, bytes]]:
        """The entry's stored content as (offset, bytes), without the holes; instead of ``read``."""
        entry = self._entry
        if entry is None or entry.kind != FILE:
            return
        for start, length in ((0, entry.size),) if entry.extents is None else entry.extents:
            offset = start
            while offset < start + length:
                data = self._some(min(start + length - offset, _CHUNK))
                yield offset, data
                offset += len(data)

    def drain(self) -> None:
        """Read the stream to its end: what follows the archive, as padding does."""
        while self._stream.read(_CHUNK):
            pass

    def _parse(self, header: bytes, kind: bytes, records: _Records) -> TarEntry:
        name = records.get(b"path") or header_name(header)
        link = records.get(b"linkpath") or header[157:257].partition(b"\0")[0]
        stored = _decimal(records, b"size", number(header[124:136]))
        result = _KINDS[kind]
        if kind == b"\0" and name.endswith(b"/"):
            result = DIRECTORY  # as v7 wrote them
        if result != FILE:
            stored = 0
        if stored > MAX_SIZE_BYTES:
            raise too_big(stored)
        self._content_end = self.offset + stored + -stored % BLOCK
        size, extents = stored, None
        if result == FILE and (kind == b"S" or any(key.startswith(SPARSE_KEY) for key in records)):
            name, size, extents = self._sparse(header, kind, records, name, stored)
        rdev = 0
        if result in (CHARACTER_DEVICE, BLOCK_DEVICE):
            major, minor = number(header[329:337]), number(header[337:345])
            if major >= 2**31 or minor >= 2**31:
                self._fail(f"a device number of {major}:{minor}")
            rdev = os.makedev(major, minor)
        uid = _decimal(records, b"uid", number(header[108:116]))
        gid = _decimal(records, b"gid", number(header[116:124]))
        if uid > _MAX_ID or gid > _MAX_ID:
            self._fail(f"an owner of {uid}:{gid}")
        time = records.get(b"mtime")
        mtime = _seconds(time) if time else number(header[136:148], signed=True)
        return TarEntry(
            name,
            result,
            number(header[100:108]) & 0o7777,
            uid,
            gid,
            size,
            max(-_MAX_TIME, min(mtime, _MAX_TIME)),
            link,
            rdev,
            _xattrs(records) if records else {},
            extents,
        )

    def _sparse(
        self, header: bytes, kind: bytes, records: _Records, name: bytes, stored: int
    ) -> tuple[bytes, int, _Extents | None]:
        """Name, full size and extents of a sparse file, in the four ways that GNU tar has written them."""
        before = self.offset
        if kind == b"S":
            numbers = self._old_sparse_map(header)
            size = number(header[483:495])
            self._content_end += self.offset - before  # the map's extra blocks are not counted in the size
            before = self.offset
        elif records.get(b"GNU.sparse.major") == b"1":
            size = _decimal(records, b"GNU.sparse.realsize", 0)
            name = records.get(b"GNU.sparse.name") or name
            numbers = self._stored_sparse_map(stored)
        elif b"GNU.sparse.map" in records:
            size = _decimal(records, b"GNU.sparse.size", 0)
            name = records.get(b"GNU.sparse.name") or name
            text = records[b"GNU.sparse.map"]
            numbers = [plain(number) for number in text.split(b",")] if text else []
        else:
            return name, stored, None
        extents = tuple(zip(numbers[0::2], numbers[1::2], strict=False))
        position = 0
        for offset, length in extents:
            if offset < position:
                self._fail("the map of a sparse file is out of order")
            position = offset + length
        if len(numbers) % 2 or position > size or size > MAX_SIZE_BYTES:
            self._fail("the map of a sparse file exceeds the file")
        if sum(length for _, length in extents) != stored - (self.offset - before):
            self._fail("the map of a sparse file does not match its content")
        return name, size, extents

    def _old_sparse_map(self, header: bytes) -> list[int]:
        fields, more = header[386:482], header[482]
        numbers: list[int] = []
        while True:
            for at in range(0, len(fields) - 23, 24):
                if fields[at] == 0:
                    break
                numbers += (number(fields[at : at + 12]), number(fields[at + 12 : at + 24]))
            if not more:
                return numbers
            if len(numbers) > _MAX_SPARSE_NUMBERS:
                self._fail("the map of a sparse file is too long")
            block = self._exactly(BLOCK)
            fields, more = block[:504], block[504]

    def _stored_sparse_map(self, stored: int) -> list[int]:
        """PAX 1.0: decimal lines at the start of the content, padded to whole blocks."""
        numbers: list[int] = []
        rest, wanted, read = b"", 1, 0
        while len(numbers) < wanted:
            if read >= min(stored, _MAX_SPARSE_MAP):
                self._fail("the map of a sparse file does not end")
            read += BLOCK
            *lines, rest = (rest + self._exactly(BLOCK)).split(b"\n")
            if not numbers and lines:
                wanted = 1 + 2 * plain(lines[0])
                if wanted > _MAX_SPARSE_NUMBERS:
                    self._fail("the map of a sparse file is too long")
            numbers += [plain(line) for line in lines[: wanted - len(numbers)]]
            if len(numbers) < wanted and len(rest) > MAX_DIGITS:
                self._fail("the map of a sparse file has a line that is no number")
        return numbers[1:]

    def _pax(self, header: bytes) -> _Records:
        records: _Records = {}
        sparse: list[bytes] = []  # PAX 0.0 repeats its keys
        for key, value in pax_records(self._metadata(header)):
            if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
                sparse.append(value)  # and the key stays: it tells of a sparse file
            if key in _USED_RECORDS or key.startswith(_USED_PREFIXES):
                records[key] = value
        if sparse:
            records[b"GNU.sparse.map"] = b",".join(sparse)
        return records

    def _merged(self, before: _Records, more: _Records) -> _Records:
        """The records of several headers in a row. There can be any number of them."""
        if not before:
            return more
        merged = before | more
        if sum(map(len, merged)) + sum(map(len, merged.values())) > MAX_METADATA_BYTES:
            self._fail("extended headers of more than a megabyte")
        return merged

    def _metadata(self, header: bytes) -> bytes:
        size = number(header[124:136])
        if size > MAX_METADATA_BYTES:
            self._fail(f"an extended header of {size} bytes")
        return self._exactly(size + -size % BLOCK)[:size]

    def _header(self) -> bytes | None:
        """The next block that is a header; None at two zero blocks, or where the stream ends between entries."""
        header = self._available(BLOCK)
        if header == _ZEROS:
            header = self._available(BLOCK)
            if header == _ZEROS:
                return None
        if not header:
            return None
        if len(header) < BLOCK:
            self._fail("it ends in the middle of a header")
        checksum = 8 * 0x20 - 3  # see tarwriter._sum about Adler-32: no part here can reach its modulus either
        for part in (header[:148], header[156:334], header[334:]):
            checksum += zlib.adler32(part) & 0xFFFF
        stated = number(header[148:156])
        if stated != checksum and stated != sum(_SIGNED_SUM.unpack(header)) + 8 * 0x20:
            self._fail(f"no tar header at byte {self.offset - BLOCK}")
        return header

    def _some(self, size: int) -> bytes:
        """Between 1 and ``size`` bytes."""
        if self._at == len(self._buffer):
            self._refill()
        data = self._buffer[self._at : self._at + size]
        self._at += len(data)
        if not data:
            self._fail("it ends in the middle of a file")
        return data

    def _available(self, size: int) -> bytes:
        while len(self._buffer) - self._at < size:
            if not self._refill():
                break
        data = self._buffer[self._at : self._at + size]
        self._at += len(data)
        return data

    def _exactly(self, size: int) -> bytes:
        data = self._available(size)
        if len(data) != size:
            self._fail("it ends in the middle of an entry")
        return data

    def _skip(self, size: int) -> None:
        left = size - (len(self._buffer) - self._at)
        if left <= 0:
            self._at += size
            return
        self._base += len(self._buffer) + left if self._seekable else len(self._buffer)
        self._buffer, self._at = b"", 0
        if self._seekable:
            # Past the end too: the next read finds nothing, and that the archive is truncated.
            try:
                self._stream.seek(left - 1, os.SEEK_CUR)  # type: ignore[union-attr]
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOVERFLOW):
                    raise
                self._fail("it ends in the middle of a file")  # no file of this file system is as long
            if not self._stream.read(1):
                self._fail("it ends in the middle of a file")
            return
        while left:
            check()
            data = self._stream.read(min(left, _CHUNK))
            if not data:
                self._fail("it ends in the middle of a file")
            self._base += len(data)
            left -= len(data)

    def _refill(self) -> bool:
        check()
        more = self._stream.read(_SEEKABLE_CHUNK if self._seekable else _CHUNK)
        self._base += self._at
        self._buffer, self._at = self._buffer[self._at :] + more, 0
        return bool(more)

    def _fail(self, what: str) -> NoReturn:
        raise damaged(what)


def _decimal(records: _Records, key: bytes, otherwise: int) -> int:
    text = records.get(key)
    return plain(text) if text else otherwise


def _seconds(text: bytes) -> int:
    """Whole seconds, rounded down, of a PAX time such as ``-1.5``."""
    whole, _, fraction = text.partition(b".")
    negative = whole.startswith(b"-")
    seconds = plain(whole.removeprefix(b"-") or b"0")
    if negative:
        return -seconds - (1 if fraction.strip(b"0") else 0)
    return seconds


def _xattrs(records: _Records) -> dict[str, bytes]:
    return {os.fsdecode(key[len(XATTR_KEY) :]): value for key, value in records.items() if key.startswith(XATTR_KEY)}
