"""Manifests: every status, and what is no manifest. docs/registry.md lists these tests beside the statuses."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from registry.server.settings import Policy, ServerSettings
from tests.registry.server.conftest import Bench
from tests.registry.server.serving import (
    EMPTY_JSON,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    InProcess,
    code_of,
    descriptor,
    digest_of,
    encode,
    index_of,
    manifest_of,
)

_ABSENT = digest_of(b"nobody has this")
_MALFORMED = ["sha256:baddigeststring", "sha256:", f"sha256:{'A' * 64}", "md5:d41d8cd98f00b204e9800998ecf8427e", "x:y"]


# /v2/<name>/manifests/<reference>


def test_manifest_put_201_and_get_200(client: InProcess) -> None:
    manifest = client.push_image("v1")
    for reference in ("v1", digest_of(manifest)):
        response = client("GET", f"/v2/team/app/manifests/{reference}")
        assert (response.status_code, response.data) == (200, manifest)
        assert response.headers["Content-Type"] == OCI_MANIFEST
        assert response.headers["Docker-Content-Digest"] == digest_of(manifest)
        head = client("HEAD", f"/v2/team/app/manifests/{reference}")
        assert (head.status_code, head.data) == (200, b"")
        assert head.headers["Content-Length"] == str(len(manifest))


def test_manifest_304(client: InProcess) -> None:
    digest = digest_of(client.push_image("v1"))
    assert client("GET", "/v2/team/app/manifests/v1", headers={"If-None-Match": f'"{digest}"'}).status_code == 304


def test_manifest_sha512_201(client: InProcess) -> None:
    config, layer = b"{}", b"layer"
    client.push_blob(config, algorithm="sha512")
    client.push_blob(layer, algorithm="sha512")
    manifest = manifest_of(config, [layer], algorithm="sha512")
    digest = digest_of(manifest, "sha512")
    response = client.put_manifest(manifest, digest)
    assert response.status_code == 201
    assert response.headers["Docker-Content-Digest"] == digest
    assert client("GET", f"/v2/team/app/manifests/{digest}").data == manifest


def test_manifest_put_by_digest_with_tags_201(client: InProcess) -> None:
    manifest = client.push_image()
    response = client.put_manifest(manifest, f"{digest_of(manifest)}?tag=one&tag=two")
    assert response.status_code == 201
    assert response.headers.getlist("OCI-Tag") == ["one", "two"]
    assert client("HEAD", "/v2/team/app/manifests/two").status_code == 200


def test_manifest_put_with_over_100_tags_414(client: InProcess) -> None:
    manifest = client.push_image()
    query = "&".join(f"tag=t{i}" for i in range(101))
    assert client.put_manifest(manifest, f"{digest_of(manifest)}?{query}").status_code == 414


def test_manifest_put_subject_201(client: InProcess) -> None:
    manifest = client.push_image(subject=descriptor(b"a manifest that is not here", OCI_MANIFEST))
    response = client.put_manifest(manifest)
    assert response.status_code == 201
    assert response.headers["OCI-Subject"] == digest_of(b"a manifest that is not here")


def test_manifest_put_unknown_media_type_201(client: InProcess) -> None:
    document = encode({"mediaType": "application/vnd.example+json", "things": [descriptor(b"not here")]})
    response = client.put_manifest(document, "odd", media_type="application/vnd.example+json")
    assert response.status_code == 201
    stored = client("GET", "/v2/team/app/manifests/odd")
    assert (stored.data, stored.headers["Content-Type"]) == (document, "application/vnd.example+json")


@pytest.mark.parametrize("missing", ["config", "layer"])
def test_manifest_put_missing_blob_404(client: InProcess, missing: str) -> None:
    for what in {"config", "layer"} - {missing}:
        client.push_blob(what.encode())
    client.push_blob(missing.encode(), name="other/app")
    response = client.put_manifest(manifest_of(b"config", [b"layer"]), "v1")
    assert response.status_code == 404
    assert code_of(response) == "MANIFEST_BLOB_UNKNOWN"
    assert json.loads(response.data)["errors"][0]["detail"]["digest"] == digest_of(missing.encode())
    assert client("HEAD", "/v2/team/app/manifests/v1").status_code == 404


def test_manifest_put_missing_child_404(client: InProcess) -> None:
    response = client.put_manifest(index_of([b"a manifest"]), "v1", media_type=OCI_INDEX)
    assert response.status_code == 404
    assert code_of(response) == "MANIFEST_BLOB_UNKNOWN"


def test_manifest_put_sparse_index_201_where_allowed(make_bench: Callable[..., Bench]) -> None:
    client = make_bench(ServerSettings(access="open", allow_missing=True)).client
    assert client.put_manifest(index_of([b"a manifest"]), "v1", media_type=OCI_INDEX).status_code == 201


def test_manifest_put_foreign_layer_201(client: InProcess) -> None:
    client.push_blob(b"{}")
    layer = descriptor(b"elsewhere", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")
    manifest = encode({"schemaVersion": 2, "config": descriptor(b"{}", EMPTY_JSON), "layers": [layer]})
    assert client.put_manifest(manifest, "v1").status_code == 201


def test_manifest_put_blobs_listed_in_an_index_201(client: InProcess) -> None:
    client.push_blob(b"a layer of a build cache")
    index = index_of([b"a layer of a build cache"], media_type=OCI_LAYER)
    assert client.put_manifest(index, "cache", media_type=OCI_INDEX).status_code == 201


_GOOD = {"schemaVersion": 2, "config": descriptor(b"{}", EMPTY_JSON), "layers": []}


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b"", OCI_MANIFEST),
        (b"no JSON", OCI_MANIFEST),
        (b"[]", OCI_MANIFEST),
        (b'"text"', "application/vnd.example+json"),
        (b"\xff\xfe", OCI_MANIFEST),
        (b"[" * 100_000, OCI_MANIFEST),
        (b'{"a":' * 100_000, "application/vnd.example+json"),
        (encode({"a": {"digest": "x"}} | {"b": [[[[]]]]}), ""),
        (encode(_GOOD | {"schemaVersion": 1}), OCI_MANIFEST),
        (encode(_GOOD | {"mediaType": OCI_INDEX}), OCI_MANIFEST),
        (encode(_GOOD | {"mediaType": 7}), OCI_MANIFEST),
        (encode(_GOOD | {"config": None}), OCI_MANIFEST),
        (encode(_GOOD | {"config": descriptor(b"{}", EMPTY_JSON) | {"digest": "sha256:bad"}}), OCI_MANIFEST),
        (encode(_GOOD | {"config": descriptor(b"{}", EMPTY_JSON) | {"size": -1}}), OCI_MANIFEST),
        (encode(_GOOD | {"config": descriptor(b"{}", EMPTY_JSON) | {"size": 3}}), OCI_MANIFEST),
        (encode(_GOOD | {"config": descriptor(b"{}", EMPTY_JSON) | {"size": True}}), OCI_MANIFEST),
        (encode(_GOOD | {"config": descriptor(b"{}", EMPTY_JSON) | {"mediaType": ""}}), OCI_MANIFEST),
        (encode(_GOOD | {"layers": {}}), OCI_MANIFEST),
        (encode(_GOOD | {"layers": [7]}), OCI_MANIFEST),
        (encode(_GOOD | {"subject": {"digest": "nothing"}}), OCI_MANIFEST),
        (encode(_GOOD | {"annotations": {"a": 1}}), OCI_MANIFEST),
        (encode(_GOOD | {"artifactType": 1}), OCI_MANIFEST),
        (encode({"schemaVersion": 2, "manifests": [{}]}), OCI_INDEX),
        (encode({"schemaVersion": 1}), "application/vnd.docker.distribution.manifest.v1+prettyjws"),
    ],
)
def test_manifest_put_invalid_400(client: InProcess, data: bytes, media_type: str) -> None:
    client.push_blob(b"{}")
    response = client.put_manifest(data, "v1", media_type=media_type)
    assert response.status_code == 400
    assert code_of(response) == "MANIFEST_INVALID"


def test_manifest_put_without_content_type_takes_the_documents(client: InProcess) -> None:
    client.push_blob(b"{}")
    assert client.put_manifest(encode(_GOOD), "v1", media_type="").status_code == 201
    assert client("GET", "/v2/team/app/manifests/v1").headers["Content-Type"] == OCI_MANIFEST


def test_manifest_put_another_digest_400(client: InProcess) -> None:
    manifest = client.push_image()
    response = client.put_manifest(manifest + b"  ", digest_of(manifest))
    assert response.status_code == 400
    assert code_of(response) == "DIGEST_INVALID"


@pytest.mark.parametrize("digest", _MALFORMED)
def test_manifest_malformed_digest_400(client: InProcess, digest: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        response = client(method, f"/v2/team/app/manifests/{digest}", data=b"{}")
        assert response.status_code == 400
        assert code_of(response) == "DIGEST_INVALID"


@pytest.mark.parametrize("tag", [".hidden", "-dash", "a" * 129, "ä"])
def test_manifest_put_bad_tag_400(client: InProcess, tag: str) -> None:
    response = client.put_manifest(client.push_image(), tag)
    assert response.status_code == 400
    assert code_of(response) == "TAG_INVALID"


def test_manifest_put_of_over_4_mib_413(client: InProcess) -> None:
    response = client.put_manifest(b" " * ((4 << 20) + 1), "v1")
    assert response.status_code == 413
    assert code_of(response) == "SIZE_INVALID"


def test_manifest_put_of_nearly_4_mib_201(client: InProcess) -> None:
    manifest = client.push_image(annotations={f"large-{i}": "A" * 10_000 for i in range(390)})
    assert len(manifest) < 4 << 20
    assert client("GET", f"/v2/team/app/manifests/{digest_of(manifest)}").data == manifest


def test_manifest_put_of_deep_indexes_400(client: InProcess) -> None:
    document, media_type = client.push_image(), OCI_MANIFEST
    for _ in range(8):
        document, media_type = index_of([document], media_type=media_type), OCI_INDEX
        assert client.put_manifest(document, media_type=OCI_INDEX).status_code == 201
    response = client.put_manifest(index_of([document], media_type=OCI_INDEX), media_type=OCI_INDEX)
    assert response.status_code == 400
    assert code_of(response) == "MANIFEST_INVALID"


@pytest.mark.parametrize("reference", ["missing", ".INVALID_MANIFEST_NAME", _ABSENT])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_manifest_404(client: InProcess, method: str, reference: str) -> None:
    response = client(method, f"/v2/team/app/manifests/{reference}")
    assert response.status_code == 404
    if method != "HEAD":
        assert code_of(response) == "MANIFEST_UNKNOWN"


def test_manifest_of_a_type_that_is_not_accepted_404_by_tag_only(client: InProcess) -> None:
    digest = digest_of(client.push_image("v1"))
    accept = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    assert client("GET", "/v2/team/app/manifests/v1", headers=accept).status_code == 404
    assert client("GET", f"/v2/team/app/manifests/{digest}", headers=accept).status_code == 200
    for good in ("*/*", f"{OCI_INDEX}, {OCI_MANIFEST};q=0.5", "application/json"):
        assert client("GET", "/v2/team/app/manifests/v1", headers={"Accept": good}).status_code == 200


def test_manifest_delete_by_tag_202_leaves_the_manifest(client: InProcess) -> None:
    digest = digest_of(client.push_image("v1"))
    assert client("DELETE", "/v2/team/app/manifests/v1").status_code == 202
    assert client("HEAD", "/v2/team/app/manifests/v1").status_code == 404
    assert client("HEAD", f"/v2/team/app/manifests/{digest}").status_code == 200


def test_manifest_delete_by_digest_202_takes_its_tags(client: InProcess) -> None:
    manifest = client.push_image("v1")
    client.put_manifest(manifest, "v2")
    assert client("DELETE", f"/v2/team/app/manifests/{digest_of(manifest)}").status_code == 202
    assert client("HEAD", f"/v2/team/app/manifests/{digest_of(manifest)}").status_code == 404
    response = client("GET", "/v2/team/app/tags/list")
    assert response.json == {"name": "team/app", "tags": []}


def test_immutable_tag_409(make_bench: Callable[..., Bench]) -> None:
    client = make_bench(ServerSettings(access="open", policies=(Policy("*", immutable_tags=("v*",)),))).client
    manifest = client.push_image("v1")
    assert client.put_manifest(manifest, "v1").status_code == 201  # the same again
    other = client.push_image("latest", layers=(b"other",))
    for response in (
        client.put_manifest(other, "v1"),
        client("DELETE", "/v2/team/app/manifests/v1"),
        client("DELETE", f"/v2/team/app/manifests/{digest_of(manifest)}"),
    ):
        assert response.status_code == 409
        assert code_of(response) == "DENIED"
    assert client("GET", "/v2/team/app/manifests/v1").data == manifest
    assert client("DELETE", "/v2/team/app/manifests/latest").status_code == 202


def test_over_quota_403(make_bench: Callable[..., Bench]) -> None:
    client = make_bench(ServerSettings(access="open", policies=(Policy("team/*", quota_bytes=1000),))).client
    client.push_blob(b"a" * 900)
    client.push_blob(b"b" * 5000, name="other/app")
    location = client.begin()
    mounted = client("POST", f"/v2/team/app/blobs/uploads/?mount={digest_of(b'b' * 5000)}&from=other/app")
    for response in (
        client("POST", f"/v2/team/app/blobs/uploads/?digest={digest_of(b'b' * 200)}", data=b"b" * 200),
        client("PATCH", location, data=b"c" * 200),
        mounted,
    ):
        assert response.status_code == 403
        assert code_of(response) == "DENIED"
        error = json.loads(response.data)["errors"][0]
        needed = error["detail"]["needed"]
        assert error["message"] == f"quota exceeded: repository team/app may hold 1000 bytes and would have {needed}"
        assert (error["detail"]["quota"], needed) == (1000, 5900 if response is mounted else 1100)
    assert client("GET", location).headers["Range"] == "0-0"
    client.push_blob(b"a" * 100)


def test_manifest_over_quota_403(make_bench: Callable[..., Bench]) -> None:
    client = make_bench(ServerSettings(access="open", policies=(Policy("*", quota_bytes=500),))).client
    client.push_blob(b"{}")
    manifest = manifest_of(b"{}", [], annotations={"a": "A" * 500})
    response = client.put_manifest(manifest, "v1")
    assert (response.status_code, code_of(response)) == (403, "DENIED")
    assert client("HEAD", "/v2/team/app/manifests/v1").status_code == 404
