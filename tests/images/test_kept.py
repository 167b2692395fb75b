"""What runs keep: no prune takes it before its time, it goes as a whole, and a kill leaves all of it or none."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from core.digests import DiffID, Digest
from core.platforms import Platform
from core.references import Reference
from core.trust import of_branch, of_fork, protected
from images.database import Database
from images.errors import MissingBlobError
from images.oci import ImageConfig
from images.rebuild import LOST, rebuild
from images.records import CacheRecord
from images.store import Store
from images.summary import Image
from images.verify import verify
from tests.images.test_damage import tar_of
from tests.toolkit.damage import flip_byte

DAY_S = 86400.0
_numbers = count(1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "root") as store:
        yield store


def new_layer(store: Store, *, sync: bool = False) -> DiffID:
    with store.layers.writer(sync=sync) as layer:
        layer.write(tar_of(1000 + next(_numbers)))
        return layer.commit()


def new_image(store: Store, *layers: DiffID, name: str = "") -> Image:
    names = (Reference.parse(name),) if name else ()
    return store.images.put(ImageConfig.for_platform(Platform.host()), layers, names=names)


def prune(root: Path) -> None:
    with Store.open(root) as store:
        store.images.prune(all_unused=True, cache=True)


def here(root: Path, *digests: str) -> list[bool]:
    return [(root / "blobs" / "sha256" / digest.removeprefix("sha256:")).exists() for digest in digests]


def test_what_a_run_keeps_survives_every_prune_and_its_session(store: Store) -> None:
    layer, other = new_layer(store), new_layer(store)
    image = new_image(store, new_layer(store))
    store.kept.keep("run 1/1", [layer], [image.id], until=time.time() + DAY_S)
    store.close()
    for _ in range(2):
        prune(store.root)
    assert here(store.root, layer, image.id, image.diff_ids[0], other) == [True, True, True, False]
    with Store.open(store.root) as later:
        found = later.kept.get("run 1/1")
        assert found is not None
        assert (found.layers, found.images) == ((layer,), (image.id,))
        assert later.layers.size(layer) > 0
        assert later.images.get(image.id) == image
        assert verify(later) == []


def test_after_its_time_it_goes_as_a_whole(store: Store) -> None:
    layers = [new_layer(store), new_layer(store)]
    image = new_image(store, new_layer(store))
    store.kept.keep("run 1/1", layers, [image.id], until=time.time() - 1)
    store.kept.keep("run 2/1", layers[:1], until=time.time() + DAY_S)
    store.close()
    prune(store.root)
    assert here(store.root, *layers, image.id) == [True, False, False]
    with Store.open(store.root) as later:
        assert later.kept.names() == ["run 2/1"]
        assert later.kept.get("run 1/1") is None
        assert later.database.all("SELECT DISTINCT name FROM kept_objects") == [("run 2/1",)]
        assert verify(later) == []


def test_its_time_gets_shorter_and_never_longer(store: Store) -> None:
    now = time.time()
    store.kept.keep("run 1/1", [new_layer(store)], until=now + DAY_S)
    store.kept.shorten(["run 1/1", "run 1/2"], now + 60)
    store.kept.shorten(["run 1/1"], now + 2 * DAY_S)
    found = store.kept.get("run 1/1")
    assert found is not None
    assert found.until == now + 60
    assert store.kept.names("run 1") == ["run 1/1"]


def test_keeping_again_replaces_all_of_it(store: Store) -> None:
    first, second = new_layer(store), new_layer(store)
    store.kept.keep("run 1/1", [first], until=time.time() + DAY_S)
    store.kept.keep("run 1/1", [second, second], until=time.time() + DAY_S)
    store.close()
    prune(store.root)
    assert here(store.root, first, second) == [False, True]


def test_what_is_dropped_is_garbage_unless_something_else_has_it(store: Store) -> None:
    layer, shared = new_layer(store), new_layer(store)
    store.cache.put(CacheRecord("key", "op", shared, 1.0, 0.1, "RUN"))
    store.kept.keep("run 1/1", [layer, shared], until=time.time() + DAY_S)
    store.kept.drop(["run 1/1", "run 9/9"])
    store.close()
    with Store.open(store.root) as later:
        later.images.prune(all_unused=True, cache=False)
    assert here(store.root, layer, shared) == [False, True]


def test_what_is_not_there_cannot_be_kept_and_what_was_kept_stays(store: Store) -> None:
    layer = new_layer(store)
    store.kept.keep("run 1/1", [layer], until=1.0)
    absent = DiffID(Digest.of(b"absent"))
    with pytest.raises(MissingBlobError, match="run 1/1 is to keep, is not in the store"):
        store.kept.keep("run 1/1", [layer, absent], until=2.0)
    with pytest.raises(MissingBlobError):
        store.kept.keep("run 1/1", [], [Digest.of(b"absent")], until=2.0)
    found = store.kept.get("run 1/1")
    assert found is not None
    assert found.until == 1.0


def test_a_kept_image_loses_its_names_to_its_remover_and_nothing_else(store: Store) -> None:
    image = new_image(store, new_layer(store), name="app")
    store.kept.keep("run 1/1", [], [image.id], until=time.time() + DAY_S)
    store.close()
    with Store.open(store.root) as later:
        later.images.remove("app")
        assert [each.names for each in later.images.list()] == [()]
    prune(store.root)
    assert here(store.root, image.id, *image.diff_ids) == [True, True]


def test_trimming_the_cache_leaves_what_a_run_keeps(store: Store) -> None:
    layer = new_layer(store)
    store.cache.put(CacheRecord("key", "op", layer, 1.0, 0.1, "RUN"))
    store.kept.keep("run 1/1", [layer], until=time.time() + DAY_S)
    store.close()
    with Store.open(store.root) as later:
        (item,) = later.cache_use.items()
        assert item.shared
        assert later.cache_use.size_bytes() == 0
        later.cache_use.remove([item])
        assert later.kept.get("run 1/1") is not None
    assert here(store.root, layer) == [True]


def test_what_is_kept_is_here_for_whoever_names_its_row(store: Store) -> None:
    """Which rows are a run's own is known where its name comes from."""
    store.act_for(of_branch("p", "b"))
    layer = new_layer(store)
    store.kept.keep("run 1/1", [layer], until=time.time() + DAY_S)
    store.close()
    for domain in (protected("p"), of_fork("p", 3)):
        with Store.open(store.root) as later:
            later.act_for(domain)
            assert not later.layers.has(layer)
            assert later.kept.get("run 1/1") is not None
            assert later.layers.has(layer)


