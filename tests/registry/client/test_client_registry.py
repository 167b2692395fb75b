"""Pull and push against Debian's docker-registry, with skopeo as the witness."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.platforms import Platform
from core.references import Reference
from images.errors import ImageNotFoundError
from images.oci import DOCKER_MANIFEST, decode_manifest
from images.store import Store
from images.summary import Image
from images.verify import verify
from registry.client import Client, pull, push
from registry.errors import NotFoundError, PlatformNotFoundError, UnreachableError
from tests.toolkit.foreign import run_tool
from tests.toolkit.ports import free_port
from tests.toolkit.registries import DebianRegistry

_MakeImage = Callable[..., Image]


def inspected(name: str) -> Any:
    return json.loads(run_tool("skopeo", "inspect", "--tls-verify=false", f"docker://{name}"))


def raw_manifest(name: str) -> bytes:
    return run_tool("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}").encode()


def test_pushed_image_has_the_digest_and_layers_that_skopeo_sees(
    plain_registry: DebianRegistry, store: Store, client: Client, make_image: _MakeImage
) -> None:
    name = f"{plain_registry.host}/seen/by-skopeo:1"
    image = make_image(store, name, layers=3)
    pushed = push(Reference.parse(name), store, client=client)
    seen = inspected(name)
    assert seen["Digest"] == pushed.digest
    assert seen["Layers"] == [store.layers.compressed(diff_id, "gzip").digest for diff_id in image.diff_ids]


def test_pulled_image_has_the_same_id_and_digest_everywhere(
    plain_registry: DebianRegistry, store: Store, other_store: Store, client: Client, make_image: _MakeImage
) -> None:
    name = f"{plain_registry.host}/round/trip:1"
    image = make_image(store, name)
    pushed = push(Reference.parse(name), store, client=client)
    pulled = pull(Reference.parse(name), other_store, client=client)
    assert pulled.fresh
    assert (pulled.digest, pulled.image.id) == (pushed.digest, image.id)
    assert pulled.image.manifest_digest == pushed.digest
    assert other_store.images.resolve(f"{plain_registry.host}/round/trip@{pushed.digest}").id == image.id
    assert verify(other_store) == []


def test_second_pull_asks_for_the_digest_only(
    plain_registry: DebianRegistry, store: Store, client: Client, make_image: _MakeImage, recorder: Any
) -> None:
    name = Reference.parse(f"{plain_registry.host}/again:1")
    make_image(store, str(name))
    push(name, store, client=client)
    assert pull(name, store, client=client).fresh
    assert not pull(name, store, client=client, monitor=recorder).fresh
    assert recorder.layers == []


def test_layers_that_are_here_are_not_fetched(
    plain_registry: DebianRegistry,
    store: Store,
    other_store: Store,
    client: Client,
    make_image: _MakeImage,
    recorder: Any,
) -> None:
    name = Reference.parse(f"{plain_registry.host}/partly:1")
    make_image(store, str(name), layers=3, seed="partly")
    push(name, store, client=client)
    make_image(other_store, "base", layers=2, seed="partly")  # its first two layers
    pull(name, other_store, client=client, monitor=recorder)
    # That a blob of the registry is one of them, the registry says: they come once, and are compared.
    assert set(recorder.final.values()) == {"Pull complete"}
    other = Reference.parse(f"{plain_registry.host}/partly:2")
    push(other, store, client=client, image=store.images.resolve(str(name)))
    other_store.images.remove(str(name))
    recorder.layers.clear()
    pull(other, other_store, client=client, monitor=recorder)
    assert set(recorder.final.values()) == {"Already exists"}


def test_second_push_sends_nothing_and_another_repository_mounts(
    plain_registry: DebianRegistry, store: Store, client: Client, make_image: _MakeImage, recorder: Any
) -> None:
    first = Reference.parse(f"{plain_registry.host}/mount/source:1")
    second = Reference.parse(f"{plain_registry.host}/mount/target:1")
    image = make_image(store, str(first))
    store.images.tag(second, image.id)
    digest = push(first, store, client=client).digest
    assert push(first, store, client=client, monitor=recorder).digest == digest
    assert set(recorder.final.values()) == {"Layer already exists"}
    assert push(second, store, client=client, monitor=recorder).digest == digest
    assert set(recorder.final.values()) == {"Mounted from"}
    assert {progress.detail for progress in recorder.layers if progress.state == "Mounted from"} == {"mount/source"}
    assert inspected(str(second))["Digest"] == digest


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("gzip", ["--dest-compress-format", "gzip"]),
        ("zstd", ["--dest-compress-format", "zstd", "--format", "oci"]),
        ("docker", ["--format", "v2s2"]),
        ("uncompressed", ["--preserve-digests"]),
    ],
)
def test_image_of_skopeo_keeps_its_manifest_from_pull_to_push(
    kind: str, options: list[str], plain_registry: DebianRegistry, store: Store, client: Client, oci_layout: Path
) -> None:
    name = f"{plain_registry.host}/skopeo/{kind}:1"
    run_tool("skopeo", "copy", "--dest-tls-verify=false", *options, f"oci:{oci_layout}:one", f"docker://{name}")
    pulled = pull(Reference.parse(name), store, client=client)
    original = raw_manifest(name)
    assert store.blobs.read(pulled.image.manifest_digest) == original
    if kind == "docker":
        assert decode_manifest(original).media_type == DOCKER_MANIFEST
    copy = f"{plain_registry.host}/copies/{kind}:1"
    store.images.tag(Reference.parse(copy), pulled.image.id)
    assert push(Reference.parse(copy), store, client=client).digest == pulled.digest
    assert raw_manifest(copy) == original
    assert verify(store) == []


def test_zstd_push_is_read_by_skopeo(
    plain_registry: DebianRegistry, store: Store, client: Client, make_image: _MakeImage, tmp_path: Path
) -> None:
    name = f"{plain_registry.host}/zstd:1"
    make_image(store, name)
    push(Reference.parse(name), store, client=client, compression="zstd")
    assert all(layer["MIMEType"].endswith("+zstd") for layer in inspected(name)["LayersData"])
    run_tool("skopeo", "copy", "--src-tls-verify=false", f"docker://{name}", f"oci:{tmp_path / 'copy'}:x")


def test_platform_chooses_from_an_index_and_attestations_are_no_choice(
    plain_registry: DebianRegistry, store: Store, client: Client, oci_layout: Path
) -> None:
    name = f"{plain_registry.host}/multi:1"
    run_tool("skopeo", "copy", "--all", "--dest-tls-verify=false", f"oci:{oci_layout}:multi", f"docker://{name}")
    index = json.loads(raw_manifest(name))
    by_platform = {
        "/".join(filter(None, (entry["platform"]["os"], entry["platform"]["architecture"]))): entry["digest"]
        for entry in index["manifests"]
    }
    for text in ("linux/arm64", "linux/amd64"):
        pulled = pull(Reference.parse(name), store, client=client, platform=Platform.parse(text))
        assert pulled.image.manifest_digest == by_platform[text]
        assert str(pulled.image.config.platform) == text
        assert pulled.digest == inspected(name)["Digest"]
    with pytest.raises(PlatformNotFoundError) as caught:
        pull(Reference.parse(name), store, client=client, platform=Platform.parse("linux/s390x"))
    assert caught.value.hint == "it is for linux/amd64, linux/arm64: --platform chooses"


def test_pin_by_the_digest_of_an_index_is_found_again_without_the_network(
    plain_registry: DebianRegistry, store: Store, client: Client, oci_layout: Path
) -> None:
    name = f"{plain_registry.host}/pinned:1"
    run_tool("skopeo", "copy", "--all", "--dest-tls-verify=false", f"oci:{oci_layout}:multi", f"docker://{name}")
    digest = inspected(name)["Digest"]
    pulled = pull(Reference.parse(f"{name}@{digest}"), store, client=client)
    assert pulled.digest == digest
    for text in (f"{name}@{digest}", f"{plain_registry.host}/pinned@{digest}"):
        assert store.images.resolve(text).id == pulled.image.id


def test_image_of_buildah_is_pulled(
    plain_registry: DebianRegistry, store: Store, client: Client, tmp_path: Path
) -> None:
    name = f"{plain_registry.host}/buildah:1"
    buildah = ("buildah", "--root", tmp_path / "storage", "--runroot", tmp_path / "run", "--storage-driver", "vfs")
    (tmp_path / "file").write_text("hello")
    container = run_tool(*buildah, "from", "scratch").strip()
    run_tool(*buildah, "copy", container, tmp_path / "file", "/hello")
    run_tool(*buildah, "config", "--cmd", "/hello", container)
    image = run_tool(*buildah, "commit", "--format", "docker", container).strip().splitlines()[-1]
    run_tool(*buildah, "push", "--tls-verify=false", image, f"docker://{name}")
    pulled = pull(Reference.parse(name), store, client=client)
    assert pulled.image.id.hex.startswith(image[:12])
    assert pulled.digest == inspected(name)["Digest"]


def test_layers_of_fifty_arrive_each_once(
    plain_registry: DebianRegistry,
    store: Store,
    other_store: Store,
    client: Client,
    make_image: _MakeImage,
    recorder: Any,
) -> None:
    name = Reference.parse(f"{plain_registry.host}/fifty:1")
    image = make_image(store, str(name), layers=50, size=20_000)
    push(name, store, client=client, monitor=recorder)
    assert list(recorder.final.values()).count("Pushed") == 50
    assert pull(name, other_store, client=client).image.id == image.id


def test_what_is_not_there_says_so(plain_registry: DebianRegistry, store: Store, client: Client) -> None:
    with pytest.raises(NotFoundError, match="MANIFEST_UNKNOWN") as caught:
        pull(Reference.parse(f"{plain_registry.host}/nothing"), store, client=client)
    assert caught.value.hint
    assert "spelt" in caught.value.hint
    with pytest.raises(ImageNotFoundError):
        push(Reference.parse(f"{plain_registry.host}/nothing"), store, client=client)


def test_nobody_listens(store: Store, client: Client) -> None:
    host = f"127.0.0.1:{free_port()}"
    with pytest.raises(UnreachableError, match="Connection refused") as caught:
        pull(Reference.parse(f"{host}/x"), store, client=client)
    assert not caught.value.connected
