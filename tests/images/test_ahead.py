"""A stream that is received on a thread of its own."""

from __future__ import annotations

import io
import os
import threading

import pytest

from images.ahead import Ahead

CONTENT = os.urandom(9 << 20)  # more than may wait


class Breaking(io.BytesIO):
    """Breaks off after some bytes."""

    def __init__(self, data: bytes, after: int) -> None:
        super().__init__(data)
        self._after = after

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= self._after:
            raise OSError("the line is dead")
        return super().read(size)


def _read(ahead: Ahead, size: int) -> bytes:
    pieces = []
    while piece := ahead.read(size):
        assert len(piece) <= size
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("size", [100_003, 1 << 20])
def test_all_comes_in_order_and_is_copied_by_the_end(size: int) -> None:
    copy = io.BytesIO()
    with Ahead(io.BytesIO(CONTENT), copy) as ahead:
        assert _read(ahead, size) == CONTENT
        assert copy.getvalue() == CONTENT
        assert ahead.read(1) == b""


def test_what_breaks_is_told_after_what_came_before() -> None:
    with Ahead(Breaking(CONTENT, 3 << 20), None) as ahead:
        assert b"".join(ahead.read(1 << 18) for _ in range(12)) == CONTENT[: 3 << 20]
        with pytest.raises(OSError, match="the line is dead"):
            ahead.read(1)


def test_whoever_leaves_early_leaves_no_thread_behind() -> None:
    stream = io.BytesIO(CONTENT)
    with Ahead(stream, None) as ahead:
        ahead.read(1)
    assert "receiver" not in {thread.name for thread in threading.enumerate()}
    assert stream.tell() < len(CONTENT), "no more than may wait was read"
