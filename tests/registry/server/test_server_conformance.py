"""The checks of distribution-spec's conformance program, against a running server, under the names they have there.

Written anew from what the program of 2025 checks (as version 1.1+dev, so that nothing is left out): its data sets, its
ways to push a blob, and for each data set push, list, head, pull, referrers and delete. The program itself needs Go.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
import urllib3

from core.digests import Digest
from tests.registry.server.conformance import ACCEPT, ARTIFACT_1, ARTIFACT_2, GZIPPED, Data, Registry, Target
from tests.registry.server.serving import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    descriptor,
    digest_of,
    index_of,
    serving,
)
from tests.toolkit.bounds import stretched
from tests.toolkit.shiplap import Shiplap, start_service


@pytest.fixture(scope="module", params=["registry serve", "serve"])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """``shiplap registry serve``, open; and the registry of ``shiplap serve``, with its administrator's token."""
    root = tmp_path_factory.mktemp("conformance") / "root"
    with contextlib.ExitStack() as stack:
        http = stack.enter_context(urllib3.PoolManager(retries=False, maxsize=32))
        if request.param == "registry serve":
            yield Target(stack.enter_context(serving(root)).url, http)
            return
        url, process = start_service(Shiplap(root))
        stack.callback(process.wait, stretched(60))
        stack.callback(process.terminate)
        yield Target(url, http, (root / "serve" / "admin.token").read_text().strip())


@pytest.fixture
def registry(target: Target) -> Registry:
    return Registry(target)


_Push = Callable[[Registry, Digest, bytes], urllib3.BaseHTTPResponse]
_PUSHES: dict[str, tuple[int, _Push]] = {
    "post only": (512, lambda r, digest, data: r.post_only(digest, data)),
    "post+put": (512, lambda r, digest, data: r.post_put(digest, data)),
    "chunked single": (512, lambda r, digest, data: r.chunked(digest, data)),
    "stream": (512, lambda r, digest, data: r.streamed(digest, data)),
    "chunked multi": (3067, lambda r, digest, data: r.chunked(digest, data)),
    "chunked multi and put chunk": (3067, lambda r, digest, data: r.chunked(digest, data, put_last=True)),
    "chunked out-of-order": (3067, lambda r, digest, data: r.chunked(digest, data, out_of_order=True)),
    "chunked out-of-order and put chunk": (
        3067,
        lambda r, digest, data: r.chunked(digest, data, put_last=True, out_of_order=True),
    ),
}
_BAD_PUSHES: dict[str, Callable[[Registry, Digest, bytes], object]] = {
    "bad digest post only": lambda r, digest, data: r.post_only(digest, data, 400),
    "bad digest post+put": lambda r, digest, data: r.post_put(digest, data, 400),
    "bad digest chunked": lambda r, digest, data: r.chunked(digest, data, 400),
    "bad digest chunked and put chunk": lambda r, digest, data: r.chunked(digest, data, 400, put_last=True),
    "bad digest stream": lambda r, digest, data: r.streamed(digest, data, 400),
}
_algorithms = pytest.mark.parametrize("algorithm", ["sha256", "sha512"])


def test_ping(registry: Registry) -> None:
    registry("GET", "/v2/", 200)


def test_empty_tag_list(registry: Registry) -> None:
    registry("GET", f"/v2/{registry.repo}/tags/list", 404)


def test_empty_referrers(registry: Registry) -> None:
    response = registry("GET", f"/v2/{registry.repo}/referrers/{digest_of(os.urandom(8))}", 200)
    assert response.headers["Content-Type"] == OCI_INDEX
    assert response.json() == {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}


@_algorithms
def test_blobs_get_missing(registry: Registry, algorithm: str) -> None:
    registry("GET", f"/v2/{registry.repo}/blobs/{digest_of(os.urandom(8), algorithm)}", 404)


