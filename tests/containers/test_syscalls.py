"""Wrappers of system calls that do more than call."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from pathlib import Path

import pytest

from containers import syscalls
from containers.mounts import RESOLVE_IN_ROOT
from core import kernel

_WALKS = 20_000


def test_walk_that_others_renames_disturb_comes_to_its_end(tmp_path: Path) -> None:
    """Each rename on the host makes the kernel give up a walk through ``..`` that it cannot prove to stay inside."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "up").symlink_to("../../../../../../etc")
    (tmp_path / "one").mkdir()
    over = threading.Event()

    def rename() -> None:
        while not over.is_set():
            os.rename(tmp_path / "one", tmp_path / "two")
            os.rename(tmp_path / "two", tmp_path / "one")

    renaming = threading.Thread(target=rename)
    renaming.start()
    root = os.open(tmp_path, os.O_PATH)
    try:
        for _ in range(_WALKS):
            os.close(syscalls.openat2(root, "up", os.O_PATH, resolve=RESOLVE_IN_ROOT))
    finally:
        os.close(root)
        over.set()
        renaming.join()


class _Disturbed:
    """A C library whose every walk a rename disturbs, as a file system of somebody's own can have it."""

    walks = 0

    def syscall(self, *_arguments: object) -> int:
        self.walks += 1
        ctypes.set_errno(errno.EAGAIN)
        return -1


def test_walk_that_is_disturbed_for_ever_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, opened in ((syscalls, syscalls.openat2), (kernel, kernel.openat2)):
        libc = _Disturbed()
        monkeypatch.setattr(module, "_libc", libc)
        with pytest.raises(BlockingIOError):
            opened(-1, str(tmp_path), os.O_PATH, resolve=RESOLVE_IN_ROOT)
        assert libc.walks > 1000
