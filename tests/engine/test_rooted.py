"""Paths of a job's file system: links and dots in it lead nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine import rooted


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A file system with links that would lead out of it, beside something to be found there."""
    (tmp_path / "outside").mkdir()
    within = tmp_path / "root"
    (within / "etc").mkdir(parents=True)
    (within / "file").touch()
    (within / "up").symlink_to("../outside")
    (within / "absolute").symlink_to("/etc")
    (within / "nothing").symlink_to("/there/is/none")
    return str(within)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/etc", True), ("/absolute", True), ("/../../etc", True), ("/file", True), ("/", True),
        ("/up", False), ("/absolute/passwd", False), ("/../outside", False), ("/nothing", False), ("/file/x", False),
    ],
)  # fmt: skip
def test_what_is_there_is_below_the_root(root: str, path: str, found: bool) -> None:
    assert rooted.is_there(root, path) is found


@pytest.mark.parametrize(
    ("path", "made"), [("/a/b", "a/b"), ("/absolute/x", "etc/x"), ("/etc/../new", "new"), ("/../../top", "top")]
)
def test_what_is_made_is_below_the_root(root: str, path: str, made: str) -> None:
    rooted.make_directory(root, path)
    rooted.make_directory(root, path)
    assert os.path.isdir(f"{root}/{made}")
    assert os.listdir(f"{root}/../outside") == []


@pytest.mark.parametrize("path", ["/file", "/file/x", "/nothing", "/up/x"])
def test_where_something_else_is_nothing_is_made(root: str, path: str) -> None:
    with pytest.raises(OSError, match="Not a directory"):
        rooted.make_directory(root, path)
    assert sorted(os.listdir(f"{root}/..")) == ["outside", "root"]
