"""Files that survive, scratch that does not, and locks: what is made durable, and that no descriptor stays open."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from core.files import (
    appearing,
    could_lock,
    fsync_directory,
    fsync_file,
    make_directory,
    names_in,
    reclaim_scratch,
    replacing,
    scratch_directory,
    storage_errors,
    try_lock,
    write_atomically,
)


def descriptors() -> list[str]:
    """What this process has open, in the order of its numbers."""
    found = []
    for name in sorted(os.listdir("/proc/self/fd"), key=int):
        try:
            found.append(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except FileNotFoundError:  # of the listing itself
            continue
    return found


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() == before


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was made durable, in order: the paths of files and directories."""
    paths: list[str] = []
    fsync = os.fsync

    def recorded(fd: int) -> None:
        paths.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", recorded)
    return paths


def test_file_and_directory_are_made_durable(tmp_path: Path, synced: list[str]) -> None:
    (tmp_path / "file").write_text("x")
    fsync_file(tmp_path / "file")
    fsync_directory(tmp_path)
    assert synced == [str(tmp_path / "file"), str(tmp_path)]
    with pytest.raises(NotADirectoryError):
        fsync_directory(tmp_path / "file")


def test_every_new_directory_has_a_name_that_lasts(tmp_path: Path, synced: list[str]) -> None:
    make_directory(tmp_path / "a" / "b" / "c", mode=0o700)
    assert stat.S_IMODE((tmp_path / "a" / "b" / "c").stat().st_mode) == 0o700
    assert sorted(synced) == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")]
    synced.clear()
    make_directory(tmp_path / "a" / "b")
    assert synced == [], "it was there"


def test_directory_is_open_to_others_as_far_as_the_mask_lets_it(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        make_directory(tmp_path / "new")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o750


def test_directory_in_the_place_of_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_directory(tmp_path / "file")


def test_file_is_whole_and_durable_before_it_has_its_name_and_the_name_after(
    tmp_path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def recorded(old: str, new: Path) -> None:
        assert Path(old).read_bytes() == b"new"
        assert stat.S_IMODE(Path(old).stat().st_mode) == 0o640
        synced.append(f"rename {new}")
        rename(old, new)

    monkeypatch.setattr(os, "rename", recorded)
    path = tmp_path / "f"
    write_atomically(path, b"new", mode=0o640)
    assert synced[1:] == [f"rename {path}", str(tmp_path)]
    assert os.path.dirname(synced[0]) == str(tmp_path)
    assert os.path.basename(synced[0]).startswith(".f.")
    assert path.read_bytes() == b"new"


def test_file_is_readable_by_all_unless_it_is_said_otherwise(tmp_path: Path) -> None:
    write_atomically(tmp_path / "f", b"x")
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o644


def test_whatever_ends_the_writing_leaves_the_old_file_alone(tmp_path: Path) -> None:
    write_atomically(tmp_path / "f", b"old")
    for end in (KeyboardInterrupt, ZeroDivisionError):
        with pytest.raises(end), replacing(tmp_path / "f") as file:
            _begin(file, end)
        assert ((tmp_path / "f").read_bytes(), os.listdir(tmp_path)) == (b"old", ["f"])


def _begin(file: BinaryIO, end: type[BaseException]) -> None:
    file.write(b"ne")
    if end is ZeroDivisionError:  # somebody else tidied up
        os.unlink(os.readlink(f"/proc/self/fd/{file.fileno()}"))
    raise end


def test_other_errors_of_the_disk_stay_what_they_are() -> None:
    with pytest.raises(OSError, match="x") as told, storage_errors("a layer"):
        raise OSError(errno.EIO, "x")
    assert told.value.errno == errno.EIO


def test_names_of_a_directory_are_those_that_it_has_now(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert names_in(fd) == []
        (tmp_path / "a").touch()
        assert names_in(fd) == ["a"]
        (tmp_path / "b").touch()
        os.lseek(fd, 1 << 20, os.SEEK_SET)
        assert sorted(names_in(fd)) == ["a", "b"]
    finally:
        os.close(fd)


def test_scratch_is_removed_with_all_that_is_in_it(tmp_path: Path) -> None:
    with scratch_directory(tmp_path, "s-") as path:
        assert path.name.startswith("s-")
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        (path / "sub").mkdir()
        (path / "sub" / "file").touch()
    assert os.listdir(tmp_path) == []
    with pytest.raises(ZeroDivisionError), scratch_directory(tmp_path, "s-"):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_scratch_of_processes_that_are_gone_is_reclaimed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "s-dead" / "sub").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "s-file").touch()
    (tmp_path / "s-link").symlink_to(tmp_path / "other")
    with scratch_directory(tmp_path, "s-") as path:
        reclaim_scratch(tmp_path, "s-")
        assert path.is_dir()
        assert sorted(os.listdir(tmp_path)) == sorted([path.name, "other", "s-file", "s-link"])


def test_scratch_that_was_reclaimed_before_it_was_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock
    seen: list[str] = []

    def late(fd: int, kind: int) -> None:
        if not seen:
            seen.append(os.readlink(f"/proc/self/fd/{fd}"))
            os.rmdir(seen[0])
        flock(fd, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    with scratch_directory(tmp_path, "s-") as path:
        assert os.listdir(tmp_path) == [path.name]
    assert len(seen) == 1


def test_lock_is_one_of_writers_or_of_many_readers(tmp_path: Path) -> None:
    with (tmp_path / "f").open("w") as one, (tmp_path / "f").open() as two, (tmp_path / "f").open() as three:
        assert could_lock(one.fileno(), fcntl.LOCK_SH)
        assert could_lock(two.fileno(), fcntl.LOCK_SH)
        assert not could_lock(three.fileno(), fcntl.LOCK_EX)
        fcntl.flock(two, fcntl.LOCK_UN)
        fcntl.flock(one, fcntl.LOCK_UN)
        assert could_lock(three.fileno(), fcntl.LOCK_EX)
        assert not could_lock(one.fileno(), fcntl.LOCK_SH)


def test_lock_file_is_the_owner_s_and_is_not_inherited(tmp_path: Path) -> None:
    fd = try_lock(tmp_path / "lock")
    assert fd is not None
    try:
        assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600
        assert not os.get_inheritable(fd)
        assert try_lock(tmp_path / "lock") is None
    finally:
        os.close(fd)


def test_lock_that_cannot_be_taken_is_an_error_and_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(fd: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="no locks"):
        try_lock(tmp_path / "lock")


_WRITES = """
import os, signal, sys
from pathlib import Path
from core.files import appearing
with appearing(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_that_appears_is_whole_or_not_there_whatever_kills_its_writer(tmp_path: Path) -> None:
    target = tmp_path / "backup.tar"
    for before in (b"", b"old"):
        if before:
            target.write_bytes(before)
        done = subprocess.run([sys.executable, "-c", _WRITES, str(target)], check=False)
        assert done.returncode == -signal.SIGKILL
        assert [path.read_bytes() for path in tmp_path.iterdir()] == ([before] if before else [])
    open_before = descriptors()
    with appearing(target) as file:
        file.write(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with pytest.raises(ZeroDivisionError), appearing(tmp_path / "other"):
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["backup.tar"]
    assert descriptors() == open_before


def test_a_file_appears_too_where_files_have_to_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def no_unnamed_files(path: str, flags: int, *more: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported", path)
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", no_unnamed_files)
    with appearing(tmp_path / "file") as file:
        file.write(b"new")
        assert [path.name.startswith(".file.") for path in tmp_path.iterdir()] == [True]
    assert (tmp_path / "file").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 1
