"""Layer tars, written fast and reproducibly: the same calls give the same bytes, and nothing of this machine gets in.

An ordinary entry is one ustar header made from a template: about 3 µs. What ustar cannot hold (names that are long or
not ASCII, big numbers, extended attributes) goes into a PAX header in front of it; the ustar fields are still filled as
far as they reach. Names are bytes, as the kernel has them. Names that are not UTF-8 go into PAX records as they are:
Go's archive/tar writes them so, and GNU tar, Python and mkfs.erofs read them back unchanged.

Times are whole seconds and user names are left empty. Two zero blocks end the archive; there is no padding to 10 KiB.
Spec: pax(1) in POSIX.1-2017, "ustar Interchange Format" and "pax Header Block"; whiteouts: image-spec layer.md.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Mapping
from typing import NamedTuple, Protocol, TypeAlias

from core.cancellation import check
from images.errors import LayerSourceError
from images.tarheaders import BLOCK, XATTR_KEY
from images.whiteouts import OPAQUE_NAME, WHITEOUT_PREFIX

_MAX_ID = 0o7777777  # seven octal digits
_MAX_NUMBER = 0o77777777777  # eleven
_CHUNK = 256 * 1024  # of a big file: small enough to be hashed while it is still in the processor's cache
_FLUSH = 1024 * 1024
_END = bytes(2 * BLOCK)
_TAIL_OFFSET = 156  # in a header
_PREFIX_OFFSET = 345 - _TAIL_OFFSET  # in a tail

# name mode uid gid size mtime: the 148 bytes before the checksum. Then the checksum, then a tail of 356 bytes.
_HEAD = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0"
_PADDING = tuple(bytes(-n % BLOCK) for n in range(BLOCK))

_Xattrs: TypeAlias = Mapping[str, bytes]  # names as os.listxattr gives them


class Stretch(NamedTuple):
    """A part of a tar that this module wrote: a file's content, ``size`` bytes from ``offset`` on. fd: of the tar."""

    fd: int
    offset: int
    size: int

    @property
    def padded_size(self) -> int:
        """With the zeros up to the next header."""
        return _padded(self.size)


class StretchReader:
    """Reads a stretch, from its beginning."""

    __slots__ = ("_at", "_end", "_fd")

    def __init__(self, stretch: Stretch) -> None:
        self._fd = stretch.fd
        self._at = stretch.offset
        self._end = stretch.offset + stretch.size

    def read(self, size: int, /) -> bytes:
        data = os.pread(self._fd, min(size, self._end - self._at), self._at)
        self._at += len(data)
        return data


class SupportsWrite(Protocol):
    """Where the bytes go. ``write`` takes all of them, and is done with them when it returns."""

    def write(self, data: bytes, /) -> object: ...


class SupportsRead(Protocol):
    """Where a file's content may come from: as a raw or buffered binary file, ``b""`` at its end."""

    def read(self, size: int, /) -> bytes: ...


def _sum(data: bytes) -> int:
    """The sum of the bytes, at a tenth of the price of ``sum``.

    The low half of an Adler-32 is 1 + the sum, modulo 65521, which no part of our headers reaches: at most 100 bytes,
    of a name or link, are not ASCII.
    """
    return (zlib.adler32(data) & 0xFFFF) - 1


def _tail(kind: bytes, link: bytes = b"", major: int = 0, minor: int = 0, prefix: bytes = b"") -> tuple[bytes, int]:
    """Everything after the checksum, and what it adds to the checksum (with the eight blanks that stand for it)."""
    link = link.ljust(100, b"\0")
    tail = b"%b%bustar\x0000%b%07o\0%07o\0%b" % (kind, link, bytes(64), major, minor, prefix.ljust(167, b"\0"))
    return tail, _sum(tail) + 8 * 0x20


_FILE, _DIRECTORY, _PAX = _tail(b"0"), _tail(b"5"), _tail(b"x")


def _ustar(name: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, tail: tuple[bytes, int]) -> bytes:
    head = _HEAD % (name.ljust(100, b"\0"), mode, uid, gid, size, mtime)
    return b"%b%06o\0 %b" % (head, _sum(head) + tail[1], tail[0])


