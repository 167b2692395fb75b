"""Images in the forms that outputs ask for, read by foreign programs and by hand."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from builder.assembly import BuiltImage
from builder.errors import OutputError
from builder.exporting.packing import pack
from builder.request.output import Annotation, Output, Packaging
from core.digests import DiffID, Digest
from core.platforms import Platform
from core.references import Reference
from images.errors import ImageNotFoundError
from images.layers import Origin
from images.oci import Descriptor, ImageConfig, RootFS, decode_manifest
from registry.client import Client, ClientConfig
from tests.builder.workshops import Layout, Workshop, workshop
from tests.toolkit.foreign import run_tool
from tests.toolkit.registries import DebianRegistry, debian_registry

pytestmark = pytest.mark.usefixtures("privileged")

TEXT = "FROM base\nCOPY f /copied\nRUN echo ran > /ran\n"
_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path, privileged: None) -> Iterator[Workshop]:
    with workshop(tmp_path_factory.mktemp("outputs"), busybox_tar) as made:
        yield made


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    with debian_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def layout_of(shop: Workshop, directory: Path, packaging: Packaging = Packaging(), **options: Any) -> Layout:  # noqa: B008 - frozen
    shop.build(TEXT, Output("oci", str(directory), as_tar=False, packaging=packaging), **options)
    return Layout(directory)


@pytest.mark.parametrize(
    ("packaging", "media_type", "decompress"),
    [
        (Packaging(), "oci.image.layer.v1.tar+gzip", gzip.decompress),
        (Packaging("gzip", 9), "oci.image.layer.v1.tar+gzip", gzip.decompress),
        (
            Packaging("zstd"),
            "oci.image.layer.v1.tar+zstd",
            lambda data: zstandard.ZstdDecompressor().stream_reader(data).read(),
        ),
        (Packaging("none"), "oci.image.layer.v1.tar", bytes),
        (Packaging(oci=False), "docker.image.rootfs.diff.tar.gzip", gzip.decompress),
    ],
    ids=["default", "gzip-9", "zstd", "uncompressed", "docker"],
)
def test_layers_have_the_compression_that_is_asked_for(
    shop: Workshop, tmp_path: Path, packaging: Packaging, media_type: str, decompress: Any
) -> None:
    layout = layout_of(shop, tmp_path / "out", packaging)
    manifest = layout.document(layout.root())
    config = layout.document(manifest["config"])
    assert len(manifest["layers"]) == 3
    for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        assert layer["mediaType"].endswith(media_type)
        assert "sha256:" + hashlib.sha256(decompress(layout.read(layer))).hexdigest() == diff_id
    inspected = json.loads(run_tool("skopeo", "inspect", "--config", f"oci:{layout.directory}"))
    assert inspected["rootfs"]["diff_ids"] == config["rootfs"]["diff_ids"]


def test_a_level_is_the_codecs(shop: Workshop, tmp_path: Path) -> None:
    layouts = [layout_of(shop, tmp_path / str(level), Packaging("gzip", level)) for level in (1, 9)]
    first, last = (sum(layer["size"] for layer in each.document(each.root())["layers"]) for each in layouts)
    assert last < first


def test_a_layer_that_came_compressed_stays_so_unless_forced(shop: Workshop, tmp_path: Path) -> None:
    layout = layout_of(shop, tmp_path / "gzip")
    (compressed,) = layout.document(layout.root())["layers"][:1]
    base = shop.store.images.resolve("base").diff_ids[0]
    shop.store.layers.import_compressed(io.BytesIO(gzip.compress(gzip.decompress(layout.read(compressed)), 6)))
    original = shop.store.layers.original(base)
    assert original is not None
    kept = layout_of(shop, tmp_path / "kept", Packaging("zstd"))
    assert kept.document(kept.root())["layers"][0]["digest"] == original.digest
    forced = layout_of(shop, tmp_path / "forced", Packaging("zstd", force=True))
    assert forced.document(forced.root())["layers"][0]["mediaType"].endswith("zstd")


@pytest.mark.parametrize("oci", [True, False])
def test_a_layer_that_is_away_need_not_come_for_a_push(shop: Workshop, oci: bool) -> None:
    away = DiffID.of(b"a layer that is still at its registry")
    types = ("application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip")
    blob = Descriptor(media_type=types[1], digest=Digest.of(b"its blob"), size=8)
    shop.store.layers.note_origins([Origin(away, blob, "ci:5000/base")])
    config = ImageConfig(architecture="amd64", os="linux", rootfs=RootFS(diff_ids=(away,)))
    packed = pack(shop.store, [BuiltImage(Platform.host(), config, 1)], Packaging(oci=oci), default="gzip")
    (layer,) = decode_manifest(packed.documents[packed.root.digest]).layers
    assert layer == msgspec.structs.replace(blob, media_type=types[0 if oci else 1])


def test_a_docker_archive_names_itself_in_dockers_way(shop: Workshop, tmp_path: Path) -> None:
    name = Reference.parse("docker-archive:1")
    shop.build(TEXT, Output("docker", str(tmp_path / "out"), (name,), as_tar=False, packaging=Packaging(oci=False)))
    (entry,) = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert entry["RepoTags"] == ["docker-archive:1"]
    assert Layout(tmp_path / "out").root()["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"


def test_annotations_are_where_they_are_put(shop: Workshop, tmp_path: Path) -> None:
    arm, host = Platform.parse("linux/arm64"), Platform.host()
    packaging = Packaging(
        annotations=(
            Annotation("manifest", "all", "1"),
            Annotation("manifest", "one", "2", arm),
            Annotation("manifest-descriptor", "described", "3", arm),
            Annotation("index", "above", "4"),
            Annotation("index-descriptor", "outside", "5"),
        )
    )
    shop.build(
        "FROM scratch\nCOPY f /f\n",
        Output("oci", str(tmp_path / "out"), as_tar=False, packaging=packaging),
        platforms=(host, arm),
    )
    layout = Layout(tmp_path / "out")
    created = layout.root()["annotations"].pop("org.opencontainers.image.created")
    assert layout.root()["annotations"] == {"outside": "5", "org.opencontainers.image.created": created}
    index = layout.document(layout.root())
    assert index["annotations"] == {"above": "4"}
    assert [entry.get("annotations") for entry in index["manifests"]] == [None, {"described": "3"}]
    manifests = [layout.document(entry)["annotations"] for entry in index["manifests"]]
    assert manifests == [{"all": "1"}, {"all": "1", "one": "2"}]


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (Annotation("index", "a", "b"), "there is no index"),
        (Annotation("manifest", "a", "b", Platform.parse("linux/s390x")), "nothing is built for linux/s390x"),
    ],
)
def test_annotations_that_have_no_place(shop: Workshop, tmp_path: Path, annotation: Annotation, message: str) -> None:
    with pytest.raises(OutputError, match=message):
        layout_of(shop, tmp_path / "out", Packaging(annotations=(annotation,)))


def test_one_build_has_several_outputs(shop: Workshop, tmp_path: Path) -> None:
    name = Reference.parse("several:1")
    result = shop.build(
        TEXT,
        Output("oci", str(tmp_path / "oci.tar")),
        Output("tar", str(tmp_path / "files.tar")),
        Output("local", str(tmp_path / "files")),
        Output("image", "", (name,)),
    )
    assert (tmp_path / "files" / "ran").read_text() == "ran\n"
    with tarfile.open(tmp_path / "files.tar") as tar:
        assert "copied" in tar.getnames()
    assert result.image is not None
    assert result.image.names == (name,)
    digest = json.loads(run_tool("skopeo", "inspect", f"oci-archive:{tmp_path / 'oci.tar'}"))["Digest"]
    assert digest.startswith("sha256:")
    assert result.root is not None
    assert result.root.digest == result.image.manifest_digest  # of the last that is an image


def test_an_image_need_not_be_stored(shop: Workshop) -> None:
    result = shop.build(f"FROM base\nLABEL only=here{next(_NUMBERS)}\n", Output("image", store=False))
    assert result.image is None
    with pytest.raises(ImageNotFoundError):
        shop.store.images.get(result.config_digest)


def test_pushes(shop: Workshop, registry: DebianRegistry, tmp_path: Path) -> None:
    names = tuple(Reference.parse(f"{registry.host}/app:{tag}") for tag in ("1", "2"))

    def connect() -> Client:
        return Client(ClientConfig(tmp_path, insecure=(registry.host,)))

    text = f"{TEXT}LABEL pushed={next(_NUMBERS)}\n"
    result = shop.build(text, Output("image", "", names, push=True, packaging=Packaging("zstd")), connect=connect)
    assert result.root is not None
    for name in names:
        raw = run_tool("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}")
        assert "sha256:" + hashlib.sha256(raw.encode()).hexdigest() == result.root.digest
        assert {layer["mediaType"].rpartition("+")[2] for layer in json.loads(raw)["layers"][1:]} == {"zstd"}
    assert result.image is not None
    assert result.image.names == names


def test_pushes_of_several_platforms_by_digest(shop: Workshop, registry: DebianRegistry, tmp_path: Path) -> None:
    name = Reference.parse(f"{registry.host}/by-digest")

    def connect() -> Client:
        return Client(ClientConfig(tmp_path, insecure=(registry.host,)))

    result = shop.build(
        "FROM scratch\nARG TARGETARCH\nLABEL for=$TARGETARCH\nCOPY f /f\n",
        Output("image", "", (name,), push=True, by_digest=True, store=False),
        platforms=(Platform.host(), Platform.parse("linux/arm64")),
        connect=connect,
    )
    assert result.root is not None
    assert result.image is None
    assert shop.store.images.indexes.find(result.root.digest) is None
    reference = f"docker://{registry.host}/by-digest@{result.root.digest}"
    config = run_tool("skopeo", "--override-arch", "arm64", "inspect", "--tls-verify=false", "--config", reference)
    assert json.loads(config)["config"]["Labels"] == {"for": "arm64"}
    tags = registry.storage / "docker/registry/v2/repositories/by-digest/_manifests/tags"
    assert not tags.exists()
