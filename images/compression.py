"""Compressed streams, told apart by their first bytes, read and written in bounded memory.

Reading: gzip, zstd, xz and bzip2, several members or frames in a row, damage and truncation noticed, with an optional
limit on what comes out (a bomb stops there). Writing: gzip by ISA-L (ten times as fast as zlib) and zstd, both
reproducible: no time, no name, and the same bytes whatever the number of processors.

The codecs are imported when first needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, Literal, Protocol, Self, TypeAlias, cast

from core.cancellation import check
from images.errors import CompressedDataError
from images.tarwriter import SupportsRead, SupportsWrite

Compression: TypeAlias = Literal["none", "gzip", "zstd", "xz", "bzip2"]

MAGIC_SIZE: Final = 6
_MAGIC: tuple[tuple[bytes, Compression], ...] = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)
_CHUNK = 256 * 1024
_ZSTD_CHUNK = 2048  # 4 bytes of zstd can stand for 128 KiB: of 2 KiB no more than 64 MiB can come at once
_MAX_ISAL_LEVEL = 3
_XZ_MEMORY = 256 * 1024 * 1024


def detect(head: bytes) -> Compression:
    """What a stream is that starts with ``head`` (``MAGIC_SIZE`` bytes, or all there are)."""
    for magic, compression in _MAGIC:
        if head.startswith(magic):
            return compression
    # A zstd stream may begin with a skippable frame, which has sixteen magic numbers.
    if len(head) >= 4 and 0x50 <= head[0] <= 0x5F and head[1:4] == b"\x2a\x4d\x18":
        return "zstd"
    return "none"


class _Member(Protocol):
    """A gzip member, zstd frame, xz or bzip2 stream being decompressed."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class DecompressingReader:
    """Reads ``stream``, from where it stands, as what its first bytes say it is (``compression``).

    The stream is not closed here. ``read`` raises CompressedDataError when the data is damaged, ends early, is followed
    by something that is neither another member nor zeros, or when more than ``limit_bytes`` come out of it.
    """

    def __init__(self, stream: SupportsRead, *, limit_bytes: int | None = None) -> None:
        self._source = stream
        self._input = b""  # read and not used yet: from self._at on
        self._at = 0
        self._fill(MAGIC_SIZE)
        self.compression: Compression = detect(self._input)
        self._limit = limit_bytes
        self._produced = 0
        self._output = memoryview(b"")  # decompressed and not asked for yet
        self._member: _Member | None = None
        self._begun = False
        self._ended = False
        if self.compression != "none":
            self._open_member, self._errors = _codec(self.compression)

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes, fewer only at the end; all of the rest when negative."""
        parts: list[bytes | memoryview] = []
        missing = size
        while missing and not self._ended:
            if not self._output:
                self._output = memoryview(self._produce())
            part = self._output if missing < 0 else self._output[:missing]
            self._output = self._output[len(part) :]
            parts.append(part)
            missing -= len(part) if missing > 0 else 0
        return b"".join(parts)

    def read1(self, size: int, /) -> bytes:
        """Up to ``size`` bytes, as they come without being put together; none only at the end."""
        if not self._output and not self._ended:
            data = self._produce()
            if len(data) <= size:
                return data
            self._output = memoryview(data)
        part, self._output = self._output[:size], self._output[size:]
        return bytes(part)

    def _produce(self) -> bytes:
        """The next piece of output; empty only at the end, which it notes."""
        check()
        data = self._raw() if self.compression == "none" else self._decompressed()
        self._ended = not data
        self._produced += len(data)
        if self._limit is not None and self._produced > self._limit:
            raise CompressedDataError(f"the {self.compression} data is more than {self._limit} bytes when decompressed")
        return data

    def _raw(self) -> bytes:
        data, self._input = self._input[self._at :], b""
        self._at = 0
        return data or self._source.read(_CHUNK)

    def _decompressed(self) -> bytes:
        while True:
            check()
            if self._member is None:
                if not self._another_member():
                    return b""
                self._member = self._open_member()
                self._begun = True
            chunk = b""
            if self._member.needs_input:
                if self._at == len(self._input):
                    self._fill(1)
                step = _ZSTD_CHUNK if self.compression == "zstd" else _CHUNK
                chunk = self._input[self._at : self._at + step]
                self._at += len(chunk)
                if not chunk:
                    raise CompressedDataError(f"the {self.compression} data ends early")
            try:
                data = self._member.decompress(chunk, _CHUNK)
            except self._errors as error:
                raise CompressedDataError(f"the {self.compression} data is damaged: {error}") from error
            if self._member.eof:
                self._at -= len(self._member.unused_data)
                self._member = None
            if data:
                return data

    def _another_member(self) -> bool:
        self._fill(MAGIC_SIZE)
        while self._begun and self._input[self._at : self._at + 1] == b"\0":  # padding, as tapes and xz have it
            check()
            self._input, self._at = self._input[self._at :].lstrip(b"\0"), 0
            self._fill(MAGIC_SIZE)
        head = self._input[self._at : self._at + MAGIC_SIZE]
        if head and detect(head) != self.compression:
            raise CompressedDataError(f"the {self.compression} data is followed by something else")
        return bool(head)

    def _fill(self, wanted: int) -> None:
        """Have at least ``wanted`` bytes of input at hand, unless the stream ends before."""
        while len(self._input) - self._at < wanted:
            more = self._source.read(_CHUNK)
            if not more:
                return
            self._input = self._input[self._at :] + more
            self._at = 0


class CompressingWriter:
    """Compresses what is written to it into ``sink``; ``close`` ends the stream and leaves the sink open.

    level: for gzip 0 to 9 (default 1; from 4 on by zlib, ten times as slow), for zstd 1 to 22 (default 3).
    Leaving the context with an exception closes nothing: what has reached the sink is then incomplete.
    """

    def __init__(self, sink: SupportsWrite, compression: Literal["gzip", "zstd"], level: int | None = None) -> None:
        self._sink = sink
        self._compress, self._finish = _compressor(compression, level)

    def write(self, data: bytes, /) -> int:
        compressed = self._compress(data)
        if compressed:
            self._sink.write(compressed)
        return len(data)

    def close(self) -> None:
        self._sink.write(self._finish())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()


class _ZstdFrame:
    """One zstd frame as a ``_Member``. It has no limit on its output, so it is fed by little."""

    needs_input = True

    def __init__(self) -> None:
        import zstandard

        self._frame = zstandard.ZstdDecompressor().decompressobj()

    @property
    def eof(self) -> bool:
        return self._frame.eof

    @property
    def unused_data(self) -> bytes:
        return self._frame.unused_data

    def decompress(self, data: bytes, _max_length: int, /) -> bytes:
        return self._frame.decompress(data)


def _codec(compression: Compression) -> tuple[Callable[[], _Member], tuple[type[Exception], ...]]:
    """How to start a member, and which exceptions mean that the data is bad."""
    if compression == "gzip":
        from isal import igzip_lib

        # (The stub declares the exception as an instance.)
        return lambda: igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_GZIP), (cast(type[Exception], igzip_lib.IsalError),)
    if compression == "zstd":
        import zstandard

        return _ZstdFrame, (zstandard.ZstdError,)
    if compression == "xz":
        import lzma

        return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY), (lzma.LZMAError,)
    import bz2

    return bz2.BZ2Decompressor, (OSError,)


def _compressor(
    compression: Literal["gzip", "zstd"], level: int | None
) -> tuple[Callable[[bytes], bytes], Callable[[], bytes]]:
    if compression == "gzip" and level is not None and level > _MAX_ISAL_LEVEL:
        import zlib

        small = zlib.compressobj(level, zlib.DEFLATED, 16 + 15)
        return small.compress, small.flush
    if compression == "gzip":
        from images.gzipping import Gzip

        gzip = Gzip(1 if level is None else level)
        return gzip.compress, gzip.flush
    import zstandard

    # With at least one worker thread the output no longer depends on their number.
    workers = max(1, min(4, os.cpu_count() or 1))
    settings = zstandard.ZstdCompressor(level=3 if level is None else level, threads=workers, write_checksum=True)
    frame = settings.compressobj()
    return frame.compress, frame.flush
