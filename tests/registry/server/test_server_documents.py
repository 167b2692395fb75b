"""What the server reads of a manifest, and what it says of one that it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.digests import Digest
from registry.server.documents import Document, LinkedDescriptor, read_document
from registry.server.errors import SpecError

_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_OCI_INDEX = "application/vnd.oci.image.index.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_A, _B, _C = (Digest.parse(f"sha256:{digit * 64}") for digit in "abc")


def descriptor(digest: Digest = _A, media_type: str = _LAYER, size: int = 7) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(digest), "size": size}


def manifest(**members: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "config": descriptor(_C, _CONFIG), "layers": [descriptor()], **members}


def read(tree: object, content_type: str = _OCI_MANIFEST) -> Document:
    return read_document(json.dumps(tree).encode(), content_type)


def test_manifest_refers_to_its_config_and_its_layers() -> None:
    found = read(manifest(annotations={"a": "b"}, subject=descriptor(_B, _OCI_MANIFEST)))
    assert found == Document(
        _OCI_MANIFEST,
        _CONFIG,
        blobs=(LinkedDescriptor(_C, 7, _CONFIG), LinkedDescriptor(_A, 7, _LAYER)),
        subject=_B,
        annotations={"a": "b"},
    )
    assert found.targets() == {_A, _C}
    assert read(manifest(artifactType="application/x")).artifact_type == "application/x"


def test_index_refers_to_its_manifests() -> None:
    tree = {"schemaVersion": 2, "manifests": [descriptor(_A, _OCI_MANIFEST), descriptor(_B, _LAYER)]}
    found = read(tree, _OCI_INDEX)
    assert [(child.digest, child.is_manifest) for child in found.children] == [(_A, True), (_B, False)]
    assert (found.artifact_type, found.blobs, found.targets()) == ("", (), {_A, _B})


@pytest.mark.parametrize("name", ["layers", "manifests"])
def test_empty_list_may_be_null_or_left_out(name: str) -> None:
    kind = _OCI_MANIFEST if name == "layers" else _OCI_INDEX
    tree = {"schemaVersion": 2, "config": descriptor(_C, _CONFIG)}
    assert read(tree, kind) == read({**tree, name: None}, kind) == read({**tree, name: []}, kind)


def test_layer_that_is_not_distributed_may_be_missing() -> None:
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    kept = "application/vnd.oci.image.layer.nondistributable.v1.tar"
    layers = [descriptor(_A, foreign), descriptor(_B, kept), descriptor(_C, _LAYER)]
    found = read(manifest(layers=layers)).blobs[1:]
    assert [(layer.digest, layer.media_type, layer.required) for layer in found] == [
        (_A, foreign, False), (_B, kept, False), (_C, _LAYER, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("members", "content_type", "expected"),
    [
        ({"mediaType": _OCI_MANIFEST}, "", _OCI_MANIFEST),
        ({"mediaType": _OCI_MANIFEST}, f"{_OCI_MANIFEST}; charset=utf-8", _OCI_MANIFEST),
        ({}, f" {_OCI_MANIFEST.upper()} ", _OCI_MANIFEST),
        ({}, "", _OCI_MANIFEST),
        ({"manifests": []}, "", _OCI_INDEX),
    ],
)
def test_kind_is_what_the_request_says_else_the_document_else_its_form(
    members: dict[str, Any], content_type: str, expected: str
) -> None:
    assert read(manifest(**members), content_type).media_type == expected


def test_whatever_looks_like_a_descriptor_keeps_its_target_where_the_kind_is_unknown() -> None:
    tree = {
        "a": [{"digest": str(_A)}, {"digest": "text"}], "b": {"c": descriptor(_B)}, "d": {"digest": str(_A)},
        "subject": descriptor(_C, _OCI_MANIFEST),
    }  # fmt: skip
    found = read(tree, "application/vnd.example+json")
    assert (found.loose, found.subject) == ((_A, _B), _C)
    assert found.targets() == {_A, _B}


def nested(depth: int) -> object:
    found: object = descriptor()
    for _ in range(depth):
        found = [found]
    return {"things": found}


def test_document_of_an_unknown_kind_is_looked_through_to_a_bound() -> None:
    assert read(nested(62), "application/vnd.example+json").loose == (_A,)
    with pytest.raises(SpecError, match="nested more than 64 deep"):
        read(nested(63), "application/vnd.example+json")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([], "expected a JSON object"),
        (manifest(mediaType=1), "mediaType is no string"),
        (manifest(mediaType=_OCI_INDEX), f"mediaType '{_OCI_INDEX}' differs from Content-Type '{_OCI_MANIFEST}'"),
        (manifest(artifactType=1), "artifactType is no string"),
        (manifest(schemaVersion=1), "schemaVersion is not 2"),
        (manifest(layers={}), "layers is no list"),
        (manifest(layers=["x"]), "layers[0] is no descriptor"),
        (manifest(config=None), "config is no descriptor"),
        (manifest(config={**descriptor(), "mediaType": ""}), "config has no mediaType"),
        (manifest(config={**descriptor(), "mediaType": 1}), "config has no mediaType"),
        (manifest(layers=[descriptor(), descriptor(size=-1)]), "layers[1] has no valid size"),
        (manifest(layers=[{**descriptor(), "size": True}]), "layers[0] has no valid size"),
        (manifest(layers=[{**descriptor(), "size": "7"}]), "layers[0] has no valid size"),
        (manifest(layers=[descriptor(size=1 << 63)]), "layers[0] has no valid size"),
        (manifest(layers=[{**descriptor(), "digest": "sha256:x"}]), "layers[0] has no valid digest"),
        (manifest(layers=[{**descriptor(), "digest": 7}]), "layers[0] has no valid digest"),
        (manifest(subject="x"), "subject is no descriptor"),
        (manifest(annotations=["x"]), "annotations are not strings by name"),
        (manifest(annotations={"a": 1}), "annotations are not strings by name"),
    ],
)
def test_manifest_that_is_none_is_refused_with_the_reason(tree: object, message: str) -> None:
    with pytest.raises(SpecError) as refused:
        read(tree)
    assert (refused.value.status, str(refused.value)) == (400, f"manifest invalid: {message}")


def test_sizes_go_to_the_largest_number_that_a_file_can_have() -> None:
    sizes = (0, (1 << 63) - 1)
    found = read(manifest(layers=[descriptor(size=size) for size in sizes]))
    assert [layer.size for layer in found.blobs[1:]] == list(sizes)


def test_manifests_of_an_index_are_descriptors() -> None:
    with pytest.raises(SpecError, match="manifests is no list"):
        read({"schemaVersion": 2, "manifests": {}}, _OCI_INDEX)
    with pytest.raises(SpecError, match="schemaVersion is not 2"):
        read({"manifests": []}, _OCI_INDEX)


def test_document_that_says_nothing_of_itself_is_refused() -> None:
    with pytest.raises(SpecError, match="neither Content-Type nor mediaType says what it is"):
        read({"a": 1}, "")
    with pytest.raises(SpecError, match="not JSON"):
        read_document(b"{", "")
    with pytest.raises(SpecError, match="schema 1 is obsolete"):
        read(manifest(), "application/vnd.docker.distribution.manifest.v1+prettyjws")
