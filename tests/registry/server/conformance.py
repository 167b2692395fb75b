"""What the conformance tests push, and the requests that they send, each with what it expects."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import os
from dataclasses import dataclass, field
from typing import Any

import urllib3

from core.digests import Digest
from tests.registry.server.serving import (
    EMPTY_JSON,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    OCTETS,
    descriptor,
    digest_of,
    encode,
    index_of,
)

ACCEPT = f"{OCI_INDEX}, {OCI_MANIFEST}"
_CHUNK = 1024
ARTIFACT_1 = "application/vnd.example.oci.conformance.v1"
ARTIFACT_2 = "application/vnd.example.oci.conformance.v2"
GZIPPED = "application/vnd.oci.image.layer.v1.tar+gzip"
_PLATFORMS = ({"os": "linux", "architecture": "amd64"}, {"os": "linux", "architecture": "arm64"})
_numbers = itertools.count()


@dataclass
class Data:
    """What is pushed: blobs and manifests by digest, in the order to push; tags; what refers to what."""

    algorithm: str = "sha256"
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    manifests: dict[Digest, bytes] = field(default_factory=dict)
    tags: dict[str, Digest] = field(default_factory=dict)
    referrers: dict[Digest, list[dict[str, Any]]] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    with_data: bool = False
    tag_parameters: bool = False

    def blob(self, data: bytes, media_type: str = OCTETS) -> dict[str, Any]:
        digest = digest_of(data, self.algorithm)
        self.blobs[digest] = data
        made = descriptor(data, media_type, algorithm=self.algorithm)
        if self.with_data:
            made["data"] = base64.b64encode(data).decode()
        return made

    def image(self, tag: str = "", *, layers: int = 2, compress: bool = True, **more: Any) -> bytes:
        made = []
        for _ in range(layers):
            content = os.urandom(200)
            made.append(self.blob(gzip.compress(content) if compress else content, GZIPPED))
        config = self.blob(encode({"architecture": "amd64", "os": "linux", "n": os.urandom(8).hex()}), OCI_CONFIG)
        return self.manifest(config, made, tag, **more)

    def artifact(self, tag: str = "", *, kind: str = ARTIFACT_1, layer: bytes | None = None, **more: Any) -> bytes:
        config = self.blob(b"{}", EMPTY_JSON)
        blob = self.blob(os.urandom(2048), kind) if layer is None else self.blob(layer, EMPTY_JSON)
        return self.manifest(config, [blob], tag, artifactType=kind, **more)

    def manifest(self, config: dict[str, Any], layers: list[dict[str, Any]], tag: str = "", **more: Any) -> bytes:
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}
        return self._add(document | more | self.extra, tag, more.get("artifactType") or config["mediaType"])

    def index(self, children: list[bytes], tag: str = "", *, media_type: str = OCI_MANIFEST, **more: Any) -> bytes:
        document = json.loads(index_of(children, media_type=media_type, algorithm=self.algorithm))
        for child, platform in zip(document["manifests"], _PLATFORMS, strict=False):
            child["platform"] = platform
        return self._add(document | more | self.extra, tag, more.get("artifactType", ""))

    def _add(self, document: dict[str, Any], tag: str, artifact_type: str) -> bytes:
        data = encode(document)
        digest = digest_of(data, self.algorithm)
        self.manifests[digest] = data
        if tag:
            self.tags[tag] = digest
        if "subject" in document:
            entry = {"mediaType": document["mediaType"], "digest": digest, "size": len(data)}
            if artifact_type:
                entry["artifactType"] = artifact_type
            if "annotations" in document:
                entry["annotations"] = document["annotations"]
            self.referrers.setdefault(document["subject"]["digest"], []).append(entry)
        return data


@dataclass(frozen=True)
class Target:
    """A registry that runs. token: opens it, as a Bearer's; empty where it is open."""

    url: str
    http: urllib3.PoolManager
    token: str = ""

    def __call__(self, method: str, path: str, **options: Any) -> urllib3.BaseHTTPResponse:
        """Send a request; path may be a Location."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        url = path if "://" in path else self.url + path
        return self.http.request(method, url, headers=headers | options.pop("headers", {}), **options)


class Registry:
    """The requests of the program, each with what it expects."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.repo = f"conformance/repo{next(_numbers)}"

    def __call__(self, method: str, path: str, expect: int, **options: Any) -> urllib3.BaseHTTPResponse:
        response = self._target(method, path, **options)
        assert response.status == expect, (method, path, response.status, response.data[:300])
        return response

    def begin(self) -> str:
        return self("POST", f"/v2/{self.repo}/blobs/uploads/", 202).headers["Location"]

    def post_only(self, digest: Digest, data: bytes, expect: int = 201) -> urllib3.BaseHTTPResponse:
        return self("POST", f"/v2/{self.repo}/blobs/uploads/?digest={digest}", expect, body=data)

    def post_put(self, digest: Digest, data: bytes, expect: int = 201) -> urllib3.BaseHTTPResponse:
        return self("PUT", f"{self.begin()}?digest={digest}", expect, body=data, headers={"Content-Type": OCTETS})

    def chunked(
        self,
        digest: Digest,
        data: bytes,
        expect: int = 201,
        *,
        chunk: int = _CHUNK,
        put_last: bool = False,
        out_of_order: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        location, at = self.begin(), 0
        while at < len(data):
            if out_of_order:
                location = self._out_of_order(location, at, data, chunk, digest, put_last=put_last)
            end = min(at + chunk, len(data))
            last = put_last and end == len(data)
            response = self(
                "PUT" if last else "PATCH",
                f"{location}?digest={digest}" if last else location,
                expect if last else 202,
                body=data[at:end],
                headers={"Content-Range": f"{at}-{end - 1}", "Content-Type": OCTETS},
            )
            location, at = response.headers.get("Location", ""), end
        return response if put_last else self("PUT", f"{location}?digest={digest}", expect)

    def _out_of_order(self, location: str, at: int, data: bytes, chunk: int, digest: Digest, *, put_last: bool) -> str:
        start = at + chunk if at + chunk < len(data) else 0
        end = min(start + chunk, len(data))
        last = put_last and end == len(data)
        self(
            "PUT" if last else "PATCH",
            f"{location}?digest={digest}" if last else location,
            416,
            body=data[start:end],
            headers={"Content-Range": f"{start}-{end - 1}", "Content-Type": OCTETS},
        )
        status = self("GET", location, 204)
        assert status.headers["Range"] == f"0-{max(0, at - 1)}"
        return status.headers["Location"]

    def streamed(self, digest: Digest, data: bytes, expect: int = 201) -> urllib3.BaseHTTPResponse:
        pieces = (data[i : i + 100] for i in range(0, len(data), 100))
        location = self("PATCH", self.begin(), 202, body=pieces, headers={"Content-Type": OCTETS}).headers["Location"]
        return self("PUT", f"{location}?digest={digest}", expect)

    def verify_blob(self, digest: Digest, data: bytes, location: str = "") -> None:
        for method, body in (("HEAD", b""), ("GET", data)):
            response = self(method, location or f"/v2/{self.repo}/blobs/{digest}", 200)
            assert response.data == body
            assert response.headers["Content-Length"] == str(len(data))
            assert response.headers["Docker-Content-Digest"] == digest

    def delete_blob(self, digest: Digest) -> None:
        self("DELETE", f"/v2/{self.repo}/blobs/{digest}", 202)
        self("HEAD", f"/v2/{self.repo}/blobs/{digest}", 404)

    def put_manifest(self, reference: str, data: bytes, expect: int = 201) -> urllib3.BaseHTTPResponse:
        media_type = json.loads(data)["mediaType"]
        path = f"/v2/{self.repo}/manifests/{reference}"
        return self("PUT", path, expect, body=data, headers={"Content-Type": media_type})

    def verify_manifest(self, path: str, data: bytes, digest: Digest) -> None:
        for method, body in (("HEAD", b""), ("GET", data)):
            response = self(method, path, 200, headers={"Accept": ACCEPT})
            assert response.data == body
            assert response.headers["Content-Type"] == json.loads(data)["mediaType"]
            assert response.headers["Content-Length"] == str(len(data))
            assert response.headers["Docker-Content-Digest"] == digest
