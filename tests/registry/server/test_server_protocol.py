"""Every endpoint and every status that it answers with. docs/registry.md lists these tests beside the statuses."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

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
_BAD_NAMES = ["A", "a//b", "a/../b", "../a", "a_", "-a", "a/.b", "ä", "a b", "a" * 256]


# /v2/


def test_base_200(client: InProcess) -> None:
    response = client("GET", "/v2/")
    assert response.status_code == 200
    assert response.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert response.json == {}


def test_unknown_route_404(client: InProcess) -> None:
    response = client("GET", "/v2/a/b/nothing")
    assert response.status_code == 404
    assert code_of(response) == "UNSUPPORTED"


def test_unknown_method_405(client: InProcess) -> None:
    response = client("POST", f"/v2/a/b/blobs/{_ABSENT}")
    assert response.status_code == 405
    assert code_of(response) == "UNSUPPORTED"
    assert "GET" in response.headers["Allow"]


@pytest.mark.parametrize("name", _BAD_NAMES)
def test_bad_name_400(client: InProcess, name: str) -> None:
    for method, path in (("GET", "tags/list"), ("POST", "blobs/uploads/"), ("PUT", "manifests/latest")):
        response = client(method, f"/v2/{name}/{path}")
        assert response.status_code in (400, 404), name
        assert code_of(response) in ("NAME_INVALID", "UNSUPPORTED")


# /v2/<name>/blobs/<digest>


def test_blob_get_200(client: InProcess) -> None:
    digest = client.push_blob(b"hello")
    response = client("GET", f"/v2/team/app/blobs/{digest}")
    assert (response.status_code, response.data) == (200, b"hello")
    assert response.headers["Docker-Content-Digest"] == digest
    assert response.headers["Content-Length"] == "5"
    assert response.headers["Accept-Ranges"] == "bytes"
    response.close()


def test_blob_head_200(client: InProcess) -> None:
    digest = client.push_blob(b"hello")
    response = client("HEAD", f"/v2/team/app/blobs/{digest}")
    assert (response.status_code, response.data) == (200, b"")
    assert response.headers["Content-Length"] == "5"
    assert response.headers["Docker-Content-Digest"] == digest


@pytest.mark.parametrize(
    ("asked", "sent", "announced"),
    [
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=-99", b"0123456789", "bytes 0-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
        ("bytes=0-0", b"0", "bytes 0-0/10"),
    ],
)
def test_blob_range_206(client: InProcess, asked: str, sent: bytes, announced: str) -> None:
    digest = client.push_blob(b"0123456789")
    response = client("GET", f"/v2/team/app/blobs/{digest}", headers={"Range": asked})
    assert (response.status_code, response.data) == (206, sent)
    assert response.headers["Content-Range"] == announced
    assert response.headers["Content-Length"] == str(len(sent))
    response.close()


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-20", "bytes=5-0", "bytes=-0"])
def test_blob_range_416(client: InProcess, asked: str) -> None:
    digest = client.push_blob(b"0123456789")
    response = client("GET", f"/v2/team/app/blobs/{digest}", headers={"Range": asked})
    assert response.status_code == 416
    assert response.headers["Content-Range"] == "bytes */10"
    assert code_of(response) == "RANGE_INVALID"


@pytest.mark.parametrize("asked", ["bytes=0-1,3-4", "lines=1-2", "bytes=", "bytes=a-b"])
def test_blob_range_that_need_not_be_understood_200(client: InProcess, asked: str) -> None:
    digest = client.push_blob(b"0123456789")
    response = client("GET", f"/v2/team/app/blobs/{digest}", headers={"Range": asked})
    assert (response.status_code, response.data) == (200, b"0123456789")
    response.close()


def test_blob_304(client: InProcess) -> None:
    digest = client.push_blob(b"hello")
    response = client("GET", f"/v2/team/app/blobs/{digest}", headers={"If-None-Match": f'"{digest}"'})
    assert (response.status_code, response.data) == (304, b"")


@pytest.mark.parametrize("digest", _MALFORMED)
def test_blob_malformed_digest_400(client: InProcess, digest: str) -> None:
    for method in ("GET", "DELETE"):
        response = client(method, f"/v2/team/app/blobs/{digest}")
        assert response.status_code == 400
        assert code_of(response) == "DIGEST_INVALID"


def test_blob_404(client: InProcess) -> None:
    response = client("GET", f"/v2/team/app/blobs/{_ABSENT}")
    assert response.status_code == 404
    assert code_of(response) == "BLOB_UNKNOWN"
    assert client("HEAD", f"/v2/team/app/blobs/{_ABSENT}").status_code == 404


def test_blob_of_another_repository_404(client: InProcess) -> None:
    digest = client.push_blob(b"secret", name="other/app")
    client.push_blob(b"mine")
    assert client("HEAD", f"/v2/team/app/blobs/{digest}").status_code == 404


def test_blob_delete_202_and_404(client: InProcess) -> None:
    digest = client.push_blob(b"hello")
    client.push_blob(b"hello", name="other/app")
    assert client("DELETE", f"/v2/team/app/blobs/{digest}").status_code == 202
    assert client("HEAD", f"/v2/team/app/blobs/{digest}").status_code == 404
    assert client("DELETE", f"/v2/team/app/blobs/{digest}").status_code == 404
    assert client("HEAD", f"/v2/other/app/blobs/{digest}").status_code == 200


# /v2/<name>/blobs/uploads/


def test_upload_begin_202(client: InProcess) -> None:
    response = client("POST", "/v2/team/app/blobs/uploads/")
    assert response.status_code == 202
    assert response.headers["Location"].startswith("/v2/team/app/blobs/uploads/")
    assert response.headers["Range"] == "0-0"
    assert response.headers["Docker-Upload-UUID"]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_upload_in_one_post_201(client: InProcess, algorithm: str) -> None:
    digest = digest_of(b"hello", algorithm)
    response = client("POST", f"/v2/team/app/blobs/uploads/?digest={digest}", data=b"hello")
    assert response.status_code == 201
    assert response.headers["Location"] == f"/v2/team/app/blobs/{digest}"
    assert response.headers["Docker-Content-Digest"] == digest


def test_upload_in_one_post_with_another_digest_400(client: InProcess) -> None:
    response = client("POST", f"/v2/team/app/blobs/uploads/?digest={_ABSENT}", data=b"hello")
    assert response.status_code == 400
    assert code_of(response) == "DIGEST_INVALID"
    assert client("HEAD", f"/v2/team/app/blobs/{_ABSENT}").status_code == 404


@pytest.mark.parametrize("parameter", ["digest=sha256:bad", "mount=sha256:bad&from=a/b", "digest-algorithm=md5"])
def test_upload_begin_malformed_digest_400(client: InProcess, parameter: str) -> None:
    response = client("POST", f"/v2/team/app/blobs/uploads/?{parameter}")
    assert response.status_code == 400
    assert code_of(response) == "DIGEST_INVALID"


def test_mount_201(client: InProcess) -> None:
    digest = client.push_blob(b"hello", name="other/app")
    response = client("POST", f"/v2/team/app/blobs/uploads/?mount={digest}&from=other/app")
    assert response.status_code == 201
    assert response.headers["Location"] == f"/v2/team/app/blobs/{digest}"
    assert client("HEAD", response.headers["Location"]).status_code == 200


def test_mount_without_source_201(client: InProcess) -> None:
    digest = client.push_blob(b"hello", name="other/app", algorithm="sha512")
    assert client("POST", f"/v2/team/app/blobs/uploads/?mount={digest}").status_code == 201
    assert client("HEAD", f"/v2/team/app/blobs/{digest}").status_code == 200


def test_mount_of_what_was_built_here_copies_nothing(bench: Bench) -> None:
    digest = bench.store.blobs.put(b"a layer of the local store")
    inode = bench.store.blobs.path(digest).stat().st_ino
    assert bench.client("POST", f"/v2/team/app/blobs/uploads/?mount={digest}").status_code == 201
    assert bench.registry.content.path(digest).stat().st_ino == inode
    assert not list((bench.store.root / "serve" / "uploads").iterdir())


@pytest.mark.parametrize("source", ["other/app", "NOT/A/NAME", "nowhere"])
def test_mount_missing_202(client: InProcess, source: str) -> None:
    response = client("POST", f"/v2/team/app/blobs/uploads/?mount={_ABSENT}&from={source}")
    assert response.status_code == 202
    assert client("PUT", f"{response.headers['Location']}?digest={digest_of(b'x')}", data=b"x").status_code == 201


# /v2/<name>/blobs/uploads/<id>


def test_upload_status_204(client: InProcess) -> None:
    location = client.begin()
    client("PATCH", location, data=b"hello")
    response = client("GET", location)
    assert response.status_code == 204
    assert response.headers["Range"] == "0-4"
    assert response.headers["Location"] == location


@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
@pytest.mark.parametrize("identity", ["0" * 32, "..", "nothing", "%2e%2e%2ftoken.key"])
def test_upload_404(client: InProcess, method: str, identity: str) -> None:
    response = client(method, f"/v2/team/app/blobs/uploads/{identity}?digest={_ABSENT}", data=b"x")
    assert response.status_code in (400, 404)
    assert code_of(response) in ("BLOB_UPLOAD_UNKNOWN", "NAME_INVALID", "UNSUPPORTED", "DIGEST_INVALID")


def test_upload_of_another_repository_404(client: InProcess) -> None:
    location = client.begin(name="other/app").replace("other/app", "team/app")
    assert client("GET", location).status_code == 404


def test_upload_chunks_202_then_201(client: InProcess) -> None:
    location = client.begin()
    first = client("PATCH", location, data=b"hello ", headers={"Content-Range": "0-5"})
    assert (first.status_code, first.headers["Range"]) == (202, "0-5")
    last = client(
        "PUT", f"{location}?digest={digest_of(b'hello world')}", data=b"world", headers={"Content-Range": "6-10"}
    )
    assert last.status_code == 201
    response = client("GET", last.headers["Location"])
    assert response.data == b"hello world"
    response.close()
    assert client("GET", location).status_code == 404


def test_upload_streamed_without_length_202(client: InProcess) -> None:
    location = client.begin()
    response = client(
        "PATCH",
        location,
        input_stream=io.BytesIO(b"hello"),
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert (response.status_code, response.headers["Range"]) == (202, "0-4")


@pytest.mark.parametrize("chunk", ["0-4", "9-13", "6-10", "nonsense", "5-1"])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_upload_chunk_out_of_order_416(client: InProcess, method: str, chunk: str) -> None:
    location = client.begin()
    client("PATCH", location, data=b"hello")
    path = f"{location}?digest={_ABSENT}" if method == "PUT" else location
    response = client(method, path, data=b"world", headers={"Content-Range": chunk})
    assert response.status_code == 416
    assert code_of(response) == "BLOB_UPLOAD_INVALID"
    if chunk[0].isdigit() and chunk != "5-1":
        assert (response.headers["Location"], response.headers["Range"]) == (location, "0-4")
    assert client("GET", location).headers["Range"] == "0-4"


def test_upload_chunk_whose_range_is_not_its_length_400(client: InProcess) -> None:
    response = client("PATCH", client.begin(), data=b"hello", headers={"Content-Range": "0-99"})
    assert response.status_code == 400
    assert code_of(response) == "SIZE_INVALID"


def test_upload_finish_without_digest_400(client: InProcess) -> None:
    response = client("PUT", client.begin(), data=b"hello")
    assert response.status_code == 400
    assert code_of(response) == "DIGEST_INVALID"


def test_upload_finish_with_another_digest_400_and_is_over(client: InProcess) -> None:
    location = client.begin()
    response = client("PUT", f"{location}?digest={_ABSENT}", data=b"hello")
    assert response.status_code == 400
    assert code_of(response) == "DIGEST_INVALID"
    assert client("GET", location).status_code == 404


def test_upload_cancel_204(client: InProcess) -> None:
    location = client.begin()
    assert client("DELETE", location).status_code == 204
    assert client("GET", location).status_code == 404
    assert client("DELETE", location).status_code == 404


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
    for response in (
        client("POST", f"/v2/team/app/blobs/uploads/?digest={digest_of(b'b' * 200)}", data=b"b" * 200),
        client("PATCH", location, data=b"c" * 200),
        client("POST", f"/v2/team/app/blobs/uploads/?mount={digest_of(b'b' * 5000)}&from=other/app"),
    ):
        assert response.status_code == 403
        assert code_of(response) == "DENIED"
        assert "quota" in json.loads(response.data)["errors"][0]["message"]
    assert client("GET", location).headers["Range"] == "0-0"
    client.push_blob(b"a" * 100)


def test_manifest_over_quota_403(make_bench: Callable[..., Bench]) -> None:
    client = make_bench(ServerSettings(access="open", policies=(Policy("*", quota_bytes=500),))).client
    client.push_blob(b"{}")
    manifest = manifest_of(b"{}", [], annotations={"a": "A" * 500})
    response = client.put_manifest(manifest, "v1")
    assert (response.status_code, code_of(response)) == (403, "DENIED")
    assert client("HEAD", "/v2/team/app/manifests/v1").status_code == 404


# /v2/<name>/tags/list


def test_tags_200_in_lexical_order_without_regard_to_case(client: InProcess) -> None:
    manifest = client.push_image("b")
    for tag in ("A", "c", "B", "a", "10", "9"):
        client.put_manifest(manifest, tag)
    response = client("GET", "/v2/team/app/tags/list")
    assert response.json == {"name": "team/app", "tags": ["10", "9", "A", "a", "B", "b", "c"]}


def test_tags_200_in_pages(client: InProcess) -> None:
    manifest = client.push_image("a")
    for tag in "bcde":
        client.put_manifest(manifest, tag)
    first = client("GET", "/v2/team/app/tags/list?n=2")
    assert first.json == {"name": "team/app", "tags": ["a", "b"]}
    assert first.headers["Link"] == '</v2/team/app/tags/list?n=2&last=b>; rel="next"'
    assert client("GET", "/v2/team/app/tags/list?n=2&last=b").json == {"name": "team/app", "tags": ["c", "d"]}
    last = client("GET", "/v2/team/app/tags/list?n=2&last=d")
    assert last.json == {"name": "team/app", "tags": ["e"]}
    assert "Link" not in last.headers
    assert client("GET", "/v2/team/app/tags/list?last=bb").json == {"name": "team/app", "tags": ["c", "d", "e"]}
    exact = client("GET", "/v2/team/app/tags/list?n=5")
    assert "Link" not in exact.headers


def test_tags_200_n_0_is_empty_without_link(client: InProcess) -> None:
    client.push_image("a")
    response = client("GET", "/v2/team/app/tags/list?n=0")
    assert response.json == {"name": "team/app", "tags": []}
    assert "Link" not in response.headers


@pytest.mark.parametrize("n", ["-1", "x", "1.5", "", "9" * 30])
@pytest.mark.parametrize("path", ["/v2/team/app/tags/list", "/v2/_catalog"])
def test_bad_page_size_400(client: InProcess, path: str, n: str) -> None:
    client.push_image("a")
    response = client("GET", f"{path}?n={n}")
    assert response.status_code == 400
    assert code_of(response) == "PAGINATION_NUMBER_INVALID"


def test_tags_404(client: InProcess) -> None:
    response = client("GET", "/v2/nobody/here/tags/list")
    assert response.status_code == 404
    assert code_of(response) == "NAME_UNKNOWN"


# /v2/<name>/referrers/<digest>


def test_referrers_200_empty(client: InProcess) -> None:
    response = client("GET", f"/v2/nobody/here/referrers/{_ABSENT}")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == OCI_INDEX
    assert response.json == {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}


def test_referrers_200_with_filter(client: InProcess) -> None:
    subject = client.push_image("v1")
    about = descriptor(subject, OCI_MANIFEST)
    signature = client.push_image(subject=about, artifactType="application/signature", annotations={"by": "me"})
    plain = client.push_image(subject=about)
    index = index_of([subject], subject=about, artifactType="application/bundle")
    client.put_manifest(index, media_type=OCI_INDEX)
    path = f"/v2/team/app/referrers/{digest_of(subject)}"
    every = client("GET", path)
    assert {item["digest"]: item for item in json.loads(every.data)["manifests"]} == {
        digest_of(signature): descriptor(
            signature, OCI_MANIFEST, artifactType="application/signature", annotations={"by": "me"}
        ),
        digest_of(plain): descriptor(plain, OCI_MANIFEST, artifactType="application/vnd.oci.image.config.v1+json"),
        digest_of(index): descriptor(index, OCI_INDEX, artifactType="application/bundle"),
    }
    assert "OCI-Filters-Applied" not in every.headers
    some = client("GET", f"{path}?artifactType=application/signature")
    assert [item["digest"] for item in json.loads(some.data)["manifests"]] == [digest_of(signature)]
    assert some.headers["OCI-Filters-Applied"] == "artifactType"


def test_referrers_200_in_pages_that_clients_can_take(client: InProcess) -> None:
    subject = client.push_image("v1")
    about = descriptor(subject, OCI_MANIFEST)
    pushed = {
        digest_of(client.push_image(subject=about, annotations={"n": str(n), "x": "A" * 1_200_000})) for n in range(5)
    }
    path, found = f"/v2/team/app/referrers/{digest_of(subject)}", set()
    while path:
        response = client("GET", path)
        assert len(response.data) < 4 << 20
        found |= {item["digest"] for item in json.loads(response.data)["manifests"]}
        path = response.headers.get("Link", "<>").partition("<")[2].partition(">")[0]
    assert found == pushed


def test_referrers_malformed_digest_400(client: InProcess) -> None:
    response = client("GET", "/v2/team/app/referrers/sha256:bad")
    assert response.status_code == 400
    assert code_of(response) == "DIGEST_INVALID"


# /v2/_catalog


def test_catalog_200_in_pages(client: InProcess) -> None:
    for name in ("c", "a/b", "d"):
        client.push_blob(b"x", name=name)
    assert client("GET", "/v2/_catalog").json == {"repositories": ["a/b", "c", "d"]}
    first = client("GET", "/v2/_catalog?n=2")
    assert first.json == {"repositories": ["a/b", "c"]}
    assert first.headers["Link"] == '</v2/_catalog?n=2&last=c>; rel="next"'
    assert client("GET", "/v2/_catalog?n=2&last=c").json == {"repositories": ["d"]}


def test_every_status_that_the_documentation_lists_has_its_test() -> None:
    checkout = Path(__file__).resolve().parents[3]
    named = set(re.findall(r"`(test_\w+)`", (checkout / "docs" / "registry.md").read_text().partition("## Server")[2]))
    files = Path(__file__).parent.glob("test_*.py")
    there = set(re.findall(r"^def (test_\w+)", "".join(path.read_text() for path in files), re.MULTILINE))
    assert named
    assert named - there == set()