def test_a_row_with_a_damaged_layer_is_lost_as_a_whole(store: Store) -> None:
    layers = [new_layer(store), new_layer(store)]
    store.kept.keep("run 1/1", layers, until=time.time() + DAY_S)
    flip_byte(store.layers.path(layers[1]), 10)
    assert verify(store) != []
    assert store.kept.get("run 1/1") is None


def test_a_reboot_takes_nothing_that_is_kept(store: Store) -> None:
    kept, other = new_layer(store, sync=False), new_layer(store, sync=False)
    store.kept.keep("run 1/1", [kept], until=time.time() + DAY_S)
    with store.database.transaction() as connection:
        connection.execute("UPDATE meta SET value = 'another boot' WHERE key = 'boot_id'")
    store.close()
    with Store.open(store.root) as later:
        assert later.kept.get("run 1/1") is not None
        assert not later.layers.has(other)
        assert verify(later) == []


def test_a_store_of_an_earlier_version_gets_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from images import database

    root = tmp_path / "old"
    with monkeypatch.context() as patched:
        patched.setattr(database, "_MIGRATIONS", database._MIGRATIONS[:6])
        patched.setattr(database, "SCHEMA_VERSION", 6)
        with Store.open(root) as store:
            image = new_image(store, new_layer(store), name="app")
    with Store.open(root) as store:
        layer = new_layer(store)
        store.kept.keep("run 1/1", [layer], until=time.time() + DAY_S)
        assert store.images.get(image.id) == image
        assert verify(store) == []
        assert Database(root / "store.db").one("PRAGMA user_version")[0] == database.SCHEMA_VERSION
    prune(root)
    assert here(root, layer) == [True]


def test_a_rebuild_says_that_rows_of_runs_are_lost(store: Store) -> None:
    store.kept.keep("run 1/1", [new_layer(store)], until=time.time() + DAY_S)
    store.close()
    for path in store.root.glob("store.db*"):
        path.unlink()
    assert rebuild(store.root).anew
    assert any("outputs of jobs" in line for line in LOST)
    with Store.open(store.root) as later:
        assert later.kept.names() == []
        assert verify(later) == []
    prune(store.root)
    with Store.open(store.root) as later:
        assert verify(later) == []


_KEEPING = """
import sys, time
from pathlib import Path
from images.store import Store
from tests.images.test_kept import new_image, new_layer
seed = int(sys.argv[2])
with Store.open(Path(sys.argv[1])) as store:
    from tests.images import test_kept
    test_kept._numbers = iter(range(seed * 1000, seed * 1000 + 999))
    for number in range(200):
        layers = [new_layer(store), new_layer(store)]
        image = new_image(store, layers[0])
        store.kept.keep(f"run {seed}/{number % 7}", layers, [image.id], until=time.time() + 86400)
        print(number, flush=True)
        if number % 3 == 2:
            store.kept.drop([f"run {seed}/{(number + 1) % 7}"])
"""


def test_a_kill_anywhere_leaves_rows_whose_content_is_there(tmp_path: Path) -> None:
    root, chance = tmp_path / "root", random.Random(7)
    Store.open(root).close()
    for seed in range(1, 7):
        command = [sys.executable, "-c", _KEEPING, str(root), str(seed)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.random() * 0.3)
            process.send_signal(signal.SIGKILL)
        prune(root)
        with Store.open(root) as store:
            assert verify(store) == []
            names = store.kept.names(f"run {seed}/")
            assert names
            assert all(store.kept.get(name) is not None for name in names)
