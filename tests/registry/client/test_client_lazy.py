"""Pulls that leave layers at the registry, and what brings them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.references import Reference
from images.archive import SavedImage, save_directory
from images.errors import MissingBlobError
from images.oci import ImageConfig, decode_manifest
from images.store import Store
from images.summary import Image
from images.verify import verify
from registry.client import Client, RegistryLayers, pull, push
from registry.errors import LayerUnavailableError
from tests.toolkit.faulty import ScriptedRegistry
from tests.toolkit.registries import DebianRegistry


@pytest.fixture
def base(plain_registry: DebianRegistry, other_store: Store, client: Client, make_image: Callable[..., Image]) -> Any:
    """A name at the registry, whose image of three layers the store does not have."""
    name = Reference.parse(f"{plain_registry.host}/lazy/base:1")
    make_image(other_store, str(name), layers=3)
    push(name, other_store, client=client)
    return name


def appended(store: Store, base: Image, name: Reference) -> Image:
    """The base with one more layer."""
    with store.layers.writer() as writer:
        writer.write(b"one more")
        diff_id = writer.commit()
    return store.images.put(ImageConfig(architecture="amd64", os="linux"), [*base.diff_ids, diff_id], names=(name,))


def test_a_lazy_pull_fetches_manifest_and_config_only(base: Reference, store: Store, client: Client) -> None:
    pulled = pull(base, store, client=client, lazy=True)
    assert store.layers.away(pulled.image.diff_ids) == list(pulled.image.diff_ids)
    assert pulled.image.size_bytes == 0
    assert len(store.database.all("SELECT digest FROM blobs")) == 2
    assert verify(store) == []
    assert not pull(base, store, client=client, lazy=True).fresh


def test_what_is_built_on_it_is_pushed_without_the_layers(
    base: Reference, store: Store, client: Client, recorder: Any
) -> None:
    target = base._replace(path="lazy/built")
    image = appended(store, pull(base, store, client=client, lazy=True).image, target)
    pushed = push(target, store, client=client, monitor=recorder)
    assert sorted(recorder.final.values()) == ["Mounted from", "Mounted from", "Mounted from", "Pushed"]
    assert len(store.layers.away(image.diff_ids)) == 3
    assert pushed.digest == push(target, store, client=client).digest


def test_layers_come_when_something_needs_them(
    base: Reference, store: Store, client: Client, recorder: Any, tmp_path: Path
) -> None:
    image = appended(store, pull(base, store, client=client, lazy=True).image, Reference.parse("app"))
    with pytest.raises(MissingBlobError) as caught:
        store.layers.open(image.diff_ids[0])
    assert f"of {base.name}" in caught.value.message
    store.layers.source = RegistryLayers(store, client)
    store.snapshots.lowers(image.diff_ids[:1])
    assert len(store.layers.away(image.diff_ids)) == 2
    save_directory(store, [SavedImage(image)], tmp_path / "layout")
    assert store.layers.away(image.diff_ids) == []
    assert verify(store) == []
    pull(base, store, client=client, monitor=recorder)
    assert recorder.final == {}


def test_a_whole_pull_completes_a_lazy_one(base: Reference, store: Store, client: Client, recorder: Any) -> None:
    pull(base, store, client=client, lazy=True)
    image = pull(base, store, client=client, monitor=recorder).image
    assert set(recorder.final.values()) == {"Pull complete"}
    assert store.layers.away(image.diff_ids) == []


def test_a_push_elsewhere_fetches_what_it_sends(base: Reference, store: Store, client: Client) -> None:
    pulled = pull(base, store, client=client, lazy=True)
    # "localhost" is another registry than "127.0.0.1" for all that a client can know.
    elsewhere = base._replace(domain=base.domain.replace("127.0.0.1", "localhost"), path="lazy/elsewhere")
    store.images.tag(elsewhere, pulled.image.id)
    assert push(elsewhere, store, client=client).digest == pulled.digest
    assert store.layers.away(pulled.image.diff_ids) == []


def test_a_push_with_another_compression_fetches_what_it_compresses(
    base: Reference, store: Store, client: Client
) -> None:
    pulled = pull(base, store, client=client, lazy=True)
    name = base._replace(path="lazy/zstd")
    store.images.tag(name, pulled.image.id)
    assert push(name, store, client=client, compression="zstd").digest != pulled.digest
    assert store.layers.away(pulled.image.diff_ids) == []


def test_a_layer_that_cannot_be_fetched_is_told_with_its_place(
    store: Store, other_store: Store, client: Client, scripted: ScriptedRegistry, make_image: Callable[..., Image]
) -> None:
    name = Reference.parse(f"{scripted.host}/gone:1")
    made = make_image(other_store, str(name), layers=1)
    document = other_store.blobs.read(made.manifest_digest)
    scripted.add_blob(other_store.blobs.read(made.id))
    scripted.add_manifest("1", document)
    image = pull(name, store, client=client, lazy=True).image
    store.layers.source = RegistryLayers(store, client)
    with pytest.raises(LayerUnavailableError) as caught:
        store.snapshots.lowers(image.diff_ids)
    blob = decode_manifest(document).layers[0].digest
    assert f"layer {image.diff_ids[0]} is needed and not here: blob {blob} of {name.name}" in caught.value.message


def test_an_image_without_its_layers_is_removed_and_pruned(base: Reference, store: Store, client: Client) -> None:
    root = store.root
    pull(base, store, client=client, lazy=True)
    store.close()
    with Store.open(root) as again:
        assert again.images.remove(str(base))[0] == f"Untagged: {base}"
    with Store.open(root) as again:
        again.images.prune(all_unused=True, cache=True)
        assert again.database.all("SELECT diff_id FROM origins") == []
        assert again.database.all("SELECT digest FROM blobs") == []