@_algorithms
@pytest.mark.parametrize("name", _PUSHES)
def test_blobs(registry: Registry, algorithm: str, name: str) -> None:
    size, push = _PUSHES[name]
    data = os.urandom(size)
    digest = digest_of(data, algorithm)
    response = push(registry, digest, data)
    assert response.headers["Docker-Content-Digest"] == digest
    registry.verify_blob(digest, data, response.headers["Location"])
    registry.verify_blob(digest, data)
    registry.delete_blob(digest)


@_algorithms
@pytest.mark.parametrize("name", ["mount", "mount anonymous"])
def test_blobs_mount(registry: Registry, algorithm: str, name: str) -> None:
    data = os.urandom(512)
    digest = digest_of(data, algorithm)
    registry.post_only(digest, data)
    source, registry.repo = registry.repo, f"{registry.repo}-target"
    query = f"mount={quote(digest)}" + (f"&from={quote(source, safe='')}" if name == "mount" else "")
    response = registry("POST", f"/v2/{registry.repo}/blobs/uploads/?{query}", 201)
    registry.verify_blob(digest, data, response.headers["Location"])
    registry.delete_blob(digest)
    registry.repo = source
    registry.delete_blob(digest)


@_algorithms
def test_blobs_mount_missing(registry: Registry, algorithm: str) -> None:
    data = os.urandom(512)
    digest = digest_of(data, algorithm)
    path = f"/v2/{registry.repo}/blobs/uploads/?mount={digest}&from={registry.repo}-other"
    location = registry("POST", path, 202).headers["Location"]
    registry("PUT", f"{location}?digest={digest}", 201, body=data)
    registry.verify_blob(digest, data)


def test_blobs_post_cancel(registry: Registry) -> None:
    location = registry.begin()
    registry("DELETE", location, 204)
    registry("GET", location, 404)


@_algorithms
@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [("500-1499", 500, 1500), ("500-", 500, 2048), ("-500", 1548, 2048), ("2000-5000", 2000, 2048)],
)
def test_blobs_range_requests(registry: Registry, algorithm: str, asked: str, first: int, end: int) -> None:
    data = os.urandom(2048)
    digest = digest_of(data, algorithm)
    registry.post_only(digest, data)
    response = registry("GET", f"/v2/{registry.repo}/blobs/{digest}", 206, headers={"Range": f"bytes={asked}"})
    assert response.data == data[first:end]
    assert response.headers["Content-Length"] == str(end - first)
    assert response.headers["Content-Range"] == f"bytes {first}-{end - 1}/2048"


@_algorithms
@pytest.mark.parametrize("asked", ["500-0", "5000-10000"])
def test_blobs_range_requests_that_cannot_be_satisfied(registry: Registry, algorithm: str, asked: str) -> None:
    data = os.urandom(2048)
    digest = digest_of(data, algorithm)
    registry.post_only(digest, data)
    registry("GET", f"/v2/{registry.repo}/blobs/{digest}", 416, headers={"Range": f"bytes={asked}"})


@_algorithms
@pytest.mark.parametrize("data", [b"", b"{}"], ids=["empty", "emptyJSON"])
@pytest.mark.parametrize("name", ["post only", "post+put", "stream"])
def test_blobs_well_known(registry: Registry, algorithm: str, data: bytes, name: str) -> None:
    digest = digest_of(data, algorithm)
    _PUSHES[name][1](registry, digest, data)
    registry.verify_blob(digest, data)
    registry.delete_blob(digest)


@_algorithms
@pytest.mark.parametrize("name", _BAD_PUSHES)
def test_blobs_bad_digest(registry: Registry, algorithm: str, name: str) -> None:
    data = os.urandom(3067)
    digest = digest_of(data, algorithm)
    _BAD_PUSHES[name](registry, digest, data + b"oh no")
    registry("HEAD", f"/v2/{registry.repo}/blobs/{digest}", 404)


def _index(data: Data, tag: str = "", **more: Any) -> Data:
    data.index([data.image(), data.image()], tag, **more)
    return data


def _nested_index(data: Data) -> Data:
    inner = [data.index([data.image(), data.image()]) for _ in range(2)]
    data.index(inner, "index-of-index", media_type=OCI_INDEX)
    return data


