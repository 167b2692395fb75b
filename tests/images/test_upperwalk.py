"""What an upper directory says of one name: whether it is gone, what it carries, and what is said where that fails."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.errors import LayerSourceError
from images.upperwalk import attribute_names, is_opaque, is_whiteout, lower_directory, open_file, unreadable


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    before = len(os.listdir("/proc/self/fd"))
    yield fd
    assert len(os.listdir("/proc/self/fd")) == before, "nothing stays open"
    os.close(fd)


def whiteout(name: bytes, folder: int) -> bool:
    return is_whiteout(os.stat(name, dir_fd=folder, follow_symlinks=False), name, folder)


def test_file_system_without_attributes_has_none(folder: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(number: int) -> list[str]:
        def listed(fd: int) -> list[str]:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "listxattr", listed)
        return attribute_names(folder, b"a/b")

    assert refused(errno.ENOTSUP) == []
    with pytest.raises(LayerSourceError, match="cannot put 'a/b' into a layer: Input/output error"):
        refused(errno.EIO)


def test_attributes_are_those_of_the_file(folder: int, tmp_path: Path) -> None:
    os.setxattr(tmp_path, "user.key", b"x")
    assert "user.key" in attribute_names(folder, b"")
    assert not is_opaque(folder, attribute_names(folder, b""))
    os.setxattr(tmp_path, "user.overlay.opaque", b"n")
    assert not is_opaque(folder, attribute_names(folder, b""))
    os.setxattr(tmp_path, "user.overlay.opaque", b"y")
    assert is_opaque(folder, attribute_names(folder, b""))


def test_name_is_gone_where_overlayfs_says_so(folder: int, tmp_path: Path) -> None:
    os.mknod(tmp_path / "device", stat.S_IFCHR | 0o600, os.makedev(0, 0))
    os.mknod(tmp_path / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    (tmp_path / "marked").touch()
    os.setxattr(tmp_path / "marked", "user.overlay.whiteout", b"")
    (tmp_path / "empty").touch()
    (tmp_path / "full").write_text("x")
    os.setxattr(tmp_path / "full", "user.overlay.whiteout", b"")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("marked")
    found = {os.fsdecode(name): whiteout(name, folder) for name in map(os.fsencode, sorted(os.listdir(tmp_path)))}
    assert found == {
        "device": True, "directory": False, "empty": False, "full": False, "link": False, "marked": True, "null": False,
    }  # fmt: skip


def test_directory_below_is_one_or_none(folder: int, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "f").touch()
    (tmp_path / "l").symlink_to("d")
    assert lower_directory(b"d", None) is None
    assert [lower_directory(name, folder) for name in (b"f", b"l", b"none")] == [None, None, None]
    fd = lower_directory(b"d", folder)
    assert fd is not None
    assert os.path.samestat(os.fstat(fd), (tmp_path / "d").stat())
    os.close(fd)
    with pytest.raises(OSError, match="File name too long"):
        lower_directory(b"n" * 300, folder)


def test_file_is_read_whoever_owns_it(folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_text("x")
    real, flags = os.open, []

    def opened(name: bytes, how: int, *, dir_fd: int | None = None) -> int:
        flags.append(bool(how & os.O_NOATIME))
        if how & os.O_NOATIME:
            raise PermissionError
        return real(name, how, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", opened)
    fd = open_file(b"f", folder)
    assert (os.read(fd, 9), flags) == (b"x", [True, False])
    os.close(fd)


def test_what_cannot_be_read_is_named() -> None:
    error = unreadable(b"a/\xff", OSError(errno.EACCES, "Permission denied"))
    assert error.message == r"cannot put 'a/\udcff' into a layer: Permission denied"
