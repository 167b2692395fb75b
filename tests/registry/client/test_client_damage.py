"""Damage in the store, and registries: it is not pushed, it is named with the way out, and a pull repairs it."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from core.references import Reference
from images.errors import DamagedBlobError
from images.store import Store
from images.summary import Image
from images.verify import verify
from registry.client import Client, pull, push
from registry.errors import NotFoundError
from tests.toolkit.damage import flip_byte
from tests.toolkit.registries import DebianRegistry

_MakeImage = Callable[..., Image]


@pytest.mark.parametrize("size", [1000, 3 << 20], ids=["one-put", "stream"])
def test_a_damaged_compressed_layer_is_refused_named_and_made_anew(
    plain_registry: DebianRegistry, store: Store, client: Client, make_image: _MakeImage, size: int
) -> None:
    name = Reference.parse(f"{plain_registry.host}/damaged/compressed-{size}:1")
    image = make_image(store, str(name), layers=1, size=size)
    packed = store.layers.compressed(image.diff_ids[0], "gzip")
    flip_byte(store.blobs.path(packed.digest))
    with pytest.raises(DamagedBlobError, match=packed.digest) as caught:
        push(name, store, client=client)
    assert "run the same command again" in (caught.value.hint or "")
    with pytest.raises(NotFoundError):
        pull(name, store, client=client)
    push(name, store, client=client)
    assert verify(store) == []


def test_a_damaged_layer_is_not_pushed(
    plain_registry: DebianRegistry, store: Store, client: Client, make_image: _MakeImage
) -> None:
    name = Reference.parse(f"{plain_registry.host}/damaged/layer:1")
    image = make_image(store, str(name), layers=2, size=3 << 20)
    flip_byte(store.layers.path(image.diff_ids[1]))
    with pytest.raises(DamagedBlobError, match=image.diff_ids[1]):
        push(name, store, client=client)
    with pytest.raises(NotFoundError):
        pull(name, store, client=client)


@pytest.mark.parametrize("of", ["config", "manifest"])
def test_a_damaged_document_is_not_pushed(
    plain_registry: DebianRegistry, store: Store, other_store: Store, client: Client, make_image: _MakeImage, of: str
) -> None:
    name = Reference.parse(f"{plain_registry.host}/damaged/{of}:1")
    make_image(other_store, str(name))
    push(name, other_store, client=client)
    image = pull(name, store, client=client).image
    digest = image.id if of == "config" else image.manifest_digest
    path = store.blobs.path(digest)
    path.write_bytes(path.read_bytes().replace(b"amd64", b"amd46").replace(b'"size":', b'"sizf":', 1))
    to = Reference.parse(f"{plain_registry.host}/damaged/{of}-again:1")
    with pytest.raises(DamagedBlobError, match=digest):
        push(to, store, client=client, image=image)


def test_a_file_without_its_end_is_not_sent_again_and_again(
    plain_registry: DebianRegistry, store: Store, client: Client, make_image: _MakeImage
) -> None:
    name = Reference.parse(f"{plain_registry.host}/damaged/short:1")
    image = make_image(store, str(name), layers=1, size=3 << 20)
    packed = store.layers.compressed(image.diff_ids[0], "gzip")
    os.truncate(store.blobs.path(packed.digest), 2 << 20)
    with pytest.raises(DamagedBlobError, match=packed.digest):
        push(name, store, client=client)


def test_a_pull_repairs_what_was_found_damaged(
    plain_registry: DebianRegistry, store: Store, other_store: Store, client: Client, make_image: _MakeImage
) -> None:
    name = Reference.parse(f"{plain_registry.host}/damaged/pulled:1")
    make_image(other_store, str(name), size=100_000)
    push(name, other_store, client=client)
    image = pull(name, store, client=client).image
    for digest in (*image.diff_ids, image.id, image.manifest_digest):
        flip_byte(store.blobs.path(digest))
    assert len(verify(store)) == 4
    pull(name, store, client=client)
    assert verify(store) == []