def _with_subject(data: Data) -> Data:
    about = descriptor(data.image("image"), OCI_MANIFEST)
    data.image(subject=about)
    for number, kind in ((1, ARTIFACT_1), (2, ARTIFACT_2)):
        notes = {"org.opencontainers.conformance": "hello conformance test", "org.example": os.urandom(8).hex()}
        data.artifact(f"tagged-artifact{number}", kind=kind, subject=about, annotations=notes)
    return data


def _index_with_subject(data: Data) -> Data:
    about = descriptor(data.index([data.image(), data.image()], "index"), OCI_INDEX)
    notes = {"org.opencontainers.conformance": "hello conformance test"}
    children = [data.artifact(), data.artifact()]
    data.index(children, "tagged-artifact", artifactType=ARTIFACT_1, subject=about, annotations=notes)
    return data


def _non_distributable(data: Data) -> Data:
    layers = []
    for suffix in ("tar+gzip", "tar"):
        media_type = f"application/vnd.oci.image.layer.nondistributable.v1.{suffix}"
        absent = descriptor(os.urandom(8), media_type)
        layers.append(absent | {"size": 123456, "urls": [f"https://store.example.com/blobs/{absent['digest']}"]})
    layers.append(data.blob(os.urandom(100), GZIPPED))
    data.manifest(data.blob(b'{"os":"linux","architecture":"amd64"}', OCI_CONFIG), layers, "non-distributable-image")
    return data


def _image(data: Data, *args: Any, **options: Any) -> Data:
    data.image(*args, **options)
    return data


def _artifact(data: Data, *args: Any, **options: Any) -> Data:
    data.artifact(*args, **options)
    return data


def _artifact_index(data: Data) -> Data:
    data.index([data.artifact(), data.artifact()], "artifact-index", artifactType=ARTIFACT_1)
    return data


def _tagged_by_parameters(data: Data) -> Data:
    data.index([data.image(), data.image()], "tag-param")
    data.tags |= {f"tag-param-{number}": digest for number, digest in enumerate(data.manifests)}
    return data


_DATA: dict[str, Callable[[], Data]] = {
    "image": lambda: _image(Data(), "image"),
    "image-uncompressed": lambda: _image(Data(), "image-uncompressed", compress=False),
    "large-manifest": lambda: _image(
        Data(), "large-manifest", annotations={f"large-annotation-{i}": "A" * 10_000 for i in range(390)}
    ),
    "index": lambda: _index(Data(), "index"),
    "nested-index": lambda: _nested_index(Data()),
    "empty-index": lambda: Data(
        manifests={digest_of(index_of([])): index_of([])}, tags={"index": digest_of(index_of([]))}
    ),
    "artifact": lambda: _artifact(Data(), "artifact"),
    "artifact-index": lambda: _artifact_index(Data()),
    "artifact-without-layers": lambda: _artifact(Data(), "artifact-without-layers", layer=b"{}"),
    "artifacts-with-subject": lambda: _with_subject(Data()),
    "index-with-subject": lambda: _index_with_subject(Data()),
    "missing-subject": lambda: _artifact(
        Data(), "tagged-artifact", subject=descriptor(b"missing content", OCI_MANIFEST), annotations={"a": "b"}
    ),
    "data-field": lambda: _image(Data(with_data=True), "data-field"),
    "non-distributable-layers": lambda: _non_distributable(Data()),
    "custom-fields": lambda: _index(Data(extra={"org.example.custom": {"deep": [1, None]}}), "custom-fields"),
    "no-layers": lambda: _image(Data(), "no-layers", layers=0),
    "sha512": lambda: _index(Data(algorithm="sha512")),
    "tag-param-sha256": lambda: _tagged_by_parameters(Data(tag_parameters=True)),
    "tag-param-sha512": lambda: _tagged_by_parameters(Data(algorithm="sha512", tag_parameters=True)),
}


