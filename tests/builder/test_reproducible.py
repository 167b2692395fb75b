"""With SOURCE_DATE_EPOCH two builds on two roots are the same, bit for bit, whatever comes out of them."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import BuilderError, OutputError
from builder.request.attestations import Attestations, Provenance
from builder.request.output import Output, Packaging
from core.platforms import Platform
from dockerfile_grammar import DockerfileError
from tests.builder.workshops import Layout, Workshop, workshop

pytestmark = pytest.mark.usefixtures("privileged")

EPOCH = 1_000_000_000
TEXT = """\
FROM base
WORKDIR /made/here
COPY f /copied/f
RUN mkdir -p /d && echo ran > /d/ran && ln -s ran /d/link && ln /d/ran /d/hard && touch -d @500000000 /d/old
"""


@pytest.fixture(scope="module")
def shops(
    tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path, privileged: None
) -> Iterator[tuple[Workshop, Workshop]]:
    with (
        workshop(tmp_path_factory.mktemp("first"), busybox_tar) as first,
        workshop(tmp_path_factory.mktemp("second"), busybox_tar) as second,
    ):
        os.utime(second.context / "f", (time.time(), 1_500_000_000))  # as another checkout has it
        yield first, second


@pytest.mark.parametrize("kind", ["oci", "docker", "tar"])
def test_files_are_the_same(shops: tuple[Workshop, Workshop], tmp_path: Path, kind: str) -> None:
    made = []
    for number, shop in enumerate(shops):
        path = tmp_path / str(number)
        shop.build(TEXT, Output(kind, str(path)), source_date_epoch=EPOCH, no_cache=True)  # type: ignore[arg-type]
        made.append(path.read_bytes())
    assert made[0] == made[1]


def test_images_and_directories_are_the_same(shops: tuple[Workshop, Workshop], tmp_path: Path) -> None:
    digests, trees = [], []
    for number, shop in enumerate(shops):
        directory = tmp_path / str(number)
        result = shop.build(
            TEXT, Output("image"), Output("local", str(directory)), source_date_epoch=EPOCH, no_cache=True
        )
        digests.append((result.config_digest, result.manifest_digest))
        paths = sorted(path for path in directory.rglob("*") if not path.is_symlink())
        trees.append([(path.relative_to(directory), path.stat().st_mtime, path.stat().st_mode) for path in paths])
    assert digests[0] == digests[1]
    assert trees[0] == trees[1]
    assert {mtime for _, mtime, _ in trees[0]} == {EPOCH}  # as BuildKit: of all files, whatever they had


def test_several_platforms_with_attestations_are_the_same(shops: tuple[Workshop, Workshop], tmp_path: Path) -> None:
    made = []
    for number, shop in enumerate(shops):
        path = tmp_path / str(number)
        shop.build(
            "FROM scratch\nARG TARGETARCH\nLABEL for=$TARGETARCH\nCOPY f /f\n",
            Output("oci", str(path)),
            source_date_epoch=EPOCH,
            platforms=(Platform.parse("linux/amd64"), Platform.parse("linux/arm64")),
            attest=Attestations(Provenance("max"), sbom=True),
        )
        made.append(path.read_bytes())
    assert made[0] == made[1]
    assert b"startedOn" not in made[0]


def test_times_of_new_layers_are_clamped_and_the_bases_are_not(
    shops: tuple[Workshop, Workshop], tmp_path: Path
) -> None:
    layout = built(shops[0], tmp_path / "clamped", Packaging())
    manifest = layout.document(layout.root())
    config = layout.document(manifest["config"])
    base = shops[0].store.images.resolve("base")
    assert config["rootfs"]["diff_ids"][0] == base.diff_ids[0]
    times = {name: mtime for layer in manifest["layers"][1:] for name, mtime in times_in(layout.read(layer)).items()}
    assert times["copied/f"] == times["d/ran"] == times["d"] == EPOCH
    assert times["d/old"] == 500_000_000
    assert config["created"] == "2001-09-09T01:46:40Z"
    assert [entry["created"] for entry in config["history"][1:]] == [config["created"]] * 3


def test_clamping_can_be_switched_off(shops: tuple[Workshop, Workshop], tmp_path: Path) -> None:
    layout = built(shops[0], tmp_path / "as-it-was", Packaging(rewrite_timestamp=False))
    (ran,) = layout.document(layout.root())["layers"][-1:]
    assert times_in(layout.read(ran))["d/ran"] > EPOCH


def test_the_build_argument_is_the_epoch_too(shops: tuple[Workshop, Workshop]) -> None:
    by_environment = shops[0].build(TEXT, Output("image"), source_date_epoch=EPOCH)
    by_argument = shops[0].build(TEXT, Output("image"), build_args={"SOURCE_DATE_EPOCH": str(EPOCH)})
    assert by_argument.config_digest == by_environment.config_digest
    seen = shops[0].build("FROM base\nARG SOURCE_DATE_EPOCH\nENV E=$SOURCE_DATE_EPOCH\n", source_date_epoch=EPOCH)
    image = (
        shops[0]
        .build("FROM base\nARG SOURCE_DATE_EPOCH\nENV E=$SOURCE_DATE_EPOCH\n", Output("image"), source_date_epoch=EPOCH)
        .image
    )
    assert image is not None
    assert seen.config_digest == image.id
    assert f"E={EPOCH}" in image.config.config.env


def test_argument_before_the_first_from_is_the_epoch(shops: tuple[Workshop, Workshop], tmp_path: Path) -> None:
    head = f"ARG SECONDS={EPOCH}\nARG SOURCE_DATE_EPOCH=${{SECONDS}}\n"
    declared = shops[0].build(head + TEXT, Output("image"), no_cache=True)
    given = shops[0].build(TEXT, Output("image"), source_date_epoch=EPOCH, no_cache=True)
    assert declared.config_digest == given.config_digest
    other = shops[0].build(head + TEXT, Output("image"), source_date_epoch=EPOCH + 1)
    assert other.config_digest == shops[0].build(TEXT, Output("image"), source_date_epoch=EPOCH + 1).config_digest
    none = shops[0].build(head + TEXT, Output("image"), build_args={"SOURCE_DATE_EPOCH": ""})
    assert none.image is not None
    assert none.image.config.created != declared.image.config.created  # type: ignore[union-attr]
    by_name = shops[0].build(f"ARG N=SOURCE_DATE_EPOCH\nARG $N={EPOCH}\n" + TEXT, Output("image"), no_cache=True)
    assert by_name.config_digest == given.config_digest
    with pytest.raises(DockerfileError, match=r"1:23: .*notime"):
        shops[0].build("ARG SOURCE_DATE_EPOCH=${X:?notime}\n" + TEXT, Output("image"))
    with pytest.raises(DockerfileError, match=r"1:23: ARG SOURCE_DATE_EPOCH is 'soon'"):
        shops[0].build("ARG SOURCE_DATE_EPOCH=soon\n" + TEXT, Output("image"))


def test_an_epoch_is_a_number_and_clamping_needs_one(shops: tuple[Workshop, Workshop]) -> None:
    with pytest.raises(BuilderError, match="SOURCE_DATE_EPOCH is 'soon'"):
        shops[0].build(TEXT, Output("image"), build_args={"SOURCE_DATE_EPOCH": "soon"})
    with pytest.raises(OutputError, match="rewrite-timestamp without SOURCE_DATE_EPOCH"):
        shops[0].build(TEXT, Output("image", packaging=Packaging(rewrite_timestamp=True)))


def built(shop: Workshop, directory: Path, packaging: Packaging) -> Layout:
    output = Output("oci", str(directory), as_tar=False, packaging=packaging)
    shop.build(TEXT, output, source_date_epoch=EPOCH)
    return Layout(directory)


def times_in(layer: bytes) -> dict[str, float]:
    """The mtimes of a compressed layer's entries."""
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer))) as tar:
        return {member.name: member.mtime for member in tar.getmembers()}
