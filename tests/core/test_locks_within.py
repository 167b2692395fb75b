"""Locks that are waited for within a bound."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

from core.files import could_lock, lock_within
from tests.toolkit.bounds import stretched


def opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def test_a_lock_that_stays_held_is_given_up(tmp_path: Path) -> None:
    holder, other = opened(tmp_path / "l"), opened(tmp_path / "l")
    assert lock_within(holder, 0.0)
    began = time.monotonic()
    assert not lock_within(other, 0.1)
    assert time.monotonic() - began >= 0.1
    os.close(holder)
    assert lock_within(other, 0.0)
    os.close(other)


def test_a_lock_that_is_let_go_is_taken(tmp_path: Path) -> None:
    holder, other = opened(tmp_path / "l"), opened(tmp_path / "l")
    assert lock_within(holder, 0.0)
    letting_go = threading.Timer(0.05, os.close, (holder,))
    letting_go.start()
    assert lock_within(other, stretched(30))
    letting_go.join()
    third = opened(tmp_path / "l")
    assert not could_lock(third, fcntl.LOCK_EX)
    os.close(other)
    os.close(third)
