"""Trees as containers leave them: deeper than a path is long, with links and other names."""

from __future__ import annotations

import itertools
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from images.trees import empty_directory, remove_tree, tree_bytes, tree_usage

_DEPTH = 1500
_NAME = "d" * 40  # fifteen times as long as a path may be


def _make_deep(root: Path) -> None:
    """Directories in each other, each with a file, as a container makes them: by chdir."""
    root.mkdir()
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    for _ in range(_DEPTH):
        os.mkdir(_NAME, dir_fd=fd)
        below = os.open(_NAME, os.O_PATH | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
        os.close(os.open("empty", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.write(file := os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd), b"x" * 100_000)
    os.close(file)
    os.close(fd)


def test_tree_of_any_depth_is_counted_and_removed(tmp_path: Path) -> None:
    _make_deep(tmp_path / "tree")
    open_before = os.listdir("/proc/self/fd")
    counted = tree_bytes(str(tmp_path / "tree"))
    assert counted >= 100_000
    assert remove_tree(str(tmp_path / "tree")) >= counted
    assert list(tmp_path.iterdir()) == []
    assert os.listdir("/proc/self/fd") == open_before


def test_several_remove_the_same_at_the_same_time(tmp_path: Path) -> None:
    """Each volume that is removed has whoever removes one look for what others left."""
    for number in range(5):
        tree = tmp_path / str(number)
        for one, two, three in itertools.product("abc", repeat=3):
            (tree / one / two / three / "d" / "e").mkdir(parents=True)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _, tree=tree: remove_tree(str(tree)), range(4)))
        assert not tree.exists()


def test_removal_follows_no_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    tree = tmp_path / "tree"
    (tree / "below").mkdir(parents=True)
    (tree / "link").symlink_to(precious)
    (tree / "below" / "link").symlink_to(precious)
    fd = os.open(tree, os.O_PATH)
    empty_directory(fd)
    os.close(fd)
    assert list(tree.iterdir()) == []
    assert (precious / "file").read_text() == "kept"


def test_what_is_not_there_is_removed_and_counted_already(tmp_path: Path) -> None:
    assert remove_tree(str(tmp_path / "none")) == 0
    assert tree_bytes(str(tmp_path / "none")) == 0


def test_usage_counts_a_file_with_two_names_once(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x" * 100_000)
    (tmp_path / "below").mkdir()
    before = tree_bytes(str(tmp_path))
    (tmp_path / "below" / "two").hardlink_to(tmp_path / "one")
    (tmp_path / "link").symlink_to("/")
    assert 100_000 <= tree_bytes(str(tmp_path)) == before


def test_usage_since_a_time_leaves_out_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"x" * 100_000)
    began = time.time() + 0.05
    while time.time() < began + 0.05:
        time.sleep(0.01)
    assert tree_usage(str(tmp_path), began) == (0, 0)
    (tmp_path / "new").write_bytes(b"x" * 8192)
    (tmp_path / "empty").touch()
    used = tree_usage(str(tmp_path), began)
    assert 8192 <= used.size_bytes < 100_000
    assert used.inodes == 2
