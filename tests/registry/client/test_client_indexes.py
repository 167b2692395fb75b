"""Whole indexes between the store and a registry, byte for byte, with their attestations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.digests import Digest
from core.platforms import Platform
from core.references import Reference
from images.errors import ImageNotFoundError, MissingBlobError
from images.oci import OCI_INDEX, Index, decode_manifest
from images.packing import pack
from images.store import Store
from images.summary import Image
from images.verify import verify
from registry.client import Client, pull, push
from registry.errors import UnsupportedContentError
from tests.toolkit.faulty import relay
from tests.toolkit.foreign import run_tool
from tests.toolkit.registries import DebianRegistry

ARM = Platform.parse("linux/arm64/v8")


def raw(name: str) -> bytes:
    return run_tool("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}").encode()


@pytest.fixture(scope="module")
def multi(plain_registry: DebianRegistry, oci_layout: Path) -> Reference:
    """An index with amd64, arm64 and an attestation, as skopeo has pushed it."""
    name = f"{plain_registry.host}/indexes/multi:1"
    run_tool("skopeo", "copy", "-q", "--all", "--dest-tls-verify=false", f"oci:{oci_layout}:multi", f"docker://{name}")
    return Reference.parse(name)


def test_an_index_comes_and_goes_whole(multi: Reference, store: Store, other_store: Store, client: Client) -> None:
    pulled = pull(multi, store, client=client, platform="all")
    index = store.images.indexes.find(str(multi))
    assert index is not None
    assert index.data == raw(str(multi))
    assert [entry.image is None for entry in index.entries] == [True, False, False]
    assert pulled.digest == index.digest
    assert pulled.image == store.images.resolve(str(multi))
    assert verify(store) == []

    copy = multi._replace(path="indexes/copy", tag="2")
    store.images.tag(copy, index.digest)
    assert push(copy, store, client=client).digest == index.digest
    assert raw(str(copy)) == index.data
    again = pull(copy, other_store, client=client, platform="all")
    assert again.digest == index.digest
    assert verify(other_store) == []
    assert not pull(copy, other_store, client=client, platform="all").fresh


def test_one_platform_of_an_index_is_pushed_with_its_digest(multi: Reference, store: Store, client: Client) -> None:
    pull(multi, store, client=client, platform="all")
    name = multi._replace(path="indexes/arm")
    index = store.images.indexes.find(str(multi))
    assert index is not None
    pushed = push(name, store, client=client, image=index, platform=ARM)
    assert pushed.digest == index.document.manifests[2].digest
    assert json.loads(raw(str(name)))["config"]["digest"] == store.images.resolve(str(multi), ARM).id
    with pytest.raises(ImageNotFoundError):
        push(name, store, client=client, image=index, platform=Platform.parse("linux/s390x"))
    with pytest.raises(UnsupportedContentError):
        push(name, store, client=client, image=index, compression="zstd")


def test_what_an_attestation_lacks_here_and_there_is_named(
    multi: Reference, plain_registry: DebianRegistry, store: Store, client: Client
) -> None:
    """It is no layer of an image: nobody has ever noted where else it may be."""
    pull(multi, store, client=client, platform="all")
    index = store.images.indexes.find(str(multi))
    assert index is not None
    lost = decode_manifest(store.blobs.read(index.entries[0].descriptor.digest)).layers[0].digest
    with store.database.transaction() as connection:
        connection.execute("DELETE FROM blobs WHERE digest = ?", (lost,))
    with Store.open(store.root) as later, relay(plain_registry.host) as elsewhere:
        name = Reference.parse(f"{elsewhere.host}/indexes/lacking:1")
        with pytest.raises(MissingBlobError, match=f"{lost}, which the manifest names, is neither here nor at"):
            push(name, later, client=client, image=index)


def test_an_index_of_images_built_here_is_pushed(
    plain_registry: DebianRegistry, store: Store, client: Client, make_image: Callable[..., Image]
) -> None:
    name = Reference.parse(f"{plain_registry.host}/indexes/built:1")
    described = [pack(store, make_image(store, f"built-{number}"), "zstd") for number in range(2)]
    index = store.images.indexes.put(
        Index(schema_version=2, media_type=OCI_INDEX, manifests=tuple(described)), names=(name,)
    )
    assert push(name, store, client=client).digest == index.digest
    assert raw(str(name)) == index.data
    assert client is not None


def test_what_was_pushed_or_pulled_resolves_by_its_digest(
    multi: Reference,
    plain_registry: DebianRegistry,
    store: Store,
    client: Client,
    make_image: Callable[..., Image],
) -> None:
    name = Reference.parse(f"{plain_registry.host}/indexes/digest:1")
    image = make_image(store, str(name))
    pushed = push(name, store, client=client)
    assert pushed.digest != image.manifest_digest
    assert store.images.resolve(f"{name.name}@{pushed.digest}").id == image.id
    assert push(name, store, client=client).digest == pushed.digest
    pulled = pull(multi, store, client=client)
    assert store.images.resolve(f"{multi.name}@{pulled.digest}").id == pulled.image.id
    assert {str(found.digest) for found in store.images.digests(pulled.image.id)} >= {pulled.digest}
    with pytest.raises(ImageNotFoundError):
        store.images.resolve(f"{multi.name}@{Digest.of(b'another')}")


def test_pulling_one_platform_moves_the_name_away_from_the_index(
    multi: Reference, store: Store, client: Client, recorder: Any
) -> None:
    pull(multi, store, client=client, platform="all")
    pull(multi, store, client=client, platform=ARM, monitor=recorder)
    assert set(recorder.final.values()) == {"Already exists"}
    assert store.images.indexes.find(str(multi)) is None
    assert store.images.resolve(str(multi)).config.platform == Platform.parse("linux/arm64")
