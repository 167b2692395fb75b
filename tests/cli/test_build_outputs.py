"""The options of ``shiplap build`` about outputs, platforms and attestations, as a user gives them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.toolkit.foreign import run_tool
from tests.toolkit.registries import DebianRegistry, debian_registry
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A context whose one image differs from those of other tests; it needs no container."""
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "name").write_text(str(tmp_path))
    (directory / "Dockerfile").write_text("FROM scratch\nARG TARGETARCH\nLABEL for=$TARGETARCH\nCOPY name /name\n")
    return directory


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    with debian_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def metadata_of(shiplap: Shiplap, tmp_path: Path, *args: str | Path) -> tuple[dict[str, Any], str]:
    """What a build writes to --metadata-file and to --iidfile."""
    metadata, iid = tmp_path / "metadata", tmp_path / "iid"
    shiplap("build", "--metadata-file", metadata, "--iidfile", iid, *args)
    document: dict[str, Any] = json.loads(metadata.read_text())
    return document, iid.read_text()


def test_files_that_tell_of_an_image_have_buildxs_members(base_store: Shiplap, context: Path, tmp_path: Path) -> None:
    document, iid = metadata_of(base_store, tmp_path, "-t", "outputs-one", context)
    (image,) = base_store.json("image", "inspect", "outputs-one")
    assert iid == document["containerimage.config.digest"] == image["Id"]
    descriptor = document["containerimage.descriptor"]
    assert descriptor["digest"] == document["containerimage.digest"] == image["Digest"]
    assert descriptor["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert descriptor["platform"]["os"] == "linux"
    assert document["buildx.build.ref"].startswith("shiplap/")
    assert document["image.name"] == "docker.io/library/outputs-one:latest"


def test_files_that_tell_of_an_index(base_store: Shiplap, context: Path, tmp_path: Path) -> None:
    arguments = ("--platform", "linux/amd64,linux/arm64", "--platform=linux/arm64", "-t", "outputs-two", context)
    document, iid = metadata_of(base_store, tmp_path, *arguments)
    (image,) = base_store.json("image", "inspect", "outputs-two")
    assert iid == document["containerimage.digest"] == image["Index"]["Digest"]
    assert "containerimage.config.digest" not in document
    assert [entry["Platform"] for entry in image["Index"]["Manifests"]] == ["linux/amd64", "linux/arm64"]


def test_files_that_tell_of_a_directory(base_store: Shiplap, context: Path, tmp_path: Path) -> None:
    document, _ = metadata_of(base_store, tmp_path, "-o", tmp_path / "out", context)
    assert "containerimage.digest" not in document
    assert "image.name" not in document


def test_push_with_load_and_annotations(
    base_store: Shiplap, context: Path, registry: DebianRegistry, tmp_path: Path
) -> None:
    name = f"{registry.host}/outputs/pushed:1"
    arguments = ("--push", "--load", "--annotation", "a=1", "--insecure-registry", registry.host, "-t", name, context)
    document, _ = metadata_of(base_store, tmp_path, *arguments)
    raw = json.loads(run_tool("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}"))
    assert raw["annotations"] == {"a": "1"}
    assert document["image.name"] == name
    assert base_store.json("image", "inspect", name)[0]["Digest"] == document["containerimage.digest"]


def test_push_of_another_output_too(
    base_store: Shiplap, context: Path, registry: DebianRegistry, tmp_path: Path
) -> None:
    name = f"{registry.host}/outputs/both:1"
    out = tmp_path / "out.tar"
    result = base_store(
        *("build", "--push", "-o", f"type=oci,dest={out}", "--insecure-registry", registry.host, "-t", name, context)
    )
    assert f"pushed {name}" in result.stderr
    archived = run_tool("skopeo", "inspect", "--raw", f"oci-archive:{out}")
    assert run_tool("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}") == archived


def test_attestations_are_shown(base_store: Shiplap, context: Path) -> None:
    base_store("build", "--provenance", "mode=max", "--attest", "type=sbom", "-t", "outputs-attested", context)
    kinds = [each["predicateType"] for each in base_store.json("image", "attestations", "outputs-attested")]
    assert kinds == ["https://spdx.dev/Document", "https://slsa.dev/provenance/v1"]
    (provenance,) = base_store.json("image", "attestations", "--type", "provenance", "outputs-attested")
    assert provenance["subject"][0]["name"].startswith("pkg:docker/outputs-attested@latest?platform=")
    missing = base_store("image", "attestations", "--platform", "linux/s390x", "outputs-attested", check=False)
    assert missing.returncode == 1
    none = base_store("image", "attestations", BUSYBOX_NAME, check=False)
    assert "has no attestations" in none.stderr
    assert "--provenance true" in none.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--push",), "--push needs a name"),
        (("--annotation", "index:a=b"), "there is no index"),
        (("--annotation", "a"), "invalid annotation"),
        (("--sbom", "generator=scanner"), "runs no scanner"),
        (("--provenance", "mode=most"), "modes: min, max"),
        (("--platform", "linux/a/b/c"), "invalid platform"),
        (("-o", "type=oci,dest=x,compression=estargz"), "estargz is not supported"),
        (("--provenance", "true", "-o", "type=docker,dest=/dev/null"), "no room for attestations"),
    ],
)
def test_wrong_values_are_explained(
    base_store: Shiplap, context: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = base_store("build", *arguments, context, check=False)
    assert result.returncode == 1
    assert message in result.stderr
