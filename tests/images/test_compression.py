from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import subprocess
import zlib
from collections.abc import Callable
from typing import Literal

import pytest
import zstandard
from isal import isal_zlib

from images.compression import CompressingWriter, Compression, DecompressingReader, detect
from images.errors import CompressedDataError

PAYLOAD = os.urandom(300_000) + b"shiplap " * 100_000

ENCODERS: dict[Compression, Callable[[bytes], bytes]] = {
    "none": lambda data: data,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(level=3, write_checksum=True).compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}
COMPRESSED = [name for name in ENCODERS if name != "none"]


class Dribble(io.RawIOBase):
    """A stream that gives a few bytes at a time, as a pipe may."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data, self._step = io.BytesIO(data), step

    def read(self, size: int = -1, /) -> bytes:
        return self._data.read(min(size, self._step) if size >= 0 else self._step)


@pytest.mark.parametrize("name", ENCODERS)
def test_reads_every_compression_it_detects(name: Compression) -> None:
    reader = DecompressingReader(io.BytesIO(ENCODERS[name](PAYLOAD)))
    assert reader.compression == name
    assert reader.read() == PAYLOAD
    assert reader.read(1) == b""


@pytest.mark.parametrize("name", ENCODERS)
def test_reads_in_small_steps_from_a_stream_that_dribbles(name: Compression) -> None:
    payload = PAYLOAD[290_000:320_000]
    reader = DecompressingReader(Dribble(ENCODERS[name](payload), 3))
    pieces = []
    while piece := reader.read(777):
        pieces.append(piece)
    assert b"".join(pieces) == payload
    assert {len(piece) for piece in pieces[:-1]} == {777}


@pytest.mark.parametrize("size", [777, 1 << 20])
@pytest.mark.parametrize("name", ENCODERS)
def test_gives_pieces_as_they_come(name: Compression, size: int) -> None:
    reader = DecompressingReader(io.BytesIO(ENCODERS[name](PAYLOAD)))
    head = reader.read(5)
    pieces = []
    while piece := reader.read1(size):
        pieces.append(piece)
    assert head + b"".join(pieces) == PAYLOAD
    assert max(map(len, pieces)) <= size
    assert reader.read1(size) == b""


@pytest.mark.parametrize("name", ENCODERS)
def test_empty_content_is_empty(name: Compression) -> None:
    assert DecompressingReader(io.BytesIO(ENCODERS[name](b""))).read() == b""


@pytest.mark.parametrize("name", COMPRESSED)
def test_members_in_a_row_are_one_stream(name: Compression) -> None:
    encode = ENCODERS[name]
    data = encode(b"first ") + encode(b"") + encode(b"second")
    assert DecompressingReader(io.BytesIO(data)).read() == b"first second"


@pytest.mark.parametrize("name", COMPRESSED)
def test_zeros_after_the_end_are_padding(name: Compression) -> None:
    assert DecompressingReader(io.BytesIO(ENCODERS[name](b"data") + bytes(1000))).read() == b"data"


@pytest.mark.parametrize("name", COMPRESSED)
def test_garbage_after_the_end_is_an_error(name: Compression) -> None:
    with pytest.raises(CompressedDataError, match="followed by something else"):
        DecompressingReader(io.BytesIO(ENCODERS[name](b"data") + b"garbage")).read()


@pytest.mark.parametrize("name", COMPRESSED)
def test_truncation_is_an_error_wherever_it_happens(name: Compression) -> None:
    data = ENCODERS[name](PAYLOAD[299_000:302_000])
    for length in range(7, len(data), 97):
        with pytest.raises(CompressedDataError):
            DecompressingReader(io.BytesIO(data[:length])).read()
    with pytest.raises(CompressedDataError, match="ends early"):
        DecompressingReader(io.BytesIO(data[:-1])).read()


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_flipped_bit_in_the_checksum_is_an_error(name: Compression) -> None:
    data = bytearray(ENCODERS[name](PAYLOAD))
    data[-8 if name == "gzip" else -4] ^= 1
    with pytest.raises(CompressedDataError):
        DecompressingReader(io.BytesIO(bytes(data))).read()


@pytest.mark.parametrize("name", ENCODERS)
def test_a_bomb_stops_at_the_limit(name: Compression) -> None:
    data = ENCODERS[name](bytes(50_000_000))
    reader = DecompressingReader(io.BytesIO(data), limit_bytes=1_000_000)
    with pytest.raises(CompressedDataError, match="more than 1000000 bytes"):
        reader.read()
    assert DecompressingReader(io.BytesIO(data[:4096] if name == "none" else data), limit_bytes=50_000_000).read()


def test_a_zstd_stream_may_start_with_a_skippable_frame() -> None:
    skippable = b"\x5a\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
    reader = DecompressingReader(io.BytesIO(skippable + ENCODERS["zstd"](b"data")))
    assert reader.compression == "zstd"
    assert reader.read() == b"data"


def test_detects_nothing_in_what_is_too_short_or_plain() -> None:
    for head in (b"", b"\x1f", b"\x1f\x8b", b"ustar", bytes(6)):
        assert detect(head) == "none"


@pytest.mark.parametrize(("compression", "program"), [("gzip", ["gzip", "-dc"]), ("zstd", [])])
def test_what_is_written_is_read_by_others(compression: Literal["gzip", "zstd"], program: list[str]) -> None:
    sink = io.BytesIO()
    with CompressingWriter(sink, compression) as writer:
        for start in range(0, len(PAYLOAD), 70_001):
            writer.write(PAYLOAD[start : start + 70_001])
    if program:
        output = subprocess.run(program, input=sink.getvalue(), stdout=subprocess.PIPE, check=True).stdout
    else:
        output = zstandard.ZstdDecompressor().decompressobj().decompress(sink.getvalue())
    assert output == PAYLOAD


def test_written_gzip_says_nothing_of_time_or_machine() -> None:
    sink = io.BytesIO()
    with CompressingWriter(sink, "gzip") as writer:
        writer.write(b"data")
    assert sink.getvalue()[:10] == b"\x1f\x8b\x08\x00" + bytes(4) + b"\x00\xff"


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_writing_twice_gives_the_same_bytes(
    compression: Literal["gzip", "zstd"], monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = set()
    for processors in (1, 2, 8):
        monkeypatch.setattr("os.cpu_count", lambda count=processors: count)
        sink = io.BytesIO()
        with CompressingWriter(sink, compression) as writer:
            writer.write(PAYLOAD * 10)
        outputs.add(sink.getvalue())
    assert len(outputs) == 1


def _gzipped(data: bytes, step: int = 1 << 20) -> bytes:
    sink = io.BytesIO()
    with CompressingWriter(sink, "gzip") as writer:
        for start in range(0, len(data), step):
            writer.write(data[start : start + step])
    return sink.getvalue()


def test_what_does_not_compress_is_stored_and_all_else_is_as_by_isa_l() -> None:
    text = b"".join(b"line %d of a text\n" % number for number in range(60_000))
    noise = os.urandom(1 << 20)
    mixed = text + noise + text[:-9] + noise[:-1]
    for data, most in ((noise, len(noise) + 200), (mixed, len(noise) * 2 + len(_gzipped(text)) * 3), (b"", 20)):
        made = _gzipped(data)
        assert len(made) <= most
        assert gzip.decompress(made) == zlib.decompress(made, 31) == data
        assert DecompressingReader(io.BytesIO(made)).read() == data
        assert {_gzipped(data, step) for step in (1000, 65_536, 262_145)} == {made}
    plain = isal_zlib.compressobj(1, isal_zlib.DEFLATED, 31)
    assert _gzipped(text) == plain.compress(text) + plain.flush()


def test_an_exception_leaves_the_stream_without_an_end() -> None:
    sink = io.BytesIO()
    writer = CompressingWriter(sink, "gzip")
    writer.write(b"data")
    writer.__exit__(KeyError)
    unfinished = sink.getvalue()
    writer.__exit__(None)
    assert DecompressingReader(io.BytesIO(sink.getvalue())).read() == b"data"
    assert len(unfinished) < len(sink.getvalue())
