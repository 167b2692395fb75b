"""Pins of containers: neither prune nor removal takes what they hold, and dropping them frees it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.digests import DiffID, Digest
from core.references import Reference
from images.database import Database
from images.errors import ImageInUseError, MissingBlobError
from images.snapshots import merged_key
from images.store import Store
from images.verify import verify
from tests.images.test_kept import here, new_image, new_layer, prune

HOLDER = "ab" * 32


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "root") as store:
        yield store


def test_what_a_container_holds_outlives_every_prune(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with Store.open(root) as store:
        held, free = new_layer(store), new_layer(store)
        image = new_image(store, held)
        store.pinned.pin(HOLDER, image.id, [held])
    prune(root)
    assert here(root, held, image.id, image.manifest_digest, free) == [True, True, True, False]
    with Store.open(root) as store:
        assert store.pinned.holders() == [HOLDER]
        assert store.pinned.holders_of(image.id) == [HOLDER]
        store.pinned.drop([HOLDER])
    prune(root)
    assert here(root, held, image.id) == [False, False]


def test_snapshots_of_pinned_layers_stay_although_no_session_leases_them(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with Store.open(root) as store:
        layer = new_layer(store)
        (mounted,) = store.snapshots.lowers([layer])
        store.pinned.pin(HOLDER, None, [layer])
    prune(root)
    with Store.open(root) as store:
        assert store.cache_use.snapshots()[0].in_use
        store.cache_use.trim(0)
        assert store.snapshots.lowers([layer]) == (mounted,)
        store.pinned.drop([HOLDER])
    prune(root)
    with Store.open(root) as store:
        assert store.cache_use.snapshots() == []


def test_the_snapshot_of_merged_layers_is_pinned_too(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with Store.open(root) as store:
        layers = [new_layer(store) for _ in range(102)]
        mounted = store.snapshots.lowers(layers)
        assert merged_key(layers) is not None
        assert merged_key(layers[:100]) is None
        store.pinned.pin(HOLDER, None, layers)
    prune(root)
    with Store.open(root) as store:
        assert store.snapshots.lowers(layers) == mounted


def test_an_image_of_a_container_is_not_removed_without_force(store: Store) -> None:
    layer = new_layer(store)
    image = new_image(store, layer, name="app")
    store.pinned.pin(HOLDER, image.id, [layer])
    with pytest.raises(ImageInUseError, match=r'reference "app:latest" \(must force\) - container abab.* is using'):
        store.images.remove("app")
    with pytest.raises(ImageInUseError, match=r"\(must be forced\) - image is being used by container abababababab"):
        store.images.remove(image.id)
    assert store.images.remove("app", force=True) == ["Untagged: app:latest"]
    assert store.images.get(image.id).names == ()  # it stays for as long as the container
    store.pinned.drop([HOLDER])
    assert f"Deleted: {image.id}" in store.images.remove(image.id)


def test_a_second_name_of_a_containers_image_may_go(store: Store) -> None:
    layer = new_layer(store)
    image = new_image(store, layer, name="app")
    store.images.tag(Reference.parse("other"), image.id)
    store.pinned.pin(HOLDER, image.id, [layer])
    assert store.images.remove("other") == ["Untagged: other:latest"]


def test_a_layer_that_is_unknown_pins_nothing(store: Store) -> None:
    layer = new_layer(store)
    absent = DiffID(Digest.of(b"nowhere"))
    with pytest.raises(MissingBlobError, match="which container abababababab needs"):
        store.pinned.pin(HOLDER, None, [layer, absent])
    assert store.pinned.holders() == []


def test_verify_tells_that_a_container_lacks_something(store: Store) -> None:
    layer = new_layer(store)
    store.pinned.pin(HOLDER, None, [layer])
    assert verify(store) == []
    with store.database.transaction() as connection:
        connection.execute("DELETE FROM layers")
        connection.execute("DELETE FROM blobs")
    assert (HOLDER, "a container needs what is not there") in [tuple(problem) for problem in verify(store)]


def test_a_store_of_schema_7_gets_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from images import database

    root = tmp_path / "old"
    with monkeypatch.context() as patched:
        patched.setattr(database, "_MIGRATIONS", database._MIGRATIONS[:7])
        patched.setattr(database, "SCHEMA_VERSION", 7)
        with Store.open(root) as store:
            layer = new_layer(store)
            image = new_image(store, layer)
            assert store.database.one("PRAGMA user_version")[0] == 7
    with Store.open(root) as store:
        store.pinned.pin(HOLDER, image.id, [layer])
        assert isinstance(store.database, Database)
        assert store.database.one("PRAGMA user_version")[0] == database.SCHEMA_VERSION
    prune(root)
    assert here(root, layer) == [True]
