"""What the cache takes: the sum is that of the items, and finding out that it is small enough is no work."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from core.digests import DiffID
from core.settings import CacheMax
from images import cacheuse
from images.cacheuse import CacheUse
from images.oci import ImageConfig
from images.records import CacheRecord
from images.store import Store


def layer(store: Store, content: bytes) -> DiffID:
    with store.layers.writer() as writer:
        writer.write(content)
        return writer.commit()


def remember(store: Store, key: str, diff_id: DiffID | None) -> None:
    store.cache.put(CacheRecord(key, "op", diff_id, 1.0, 0.5, f"RUN {key}"))


def snapshot(store: Store, kind: str, diff_id: DiffID | None, size_bytes: int) -> Path:
    """A snapshot's directory and row, as ``Snapshots`` leaves them, with one file."""
    upper = store.snapshots.new_upper()
    file = Path(upper.path, "index" if kind == "erofs" else "fs/file")
    file.write_bytes(bytes(size_bytes))
    with store.database.transaction() as connection:
        row = (upper.path, diff_id, kind, os.path.basename(upper.path))
        connection.execute("INSERT INTO snapshots VALUES (?, ?, ?, ?, 1.0)", row)
    return file


def fill(store: Store) -> None:
    """One of everything that the cache can have."""
    own, shared, twice = (layer(store, bytes([number]) * 5000) for number in (1, 2, 3))
    for key, diff_id in (("own", own), ("shared", shared), ("a", twice), ("b", twice), ("none", None)):
        remember(store, key, diff_id)
    store.layers.compressed(own, "gzip")
    store.images.put(ImageConfig(architecture="amd64", os="linux"), [shared])
    layer(store, b"of no step" * 1000)
    for kind, diff_id in (("upper", own), ("upper", own), ("tree", shared), ("erofs", twice), ("flat", None)):
        snapshot(store, kind, diff_id, 9000)

    def create(path: str) -> None:
        Path(path, "file").write_bytes(bytes(9000))

    with store.cache_mounts.use("mount", "shared", create, lambda: False):
        pass


def test_size_is_that_of_what_no_image_shares_and_of_snapshots(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        fill(store)
        use = store.cache_use
        own = [item.size_bytes for item in use.items() if not item.shared]
        derived = [snapshot.size_bytes for snapshot in use.snapshots()]
        assert len(own) == 3
        assert len(derived) == 5
        assert use.size_bytes() == sum(own) + sum(derived)
        assert use.size_bytes(roughly=True) == use.size_bytes()
    with Store.open(tmp_path) as store:
        size = store.cache_use.size_bytes()
        assert store.cache_use.trim(size).freed_bytes == 0
        assert store.cache_use.trim(size - 1).freed_bytes > 0
        assert store.cache_use.size_bytes() < size


def test_an_empty_cache_takes_nothing(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        assert store.cache_use.size_bytes() == 0


def statements(store: Store, act: Callable[[], object]) -> list[str]:
    """What ``act`` asks the database."""
    asked: list[str] = []
    connection = store.database._connection
    connection.set_trace_callback(asked.append)
    act()
    connection.set_trace_callback(None)
    return asked


def test_a_disk_with_less_on_it_than_the_limit_needs_no_look_at_the_cache(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        fill(store)
        disk = os.statvfs(tmp_path)
        whole = CacheMax(disk.f_blocks * disk.f_frsize)
        assert statements(store, lambda: store.cache_use.keep_below(whole)) == []
        assert statements(store, lambda: store.cache_use.keep_below(CacheMax(percent=100))) == []
        assert statements(store, lambda: store.cache_use.keep_below(CacheMax(1))) != []


@pytest.mark.parametrize("records", [1, 50])
def test_a_cache_below_its_limit_is_summed_up_and_not_listed(
    tmp_path: Path, records: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path) as store:
        for number in range(records):
            diff_id = layer(store, b"%d" % number * 1000)
            remember(store, str(number), diff_id)
            snapshot(store, "upper", diff_id, 1)

        def listed(*_: object, **__: object) -> None:
            raise AssertionError("was listed")

        monkeypatch.setattr(CacheUse, "items", listed)
        monkeypatch.setattr(CacheUse, "snapshots", listed)
        assert len(statements(store, lambda: store.cache_use.trim(1 << 40))) == 3


def test_a_snapshot_is_measured_once_file_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def counting(path: str) -> int:
        measured.append(path)
        return 7

    monkeypatch.setattr(cacheuse, "tree_bytes", counting)
    with Store.open(tmp_path) as store:
        snapshot(store, "flat", None, 1)
        assert store.cache_use.size_bytes() == 7
    with Store.open(tmp_path) as store:
        assert store.cache_use.size_bytes() == 7
        assert [snapshot.size_bytes for snapshot in store.cache_use.snapshots()] == [7]
    assert len(measured) == 1
