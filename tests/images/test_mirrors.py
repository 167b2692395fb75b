"""Mirrors as part of the cache: seen, counted, and removed when nobody uses them."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from images.mirrors import Mirrors
from images.store import Store

KEY = "0123456789abcdef" * 2
FORK = f"{KEY}-{'f' * 16}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with two mirrors, and files that are none."""
    for key, size, name in ((KEY, 100_000, "p https://forge.example/r"), (FORK, 5_000, "a fork")):
        directory = tmp_path / "mirrors" / key / "repository"
        directory.mkdir(parents=True)
        (directory / "pack").write_bytes(os.urandom(size))
        (tmp_path / "mirrors" / f"{key}.lock").write_text(name)
    (tmp_path / "mirrors" / f"{KEY}.away-0").mkdir()
    (tmp_path / "mirrors" / ".making-x").mkdir()
    return tmp_path


def test_mirrors_are_items_of_the_cache(root: Path) -> None:
    with Store.open(root) as store:
        items = {item.id: item for item in store.cache_use.items()}
        assert set(items) == {KEY, FORK}
        assert items[KEY].description == "mirror p https://forge.example/r"
        assert 100_000 <= items[KEY].size_bytes < 130_000
        assert items[KEY].reclaimable
        assert store.cache_use.size_bytes() == sum(item.size_bytes for item in items.values())


def test_the_least_recently_used_goes_first_and_what_is_in_use_stays(root: Path) -> None:
    os.utime(root / "mirrors" / f"{KEY}.lock", (1, 1))
    with Store.open(root) as store, (root / "mirrors" / f"{KEY}.use").open("w") as use:
        fcntl.flock(use, fcntl.LOCK_SH)
        store.cache_use.trim(50_000)
        assert [item.in_use for item in store.cache_use.items() if item.id == KEY] == [True]
        fcntl.flock(use, fcntl.LOCK_UN)
        assert (root / "mirrors" / KEY).exists()
        assert store.cache_use.trim(50_000).freed_bytes >= 100_000
    assert not (root / "mirrors" / KEY).exists()
    assert not (root / "mirrors" / f"{KEY}.away-0").exists()


def test_one_that_is_written_stays(root: Path) -> None:
    with (root / "mirrors" / f"{FORK}.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert Mirrors(root).prune() >= 100_000
    assert [mirror.key for mirror in Mirrors(root).list()] == [FORK]


def test_only_what_was_not_used_for_long_goes(root: Path) -> None:
    os.utime(root / "mirrors" / f"{KEY}.lock", (1, 1))
    with Store.open(root) as store:
        store.images.prune(all_unused=False, cache=False, until=None)
        assert len(Mirrors(root).list()) == 2
        store.images.prune(all_unused=False, cache=True, until=time.time() - 60)
    assert [mirror.key for mirror in Mirrors(root).list()] == [FORK]


def test_a_store_without_mirrors_has_none(tmp_path: Path) -> None:
    assert Mirrors(tmp_path).list() == []
    assert Mirrors(tmp_path).prune() == 0
