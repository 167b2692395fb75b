"""A sink on a thread of its own."""

from __future__ import annotations

import io
import threading

import pytest

from images.behind import Behind


def test_everything_arrives_in_order_on_another_thread() -> None:
    sink = io.BytesIO()
    with Behind(sink) as behind:
        for number in range(1000):
            behind.write(b"%d," % number)
    assert sink.getvalue() == b"".join(b"%d," % number for number in range(1000))
    assert "writer" not in {thread.name for thread in threading.enumerate()}


class Broken:
    def __init__(self) -> None:
        self.calls = 0

    def write(self, data: bytes, /) -> None:
        self.calls += 1
        raise OSError("disk on fire")


def test_error_of_the_sink_reaches_the_writer() -> None:
    sink = Broken()

    def write_much() -> None:
        with Behind(sink) as behind:
            for _ in range(100):
                behind.write(b"x")

    with pytest.raises(OSError, match="on fire"):
        write_much()
    assert sink.calls == 1


def test_error_of_the_writer_is_the_one_raised() -> None:
    def fail() -> None:
        with Behind(Broken()) as behind:
            behind.write(b"x")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert "writer" not in {thread.name for thread in threading.enumerate()}
