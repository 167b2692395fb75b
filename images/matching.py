"""Whether a layer would be one that is there: what a ``TarWriter`` would write is compared, and written nowhere."""

from __future__ import annotations

import os
from collections.abc import Mapping

from images.tarwriter import Stretch, TarWriter


class AnotherTarError(Exception):
    """What was to be written is not what the tar has."""


class TarMatcher(TarWriter):
    """Takes the calls that a ``TarWriter`` takes, and raises AnotherTarError once the tar ``fd`` has something else.

    A content that is to be copied from its own place in that tar is not read: it is the same by its place.
    ``close`` compares the end.
    """

    __slots__ = ("_tar",)

    def __init__(self, fd: int) -> None:
        self._tar = Compared(fd)
        super().__init__(self._tar)

    def file_from_tar(
        self,
        name: bytes,
        mode: int,
        uid: int,
        gid: int,
        mtime: int,
        content: Stretch,
        xattrs: Mapping[str, bytes] | None = None,
    ) -> None:
        self._begin_file(name, mode, uid, gid, mtime, content.size, xattrs)
        self._flush()
        self._written += self._tar.pass_by(content)

    def close(self) -> None:
        super().close()
        self._tar.expect_end()


class Compared:
    """A sink: each byte has to be what the file ``fd`` has next; else AnotherTarError."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0

    def write(self, data: bytes, /) -> None:
        if os.pread(self._fd, len(data), self._at) != data:
            raise AnotherTarError
        self._at += len(data)

    def pass_by(self, content: Stretch) -> int:
        """The content and its padding, which come next in the tar. Returns their size."""
        if content.fd != self._fd or content.offset != self._at:
            raise AnotherTarError
        self._at += content.size
        self.write(bytes(content.padded_size - content.size))  # others pad with anything
        return content.padded_size

    def expect_end(self) -> None:
        if os.fstat(self._fd).st_size != self._at:
            raise AnotherTarError
