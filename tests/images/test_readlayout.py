"""An image out of an OCI layout, as skopeo, crane and buildah write them: which one is meant, and what is no layout."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.digests import DiffID, Digest
from core.platforms import Platform
from images.errors import DigestMismatchError, ImageNotFoundError, ImagesError, InvalidArchiveError
from images.oci import MAX_DOCUMENT_BYTES
from images.readlayout import read_layout
from images.store import Store

_AMD, _ARM = Platform.parse("linux/amd64"), Platform.parse("linux/arm64")
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_NAME = "org.opencontainers.image.ref.name"
_LAYER = b"a layer, which nobody looks into here"
_Json = dict[str, Any]


class Layout:
    """A layout that is being made."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "blobs" / "sha256").mkdir(parents=True)

    def blob(self, data: bytes | _Json, media_type: str) -> _Json:
        """Write a blob; returns its descriptor."""
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        digest = Digest.of(data)
        (self.directory / "blobs" / "sha256" / digest.hex).write_bytes(data)
        return {"mediaType": media_type, "digest": str(digest), "size": len(data)}

    def image(self, architecture: str = "amd64", *, layers: int = 1, **members: Any) -> _Json:
        """An image of one layer, whose config lists ``layers`` of them."""
        diff_ids = [str(DiffID.of(_LAYER))] * layers
        config = {"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        manifest = {
            "schemaVersion": 2,
            "config": self.blob(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [self.blob(gzip.compress(_LAYER, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip")],
        }
        return self.blob(manifest, _MANIFEST) | {"platform": {"os": "linux", "architecture": architecture}} | members

    def index(self, *manifests: _Json) -> _Json:
        return self.blob({"schemaVersion": 2, "manifests": list(manifests)}, _INDEX)

    def write(self, *manifests: _Json) -> None:
        (self.directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": list(manifests)}))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "root") as opened:
        yield opened


def named(descriptor: _Json, tag: str) -> _Json:
    return descriptor | {"annotations": {_NAME: tag}}


def architecture(store: Store, layout: Layout, platform: Platform = _AMD, *, tag: str = "", digest: str = "") -> str:
    return read_layout(store, layout.directory, platform=platform, tag=tag, digest=digest).config.architecture


def test_image_is_in_the_store_without_a_name(store: Store, layout: Layout) -> None:
    layout.write(layout.image())
    made = read_layout(store, layout.directory, platform=_AMD)
    assert (made.diff_ids, made.names) == ((DiffID.of(_LAYER),), ())
    assert store.layers.path(made.diff_ids[0]).read_bytes() == _LAYER


def test_layer_that_is_here_is_not_read_again(store: Store, layout: Layout) -> None:
    layout.write(layout.image())
    first = read_layout(store, layout.directory, platform=_AMD)
    (layout.directory / "blobs" / "sha256" / Digest.of(gzip.compress(_LAYER, mtime=0)).hex).unlink()
    assert read_layout(store, layout.directory, platform=_AMD).id == first.id


def test_tag_says_which_and_else_it_is_the_latest_or_the_only_one(store: Store, layout: Layout) -> None:
    amd, arm = layout.image("amd64"), layout.image("arm64")
    layout.write(named(amd, "old"), named(arm, "latest"))
    assert architecture(store, layout) == "arm64"
    assert architecture(store, layout, tag="old") == "amd64"
    assert architecture(store, layout, digest=amd["digest"]) == "amd64"
    layout.write(named(amd, "old"))
    assert architecture(store, layout) == "amd64"


@pytest.mark.parametrize(
    ("tags", "chosen", "message", "hint"),
    [
        (["a", "b"], {}, "has no image latest", "it has a, b"),
        (["b", "a"], {"tag": "c"}, "has no image c", "it has a, b"),
        (["a"], {"tag": "c"}, "has no image c", "it has a"),
        ([], {"tag": "c"}, "has no image c", "name one by its digest: oci-layout://DIRECTORY@sha256:…"),
        (["a"], {"digest": "sha256:" + "0" * 64}, "has no image sha256:000", "it has a"),
    ],
)
def test_image_that_is_not_there_is_told_with_those_that_are(
    store: Store, layout: Layout, tags: list[str], chosen: dict[str, Any], message: str, hint: str
) -> None:
    layout.write(*[named(layout.image(), tag) for tag in tags])
    with pytest.raises(ImageNotFoundError) as told:
        architecture(store, layout, **chosen)
    assert message in told.value.message
    assert told.value.hint == hint


def test_image_of_several_platforms_is_the_one_that_is_wanted(store: Store, layout: Layout) -> None:
    layout.write(layout.index(layout.image("amd64"), layout.image("arm64")))
    assert architecture(store, layout, _AMD) == "amd64"
    assert architecture(store, layout, _ARM) == "arm64"
    with pytest.raises(ImageNotFoundError, match="has no image for linux/s390x"):
        architecture(store, layout, Platform.parse("linux/s390x"))


def test_only_image_of_an_index_is_meant_whatever_its_platform_and_beside_its_attestations(
    store: Store, layout: Layout
) -> None:
    attestation = layout.image("amd64") | {"platform": {"os": "unknown", "architecture": "unknown"}}
    layout.write(layout.index(attestation, layout.image("arm64")))
    assert architecture(store, layout, _AMD) == "arm64"
    alone = layout.image("arm64")
    del alone["platform"]
    layout.write(layout.index(alone))
    assert architecture(store, layout, _AMD) == "arm64"


def test_index_may_be_in_indexes_to_a_bound(store: Store, layout: Layout) -> None:
    found = layout.image()
    for _ in range(4):
        found = layout.index(found)
    layout.write(found)
    assert architecture(store, layout) == "amd64"
    layout.write(layout.index(found))
    with pytest.raises(ImageNotFoundError, match="has no image for linux/amd64"):
        architecture(store, layout)


def test_what_is_neither_image_nor_index_is_no_image(store: Store, layout: Layout) -> None:
    layout.write(layout.image(mediaType="text/plain"))
    with pytest.raises(ImageNotFoundError, match="has no image for linux/amd64"):
        architecture(store, layout)


def test_config_lists_as_many_layers_as_there_are(store: Store, layout: Layout) -> None:
    layout.write(layout.image(layers=2))
    with pytest.raises(InvalidArchiveError, match="the image has 1 layers, but its config lists 2"):
        architecture(store, layout)


@pytest.mark.parametrize("same_size", [True, False])
def test_blob_of_another_content_is_no_part_of_the_image(store: Store, layout: Layout, same_size: bool) -> None:
    top = layout.image()
    layout.write(top)
    path = layout.directory / "blobs" / "sha256" / top["digest"].partition(":")[2]
    data = path.read_bytes()
    path.write_bytes(data.replace(b"{", b" ", 1) if same_size else data + b" ")
    with pytest.raises(DigestMismatchError, match=rf"blob {top['digest']} has [0-9]+ bytes of digest sha256:"):
        architecture(store, layout)


def test_size_that_is_stated_is_the_blob_s(store: Store, layout: Layout) -> None:
    top = layout.image()
    layout.write(top | {"size": top["size"] + 1})
    with pytest.raises(DigestMismatchError):
        architecture(store, layout)


def test_layer_of_another_content_is_refused(store: Store, layout: Layout) -> None:
    layout.write(layout.image())
    path = layout.directory / "blobs" / "sha256" / Digest.of(gzip.compress(_LAYER, mtime=0)).hex
    path.write_bytes(gzip.compress(_LAYER.upper(), mtime=0))
    with pytest.raises(ImagesError):
        architecture(store, layout)
    assert not store.layers.has(DiffID.of(_LAYER))


def test_what_is_no_layout_is_told(store: Store, layout: Layout, tmp_path: Path) -> None:
    with pytest.raises(
        InvalidArchiveError, match=r"cannot read index\.json of the OCI layout .*: No such file"
    ) as told:
        architecture(store, layout)
    assert told.value.hint == "an OCI layout is a directory with index.json and blobs"
    with pytest.raises(InvalidArchiveError, match=r"cannot open the OCI layout .*: No such file"):
        read_layout(store, tmp_path / "nothing", platform=_AMD)
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArchiveError, match=r"cannot open the OCI layout .*: Not a directory"):
        read_layout(store, tmp_path / "file", platform=_AMD)


def test_link_leads_out_of_no_layout(store: Store, layout: Layout, tmp_path: Path) -> None:
    layout.write(layout.image())
    (layout.directory / "index.json").rename(tmp_path / "index.json")
    (layout.directory / "index.json").symlink_to(tmp_path / "index.json")
    with pytest.raises(InvalidArchiveError, match=r"cannot read index\.json"):
        architecture(store, layout)


def test_document_that_is_larger_than_any_is_not_read(store: Store, layout: Layout) -> None:
    layout.write(layout.image())
    path = layout.directory / "index.json"
    path.write_bytes(path.read_bytes().ljust(MAX_DOCUMENT_BYTES))
    assert architecture(store, layout) == "amd64"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(InvalidArchiveError, match=f"has more than {MAX_DOCUMENT_BYTES} bytes"):
        architecture(store, layout)
