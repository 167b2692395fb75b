"""Tars that are small, and would take the memory or the hours of whoever reads them."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from images.apply import apply_layer
from images.errors import InvalidLayerError
from images.parents import implied_directories
from images.survey import survey
from images.tarreader import TarReader
from images.trees import remove_tree

_DEEP = b"a/" * 2000


def _header(name: bytes, kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo(name.decode())
    info.type, info.size = kind, size
    return info.tobuf(tarfile.USTAR_FORMAT)


def _pax(kind: bytes, records: dict[bytes, bytes]) -> bytes:
    body = b""
    for key, value in records.items():
        length = len(key) + len(value) + 3
        while len(line := b"%d %s=%s\n" % (length, key, value)) != length:
            length = len(line)
        body += line
    return _header(b"p", kind, len(body)) + body + bytes(-len(body) % 512)


class _Stream:
    """What a generator yields, as a file."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = iter(parts)
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        while len(self._rest) < size and (part := next(self._parts, None)) is not None:
            self._rest += part
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


@pytest.mark.parametrize("kind", [b"x", b"g"])
def test_headers_without_end_are_refused(kind: bytes) -> None:
    parts = (_pax(kind, {b"SCHILY.xattr.user.%d" % number: b"x" * 500_000}) for number in range(1_000_000))
    with pytest.raises(InvalidLayerError, match="more than a megabyte"):
        list(TarReader(_Stream(parts)))


def test_records_that_nobody_asks_for_are_not_kept() -> None:
    count = 40

    def parts() -> Iterator[bytes]:
        for number in range(count):
            yield _pax(b"g", {b"comment.%d" % number: b"x" * 500_000})
            yield _header(b"file%d" % number, b"0", 0)

    assert len(list(TarReader(_Stream(parts())))) == count


@pytest.mark.parametrize("content", [b"1" * (4 << 20), b"4000000\n" + b"0\n" * (2 << 20)], ids=["no lines", "lines"])
def test_map_of_a_sparse_file_is_no_bomb(content: bytes) -> None:
    records = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.realsize": b"5"}
    tar = _pax(b"x", records) + _header(b"f", b"0", len(content)) + content
    with pytest.raises(InvalidLayerError, match="map of a sparse file"):
        list(TarReader(io.BytesIO(tar)))


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """40 entries, 200 kB, that imply 80,000 directories, whose paths have 160 MB."""
    path = tmp_path / "deep.tar"
    with open(path, "wb") as file:
        names = (b"%d/%sf" % (number, _DEEP) for number in range(40))
        file.writelines(_pax(b"x", {b"path": name}) + _header(b"f", b"0", 0) for name in names)
        file.write(bytes(1024))
    return path


def test_few_entries_cannot_imply_directories_without_end(deep: Path) -> None:
    for look in (survey, implied_directories):
        with pytest.raises(InvalidLayerError, match="implies directories whose paths"):
            look(str(deep))


def test_nor_make_them_when_they_are_unpacked(deep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("images.survey._MAX_IMPLIED_BYTES", 1 << 20)
    (tmp_path / "root").mkdir()
    root = os.open(tmp_path / "root", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with open(deep, "rb") as tar, pytest.raises(InvalidLayerError, match="implies directories whose paths"):
            apply_layer(tar, root, overlay=True)
    finally:
        os.close(root)
        remove_tree(str(tmp_path / "root"))  # pytest's own removal goes no deeper than Python's stack


def _sized(field: bytes) -> bytes:
    """A file's header whose size is ``field``, right to its checksum."""
    header = bytearray(_header(b"f", b"0", 0))
    header[124:136] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize(
    "start",
    [
        _sized(b"-0000001000\0"),  # leads back to where it stands: a scan would not end
        _sized(b"\xff" * 12),
        _sized(b"\x80" + (2**63 - 1).to_bytes(11, "big")),
        _pax(b"x", {b"size": b"9" * 5000}) + _header(b"f", b"0", 0),
        _pax(b"x", {b"size": b"%d" % (2**63 - 1)}) + _header(b"f", b"0", 0),
        _pax(b"x", {b"size": b"many"}) + _header(b"f", b"0", 0),
        _pax(b"x", {b"path": b"seen\0not"}) + _header(b"f", b"0", 0),
        _header(b"p", b"x", 12) + b"12 path=abcd".ljust(512, b"\0") + _header(b"f", b"0", 0),
    ],
    ids=["back", "below 0", "no offset", "endless digits", "no offset in PAX", "no number", "NUL", "no end of line"],
)
def test_nonsense_is_refused_by_whoever_reads_headers(start: bytes, tmp_path: Path) -> None:
    tar = tmp_path / "tar"
    tar.write_bytes(start + _header(b"g", b"0", 0) + bytes(1024))
    with pytest.raises(InvalidLayerError, match="damaged tar"):
        survey(str(tar))
    with pytest.raises(InvalidLayerError, match="damaged tar"), tar.open("rb", buffering=0) as opened:
        list(TarReader(opened, seekable=True))


def test_content_past_what_a_file_system_can_hold_is_missing(tmp_path: Path) -> None:
    tar = tmp_path / "tar"
    tar.write_bytes(_sized(b"\x80" + (2**62 - 1).to_bytes(11, "big")) + _header(b"g", b"0", 0) + bytes(1024))
    assert survey(str(tar)).entries == 1
    with pytest.raises(InvalidLayerError, match="ends in the middle"), tar.open("rb", buffering=0) as opened:
        list(TarReader(opened, seekable=True))
