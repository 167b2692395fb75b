"""The files of an output for people, out of its layer: listed, one of them, or all as a tar or a zip.

The names are a stranger's. Nothing of them is opened here: a layer is read as the tar that it is, from its beginning.
"""

from __future__ import annotations

import io
import stat
import tarfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Final, Literal, NamedTuple, TypeAlias

import msgspec

from ci.errors import CiError
from images.tarheaders import DIRECTORY, FILE, HARDLINK, SYMLINK, normalise
from images.tarreader import TarEntry, TarReader
from images.tarwriter import SupportsRead
from images.whiteouts import WHITEOUT_PREFIX

Format: TypeAlias = Literal["tar", "zip"]
_AT_ONCE: Final = 1 << 18
_FIRST_ZIP_TIME: Final = (1980, 1, 1, 0, 0, 0)
_RESERVED: Final = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
)
"""Names of devices on Windows, with any ending."""
_FORBIDDEN: Final = frozenset('<>:"\\|?*')


class OutputFile(msgspec.Struct, frozen=True):
    """A file, directory or link of an output. link: a link's target. mode: permissions."""

    path: str
    kind: Literal["file", "directory", "symlink", "hardlink"]
    size: int = 0
    mode: int = 0
    link: str = ""


class NoSuchFileError(CiError):
    """An output has no such file."""


def counted(tar: BinaryIO) -> tuple[int, int]:
    """How many files and links a layer has, and how many bytes these files."""
    count = size = 0
    for entry in _entries(tar):
        count += entry.kind != DIRECTORY
        size += entry.size
    return count, size


def listed(tar: BinaryIO, below: str = "") -> Iterator[OutputFile]:
    """All that lies below a directory, at any depth; without one, all. In the layer's order, parents first."""
    prefix = f"{below.strip('/')}/" if below.strip("/") else ""
    for entry in _entries(tar):
        path = shown(normalise(entry.name))
        if path.startswith(prefix) and path != prefix[:-1]:
            yield OutputFile(path, _KINDS[entry.kind], entry.size, entry.mode & 0o777, shown(entry.link))


def opened_file(tar: BinaryIO, path: str) -> tuple[int, Iterator[bytes]]:
    """The size and the bytes of a file. Raises NoSuchFileError: also for links, which are not followed."""
    reader = TarReader(tar, seekable=True)
    wanted = path.strip("/")
    for entry in _of(reader):
        if shown(normalise(entry.name)) != wanted:
            continue
        if entry.kind == FILE:
            return entry.size, _content(reader, entry.size)
        if entry.kind == HARDLINK:
            tar.seek(0)
            return opened_file(tar, shown(normalise(entry.link)))
        raise NoSuchFileError(f"{path[:200]} is a {_KINDS[entry.kind]}", hint="the whole output, as a tar, has it")
    raise NoSuchFileError(f"the output has no file {path[:200]}")


def archived(tar: BinaryIO, form: Format, modified_at: float) -> Iterator[bytes]:
    """All of it as an archive, in pieces, whatever its size. modified_at: the time that its files get."""
    return _as_tar(tar, modified_at) if form == "tar" else _as_zip(tar, modified_at)


def shown(name: bytes) -> str:
    """A name as text; bytes that are no UTF-8 as ``\\xNN``."""
    return name.decode(errors="backslashreplace")


_KINDS: Final[dict[bytes, Literal["file", "directory", "symlink", "hardlink"]]] = {
    FILE: "file", DIRECTORY: "directory", SYMLINK: "symlink", HARDLINK: "hardlink",
}  # fmt: skip


def _entries(tar: BinaryIO) -> Iterator[TarEntry]:
    return _of(TarReader(tar, seekable=True))


def _of(reader: TarReader) -> Iterator[TarEntry]:
    """What a layer has for people: no removals, and nothing but files, directories and links."""
    for entry in reader:
        base = normalise(entry.name).rpartition(b"/")[2]
        if entry.kind in _KINDS and base and not base.startswith(WHITEOUT_PREFIX):
            yield entry


def _content(source: SupportsRead, size: int) -> Iterator[bytes]:
    left = size
    while left and (data := source.read(min(left, _AT_ONCE))):
        left -= len(data)
        yield data