def _record(key: bytes, value: bytes) -> bytes:
    """``LENGTH KEY=VALUE\\n``, where LENGTH counts its own digits too."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) != len(str(rest)):
        length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _is_plain(name: bytes, uid: int, gid: int, size: int, mtime: int) -> bool:
    """Whether ustar alone holds these."""
    return (
        0 < len(name) <= 100
        and name.isascii()
        and b"\0" not in name
        and uid <= _MAX_ID
        and gid <= _MAX_ID
        and 0 <= mtime <= _MAX_NUMBER
        and size <= _MAX_NUMBER
    )


def _header(
    name: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    tail: tuple[bytes, int],
    xattrs: _Xattrs | None = None,
    records: dict[bytes, bytes] | None = None,
) -> bytes:
    """The header of one entry: plain when it fits, else what ``_extended`` makes of it."""
    if not records and not xattrs and _is_plain(name, uid, gid, size, mtime):
        return _ustar(name, mode & 0o7777, uid, gid, size, mtime, tail)
    return _extended(name, mode & 0o7777, uid, gid, size, mtime, tail, records or {}, xattrs or {})


def _extended(
    name: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    tail: tuple[bytes, int],
    records: dict[bytes, bytes],
    xattrs: _Xattrs,
) -> bytes:
    """The header of an entry that ustar alone may not hold."""
    if not name or b"\0" in name:
        raise ValueError(f"a name that no tar can hold: {name!r}")
    split = _split(name)
    if split:
        prefix, name = split
        tail = (tail[0][:_PREFIX_OFFSET] + prefix.ljust(167, b"\0"), tail[1] + _sum(prefix))
    elif len(name) > 100 or not name.isascii():
        records[b"path"] = name
    for key, number, limit in ((b"uid", uid, _MAX_ID), (b"gid", gid, _MAX_ID), (b"size", size, _MAX_NUMBER)):
        if number > limit:
            records[key] = b"%d" % number
    if not 0 <= mtime <= _MAX_NUMBER:
        records[b"mtime"] = b"%d" % mtime
    for attribute, value in xattrs.items():
        key = os.fsencode(attribute)
        if b"=" in key or b"\0" in key:
            raise ValueError(f"an extended attribute's name that no tar can hold: {attribute!r}")
        records[XATTR_KEY + key] = value
    pax = b""
    if records:
        data = b"".join(_record(key, value) for key, value in sorted(records.items()))
        pax = _ustar(b"PaxHeaders/0", 0o644, 0, 0, len(data), 0, _PAX) + data + _PADDING[len(data) % BLOCK]
    plain = _ustar(
        name[:100],
        mode,
        uid if uid <= _MAX_ID else 0,
        gid if gid <= _MAX_ID else 0,
        size if size <= _MAX_NUMBER else 0,
        mtime if b"mtime" not in records else 0,
        tail,
    )
    return pax + plain


class TarWriter:
    """Writes entries in the order of the calls.

    entries: how many there are.
    marks: whether whiteouts or opaque directories are among them.

    Names are relative to the root, without a leading slash; a directory's trailing slash is added here, and ``b""`` is
    the root itself. Modes may carry file type bits, which are ignored. ``close`` ends the archive and leaves the sink
    open; an archive that was not closed is incomplete. Not thread-safe.

    Raises LayerSourceError from ``file``, ValueError for what no tar can hold (a NUL in a name, an ``=`` in the name
    of an extended attribute), and whatever the sink raises.
    """

    __slots__ = (
        "_copied_bytes", "_copied_fd", "_copied_from", "_parts", "_pending", "_seen", "_seen_fd", "_seen_from", "_sink",
        "_written", "entries", "marks",
    )  # fmt: skip

    def __init__(self, sink: SupportsWrite) -> None:
        self._sink = sink
        self._parts: list[bytes | memoryview] = []
        self._pending = 0  # bytes of the parts
        # What comes after the parts, of another tar. Plain numbers, for there is one for each of 20,000 files.
        self._copied_fd = -1
        self._copied_from = 0
        self._copied_bytes = 0
        # A piece of such a tar that was read at once: headers are compared in it, and contents taken.
        self._seen_fd = -1
        self._seen_from = 0
        self._seen = b""
        self._written = 0
        self.entries = 0
        self.marks = False

    @property
    def offset(self) -> int:
        """Where the next byte goes: after ``file``, the end of its content and padding."""
        return self._written + self._pending + self._copied_bytes

    def directory(self, name: bytes, mode: int, uid: int, gid: int, mtime: int, xattrs: _Xattrs | None = None) -> None:
        if not name.endswith(b"/"):
            name = name + b"/" if name else b"./"
        self._append(_header(name, mode, uid, gid, 0, mtime, _DIRECTORY, xattrs))

    def file(
        self,
        name: bytes,
        mode: int,
        uid: int,
        gid: int,
        mtime: int,
        size: int,
        source: bytes | int | SupportsRead,
        xattrs: _Xattrs | None = None,
    ) -> None:
        """A regular file of exactly ``size`` bytes.

        source: the content, a descriptor to read it from (at its current offset), or an object with ``read``. Raises
        LayerSourceError when it ends early or, as far as that can be seen, has more: the archive is then spoilt.
        """
        self._begin_file(name, mode, uid, gid, mtime, size, xattrs)
        if size > _CHUNK:
            self._stream(name, size, source)
            return
        if isinstance(source, bytes):
            data = source
        elif isinstance(source, int):
            data = os.read(source, size + 1)  # one more than there ought to be: a file that grew is seen for free
        else:
            data = source.read(size) if size else b""
        if len(data) != size:
            data = _read_rest(name, size, source, data)
        if size:
            self._parts += (data, _PADDING[size % BLOCK])
            self._pending += _padded(size)

    def file_from_tar(
        self,
        name: bytes,
        mode: int,
        uid: int,
        gid: int,
        mtime: int,
        content: Stretch,
        xattrs: _Xattrs | None = None,
    ) -> None:
        """A regular file whose content is copied from another tar; with its header, if that is the same there.

        Long runs of entries that follow each other there are copied as one piece, at the price of reading and writing
        their bytes. Raises LayerSourceError, now or later, when the tar is shorter than it was.
        """
        fd, offset, size = content
        if not xattrs and _is_plain(name, uid, gid, size, mtime):  # all but the checksum of the same bytes
            head = _HEAD % (name.ljust(100, b"\0"), mode & 0o7777, uid, gid, size, mtime)
            at = self._see(fd, offset - BLOCK, BLOCK, size)
            if at >= 0 and self._seen.startswith(head, at) and self._seen.startswith(_FILE[0], at + _TAIL_OFFSET):
                self.entries += 1
                self._copy(fd, offset - BLOCK, BLOCK + size + -size % BLOCK)
                return
        header = _header(name, mode, uid, gid, size, mtime, _FILE, xattrs)
        at = self._see(fd, offset - len(header), len(header), size)
        if at >= 0 and self._seen.startswith(header, at):
            self.entries += 1
            self._copy(fd, offset - len(header), len(header) + _padded(size))
        else:
            self._append(header)
            self._copy(fd, offset, _padded(size))

    def _see(self, fd: int, start: int, length: int, size: int) -> int:
        """Where in ``_seen`` a header of another tar is, which a content of ``size`` bytes follows; below 0: nowhere.

        Small files stand close together, so a megabyte is read at once. No mapping: the tar may shrink.
        """
        at = start - self._seen_from
        if fd != self._seen_fd or at < 0 or at + length > len(self._seen):
            if start < 0:
                return -1
            self._end_copy()  # of what was seen before
            self._seen = os.pread(fd, _FLUSH if size < _CHUNK else length, start)
            self._seen_fd, self._seen_from, at = fd, start, 0
        return at

    def take_in(self) -> None:
        """Read what ``file_from_tar`` named and nobody has read yet: after this the other tar may be closed."""
        self._end_copy()
        self._seen_fd, self._seen = -1, b""

    def symlink(
        self, name: bytes, target: bytes, uid: int, gid: int, mtime: int, xattrs: _Xattrs | None = None
    ) -> None:
        self._link(b"2", name, target, 0o777, uid, gid, mtime, xattrs)

    def hardlink(self, name: bytes, target: bytes, mode: int, uid: int, gid: int, mtime: int) -> None:
        """Another name for an entry that was written before; mode and the rest repeat what that entry said."""
        self._link(b"1", name, target, mode, uid, gid, mtime, None)

    def device(
        self,
        name: bytes,
        mode: int,
        uid: int,
        gid: int,
        mtime: int,
        rdev: int = 0,
        xattrs: _Xattrs | None = None,
    ) -> None:
        """A character or block device or a FIFO, as the type bits of ``mode`` say. rdev: as in ``st_rdev``."""
        kind = {stat.S_IFCHR: b"3", stat.S_IFBLK: b"4", stat.S_IFIFO: b"6"}[stat.S_IFMT(mode)]
        major, minor = (0, 0) if kind == b"6" else (os.major(rdev), os.minor(rdev))
        if major > _MAX_ID or minor > _MAX_ID:
            raise ValueError(f"device number too big for a tar: {major}:{minor}")
        self._append(_header(name, mode, uid, gid, 0, mtime, _tail(kind, major=major, minor=minor), xattrs))

    def whiteout(self, name: bytes) -> None:
        """``name`` in the layers below does not exist from here on."""
        self.marks = True
        head, slash, last = name.rpartition(b"/")
        self._append(_header(head + slash + WHITEOUT_PREFIX + last, 0, 0, 0, 0, 0, _FILE))

    def opaque(self, directory: bytes) -> None:
        """Whatever the layers below have inside ``directory`` does not exist from here on."""
        self.marks = True
        prefix = directory.rstrip(b"/")
        self._append(_header(prefix + b"/" + OPAQUE_NAME if prefix else OPAQUE_NAME, 0, 0, 0, 0, 0, _FILE))

    def close(self) -> None:
        """Write the end of the archive."""
        self._end_copy()
        self._parts.append(_END)
        self._pending += len(_END)
        self._flush()

    def _link(
        self,
        kind: bytes,
        name: bytes,
        target: bytes,
        mode: int,
        uid: int,
        gid: int,
        mtime: int,
        xattrs: _Xattrs | None,
    ) -> None:
        if b"\0" in target or not target:
            raise ValueError(f"a link target that no tar can hold: {target!r}")
        records = {} if len(target) <= 100 and target.isascii() else {b"linkpath": target}
        self._append(_header(name, mode, uid, gid, 0, mtime, _tail(kind, target[:100]), xattrs, records))

    def _begin_file(
        self, name: bytes, mode: int, uid: int, gid: int, mtime: int, size: int, xattrs: _Xattrs | None
    ) -> None:
        self._append(_header(name, mode, uid, gid, size, mtime, _FILE, xattrs))

    def _append(self, header: bytes) -> None:
        """Begin an entry."""
        self._end_copy()
        if self._pending > _FLUSH:
            self._flush()
        self.entries += 1
        self._pending += len(header)
        self._parts.append(header)

    def _stream(self, name: bytes, size: int, source: bytes | int | SupportsRead) -> None:
        self._flush()
        write = self._sink.write
        if isinstance(source, bytes):
            if len(source) != size:
                raise _changed(name, size, len(source))
            write(source)
        else:
            left = size
            while left:
                check()
                want = min(left, _CHUNK)
                data = os.read(source, want) if isinstance(source, int) else source.read(want)
                if not data:
                    raise _changed(name, size, size - left)
                write(data)
                left -= len(data)
            if isinstance(source, int) and os.read(source, 1):
                raise _changed(name, size, size + 1)
        self._written += size
        self._parts.append(_PADDING[size % BLOCK])
        self._pending += -size % BLOCK

    def _copy(self, fd: int, offset: int, size: int) -> None:
        """Go on with bytes of another tar."""
        copied = self._copied_bytes
        if copied < _FLUSH and self._copied_from + copied == offset and self._copied_fd == fd:
            self._copied_bytes += size
        else:
            self._end_copy()
            self._copied_fd, self._copied_from, self._copied_bytes = fd, offset, size

    def _end_copy(self) -> None:
        """Read what is to be copied: with what comes before and after it when it is short, else in pieces."""
        fd, offset, left = self._copied_fd, self._copied_from, self._copied_bytes
        if not left:
            return
        self._copied_fd, self._copied_bytes = -1, 0
        if left > _CHUNK:
            self._flush()
        at = offset - self._seen_from
        if fd == self._seen_fd and 0 <= at < len(self._seen):
            seen = memoryview(self._seen)[at : at + left]
            offset += len(seen)
            left -= len(seen)
            self._parts.append(seen)
            self._pending += len(seen)
        while left:
            data = os.pread(fd, min(left, _FLUSH), offset)
            if not data:
                raise LayerSourceError(
                    "the layer that an earlier build left has lost its end",
                    hint="the store was changed by hand; build again with --no-cache",
                )
            offset += len(data)
            left -= len(data)
            self._parts.append(data)
            self._pending += len(data)
            if self._pending >= _FLUSH:
                self._flush()

    def _flush(self) -> None:
        if self._parts:
            first = self._parts[0]
            data = first if len(self._parts) == 1 and isinstance(first, bytes) else b"".join(self._parts)
            self._parts.clear()
            self._written += self._pending
            self._pending = 0
            self._sink.write(data)


def _padded(size: int) -> int:
    return size + -size % BLOCK


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """``name`` as ustar's prefix (up to 155 bytes) and name (up to 100); None where not needed or not possible."""
    if not 100 < len(name) <= 256 or not name.isascii():
        return None
    slash = name.find(b"/", len(name) - 101)
    if slash <= 0 or slash > 155 or slash == len(name) - 1:
        return None
    return name[:slash], name[slash + 1 :]


def _read_rest(name: bytes, size: int, source: bytes | int | SupportsRead, data: bytes) -> bytes:
    """Read on after a read that gave less than ``size`` bytes, until it is clear that there are not as many."""
    while len(data) < size and not isinstance(source, bytes):
        want = size - len(data)
        more = os.read(source, want) if isinstance(source, int) else source.read(want)
        if not more:
            break
        data += more
    if len(data) != size:
        raise _changed(name, size, len(data))
    return data


def _changed(name: bytes, expected: int, got: int) -> LayerSourceError:
    found = f"more than {expected}" if got > expected else str(got)
    return LayerSourceError(
        f"{os.fsdecode(name)}: the file changed while it was read: expected {expected} bytes, got {found}",
        hint="run the same command again when nothing writes to it",
    )