@pytest.mark.parametrize("name", _DATA)
def test_data(registry: Registry, name: str) -> None:
    data = _DATA[name]()
    _push(registry, data)
    _list_tags(registry, data)
    for reference, digest in [*data.tags.items(), *((digest, digest) for digest in data.manifests)]:
        registry.verify_manifest(f"/v2/{registry.repo}/manifests/{reference}", data.manifests[digest], digest)
    for digest, blob in data.blobs.items():
        registry.verify_blob(digest, blob)
    _list_referrers(registry, data)
    _delete(registry, data)


def _push(registry: Registry, data: Data) -> None:
    ways = itertools.cycle(_PUSHES[name][1] for name in ("post+put", "post only", "stream", "chunked single"))
    for digest, blob in data.blobs.items():
        next(ways)(registry, digest, blob) if blob else registry.post_only(digest, blob)
    for digest, manifest in data.manifests.items():
        tags = [tag for tag, target in data.tags.items() if target == digest] if data.tag_parameters else []
        query = "?" + "&".join(f"tag={tag}" for tag in tags) if tags else ""
        response = registry.put_manifest(f"{digest}{query}", manifest)
        assert set(response.headers.getlist("OCI-Tag")) == set(tags)
        _verify_push(registry, response, manifest, digest)
    for tag, digest in data.tags.items() if not data.tag_parameters else ():
        _verify_push(registry, registry.put_manifest(tag, data.manifests[digest]), data.manifests[digest], digest)


def _verify_push(registry: Registry, response: urllib3.BaseHTTPResponse, manifest: bytes, digest: Digest) -> None:
    assert response.headers["Docker-Content-Digest"] == digest
    subject = json.loads(manifest).get("subject")
    assert response.headers.get("OCI-Subject") == (subject["digest"] if subject else None)
    registry.verify_manifest(response.headers["Location"], manifest, digest)


def _list_tags(registry: Registry, data: Data) -> None:
    listed = registry("GET", f"/v2/{registry.repo}/tags/list", 200).json()
    assert listed == {"name": registry.repo, "tags": sorted(data.tags)}
    for position, tag in enumerate(sorted(data.tags)):
        rest = registry("GET", f"/v2/{registry.repo}/tags/list?last={tag}", 200).json()
        assert rest["tags"] == sorted(data.tags)[position + 1 :]


def _list_referrers(registry: Registry, data: Data) -> None:
    def by_digest(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {item["digest"]: item for item in items}

    for subject, expected in data.referrers.items():
        path = f"/v2/{registry.repo}/referrers/{subject}"
        listed = registry("GET", path, 200).json()
        assert by_digest(listed["manifests"]) == by_digest(expected)
        for kind in {item.get("artifactType", "") for item in expected} - {""}:
            response = registry("GET", f"{path}?artifactType={quote(kind, safe='')}", 200)
            assert response.headers["OCI-Filters-Applied"] == "artifactType"
            wanted = [item for item in expected if item.get("artifactType") == kind]
            assert by_digest(response.json()["manifests"]) == by_digest(wanted)


def _delete(registry: Registry, data: Data) -> None:
    references = [*data.tags, *reversed(data.manifests)]
    for reference in references:
        registry("DELETE", f"/v2/{registry.repo}/manifests/{reference}", 202)
        registry("HEAD", f"/v2/{registry.repo}/manifests/{reference}", 404)
    for digest in data.blobs:
        registry.delete_blob(digest)


def test_bad_digest_image(registry: Registry) -> None:
    data = Data()
    manifest = data.image()
    for digest, blob in data.blobs.items():
        registry.post_only(digest, blob)
    registry.put_manifest(digest_of(manifest), manifest + b"  ", 400)


@pytest.mark.parametrize("reference", ["missing-tag", digest_of(b"missing")])
def test_missing_manifest(registry: Registry, reference: str) -> None:
    registry("GET", f"/v2/{registry.repo}/manifests/{reference}", 404, headers={"Accept": ACCEPT})


def test_invalid_digest_format(registry: Registry) -> None:
    data = Data()
    manifest = data.image(layers=1)
    for digest, blob in data.blobs.items():
        registry.post_only(digest, blob)
    registry.put_manifest("sha256:baddigeststring", manifest, 400)
    registry("GET", f"/v2/{registry.repo}/manifests/sha256:baddigeststring", 400)
