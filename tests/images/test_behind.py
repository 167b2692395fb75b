"""A sink on a thread of its own."""

from __future__ import annotations

import hashlib
import io
import threading
from typing import Any

import pytest

from images.behind import Behind

MUCH = bytes(1 << 20)


class Noting(io.BytesIO):
    """Keeps the names of the threads that wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[str] = []

    def write(self, data: Any, /) -> int:
        self.threads.append(threading.current_thread().name)
        return super().write(data)


def test_everything_arrives_in_order_on_another_thread() -> None:
    sink = Noting()
    with Behind(sink) as behind:
        for number in range(1000):
            behind.write(b"%d," % number * 1000)
    assert sink.getvalue() == b"".join(b"%d," % number * 1000 for number in range(1000))
    assert sink.threads[-1] == "writer"
    assert "writer" not in {thread.name for thread in threading.enumerate()}


def test_little_is_written_without_a_thread() -> None:
    sink = Noting()
    with Behind(sink) as behind:
        for _ in range(1000):
            behind.write(b"little")
    assert sink.getvalue() == b"little" * 1000
    assert set(sink.threads) == {threading.current_thread().name}


class Broken:
    """A disk that takes the first so many writes."""

    def __init__(self, good: int) -> None:
        self.good = good
        self.calls = 0

    def write(self, data: bytes, /) -> None:
        self.calls += 1
        if self.calls > self.good:
            raise OSError("disk on fire")


@pytest.mark.parametrize("good", [0, 1])
def test_error_of_the_sink_reaches_the_writer(good: int) -> None:
    sink = Broken(good)

    def write_much() -> None:
        with Behind(sink) as behind:
            for _ in range(100):
                behind.write(MUCH)

    with pytest.raises(OSError, match="on fire"):
        write_much()
    assert sink.calls == good + 1


def test_error_of_the_writer_is_the_one_raised() -> None:
    def fail() -> None:
        with Behind(Broken(1)) as behind:
            behind.write(MUCH)
            behind.write(MUCH)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert "writer" not in {thread.name for thread in threading.enumerate()}


class Counting:
    """A sink that takes its time."""

    def __init__(self) -> None:
        self.done_bytes = 0

    def write(self, data: bytes, /) -> None:
        hashlib.sha256(data)
        self.done_bytes += len(data)


def test_writer_waits_for_a_slow_sink() -> None:
    sink = Counting()
    ahead_bytes = []
    with Behind(sink) as behind:
        for number in range(1, 101):
            behind.write(MUCH)
            ahead_bytes.append(number * len(MUCH) - sink.done_bytes)
    assert sink.done_bytes == 100 * len(MUCH)
    assert max(ahead_bytes) <= 10 << 20


def test_error_of_the_last_write_is_raised_on_leaving() -> None:
    sink = Broken(1)

    def write_two() -> None:
        with Behind(sink) as behind:
            behind.write(MUCH)
            behind.write(MUCH)

    with pytest.raises(OSError, match="on fire"):
        write_two()
    assert sink.calls == 2


def test_nothing_is_written_any_more_once_the_writer_has_failed() -> None:
    held, entered = threading.Event(), threading.Event()

    class Slow:
        written = 0

        def write(self, _data: bytes, /) -> None:
            self.written += 1
            if self.written == 2:
                entered.set()
                held.wait()

    sink = Slow()

    def fail() -> None:
        with Behind(sink) as behind:
            behind.write(MUCH)
            behind.write(MUCH)
            entered.wait()
            behind.write(MUCH)
            threading.Timer(0.05, held.set).start()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert sink.written == 2