def _as_tar(tar: BinaryIO, modified_at: float) -> Iterator[bytes]:
    reader = TarReader(tar, seekable=True)
    kinds = {FILE: tarfile.REGTYPE, DIRECTORY: tarfile.DIRTYPE, SYMLINK: tarfile.SYMTYPE, HARDLINK: tarfile.LNKTYPE}
    for entry in _of(reader):
        info = tarfile.TarInfo(normalise(entry.name).decode("utf-8", "surrogateescape"))
        info.type, info.mode, info.mtime = kinds[entry.kind], entry.mode & 0o777, int(modified_at)
        info.linkname = entry.link.decode("utf-8", "surrogateescape")
        info.size = entry.size if entry.kind == FILE else 0
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        yield from _content(reader, info.size)
        yield bytes(-info.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


class _Passing(io.RawIOBase):
    """A file that can only be written: what was written is taken out again."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        self._parts.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        found, self._parts = b"".join(self._parts), []
        return found


def _as_zip(tar: BinaryIO, modified_at: float) -> Iterator[bytes]:
    """Links that a zip has no word for are left out, but for hard links: these are copies."""
    targets = {normalise(entry.link) for entry in _entries(tar) if entry.kind == HARDLINK}
    tar.seek(0)
    reader = TarReader(tar, seekable=True)
    places: dict[bytes, _Place] = {}
    passing = _Passing()
    when = max(_FIRST_ZIP_TIME, time.gmtime(modified_at)[:6])
    taken: dict[str, int] = {}
    with zipfile.ZipFile(passing, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        for entry in _of(reader):
            if entry.kind == SYMLINK:
                continue
            name = _zip_name(normalise(entry.name), taken)
            info = zipfile.ZipInfo(f"{name}/" if entry.kind == DIRECTORY else name, when)
            kind = stat.S_IFDIR if entry.kind == DIRECTORY else stat.S_IFREG
            info.external_attr = (kind | entry.mode & 0o777) << 16
            info.compress_type = zipfile.ZIP_STORED if entry.kind == DIRECTORY else zipfile.ZIP_DEFLATED
            if entry.kind == FILE and entry.extents is None and normalise(entry.name) in targets:
                places[normalise(entry.name)] = _Place(reader.offset, entry.size)
            pieces = _pieces(tar, reader, entry, places)
            with archive.open(info, "w", force_zip64=True) as member:
                for data in pieces:
                    member.write(data)
                    yield passing.taken()
            yield passing.taken()
    yield passing.taken()


class _Place(NamedTuple):
    """Where the content of a file is in a layer, in bytes."""

    offset: int
    size: int


def _pieces(tar: BinaryIO, reader: TarReader, entry: TarEntry, places: Mapping[bytes, _Place]) -> Iterator[bytes]:
    """The content of an entry; of a hard link, of the file that it is. places: of files that have links."""
    if entry.kind == HARDLINK:
        at = tar.tell()
        place = places.get(normalise(entry.link))
        if place is None:
            raise NoSuchFileError(f"{shown(entry.name)[:200]} is a link to no file before it")
        tar.seek(place.offset)
        yield from _content(tar, place.size)
        tar.seek(at)
    elif entry.kind == FILE:
        yield from _content(reader, entry.size)


def _zip_name(path: bytes, taken: dict[str, int]) -> str:
    """A name that every system can unpack: what one has no room for becomes ``_``, and no two are one.

    taken: by name, how often it was asked for so far: many names that would be one cost no search for each.
    """
    name = "/".join(_zip_part(part) for part in shown(path).split("/"))
    folded = name.casefold()
    number = taken.get(folded, 0) + 1
    while number > 1 and f"{folded}~{number}" in taken:
        number += 1
    taken[folded] = number
    if number == 1:
        return name
    taken[f"{folded}~{number}"] = 1
    return f"{name}~{number}"


def _zip_part(part: str) -> str:
    part = "".join("_" if letter in _FORBIDDEN or letter < " " else letter for letter in part)
    if part.partition(".")[0].casefold() in _RESERVED:
        return f"_{part}"
    return f"{part[:-1]}_" if part.endswith((".", " ")) else part
