"""Locks of open file descriptions: asked about without being taken, shared by readers, gone with their holder."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from core import ofdlocks


def test_who_asks_takes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder, asker, other = (os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(3))
    assert not ofdlocks.is_file_locked(str(path))
    assert ofdlocks.try_lock(holder)
    assert ofdlocks.is_locked(asker)
    assert ofdlocks.is_file_locked(str(path))
    assert not ofdlocks.is_locked(holder)  # one's own is none
    assert not ofdlocks.try_lock(asker)
    assert not ofdlocks.is_locked(other, at=1)
    os.close(holder)
    assert not ofdlocks.is_locked(asker)
    assert ofdlocks.try_lock(other)
    for fd in (asker, other):
        os.close(fd)


def test_bytes_are_locked_apart_and_readers_share(tmp_path: Path) -> None:
    one, other = (os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    assert ofdlocks.try_lock(one, 7)
    assert ofdlocks.try_lock(other, 8)
    assert not ofdlocks.share_lock(other, 7)
    assert ofdlocks.share_lock(one, 7)
    assert ofdlocks.share_lock(other, 7)
    assert not ofdlocks.try_lock(other, 7)
    os.close(one)
    assert ofdlocks.try_lock(other, 7)
    os.close(other)


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    held, holds = os.pipe()
    pid = os.fork()
    if pid == 0:
        ofdlocks.try_lock(os.open(path, os.O_RDWR | os.O_CREAT))
        os.write(holds, b"1")
        signal.pause()
    os.read(held, 1)
    assert ofdlocks.is_file_locked(path)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert not ofdlocks.is_file_locked(path)
    os.close(held)
    os.close(holds)


def test_a_file_that_is_not_there_is_not_locked(tmp_path: Path) -> None:
    assert not ofdlocks.is_file_locked(str(tmp_path / "nothing"))
