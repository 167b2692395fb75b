"""A registry server in a process of its own, images to push, and the registry in-process, for the tests here."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from core.digests import Digest
from tests.toolkit.bounds import stretched

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
EMPTY_JSON = "application/vnd.oci.empty.v1+json"
OCTETS = "application/octet-stream"

_CHECKOUT = Path(__file__).resolve().parents[3]


def digest_of(data: bytes, algorithm: str = "sha256") -> Digest:
    return Digest(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")


def descriptor(data: bytes, media_type: str = OCTETS, *, algorithm: str = "sha256", **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data, algorithm), "size": len(data)} | more


def encode(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def manifest_of(config: bytes, layers: list[bytes], *, algorithm: str = "sha256", **more: Any) -> bytes:
    """An image manifest; ``more`` are further members."""
    return encode(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(config, OCI_CONFIG, algorithm=algorithm),
            "layers": [descriptor(layer, OCI_LAYER, algorithm=algorithm) for layer in layers],
        }
        | more
    )


def index_of(
    manifests: list[bytes], *, media_type: str = OCI_MANIFEST, algorithm: str = "sha256", **more: Any
) -> bytes:
    children = [descriptor(manifest, media_type, algorithm=algorithm) for manifest in manifests]
    return encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children} | more)


def code_of(response: TestResponse | urllib3.BaseHTTPResponse) -> str:
    """The code of the first error that an answer reports."""
    document = json.loads(response.data)
    assert list(document) == ["errors"]
    return str(document["errors"][0]["code"])


@dataclass
class InProcess:
    """A registry without a network. What it answers are Flask's test responses."""

    http: FlaskClient
    name: str = "team/app"
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(self, method: str, path: str, **options: Any) -> TestResponse:
        headers = self.headers | options.pop("headers", {})
        return self.http.open(path, method=method, headers=headers, **options)

    def push_blob(self, data: bytes, *, name: str = "", algorithm: str = "sha256") -> Digest:
        digest = digest_of(data, algorithm)
        response = self("POST", f"/v2/{name or self.name}/blobs/uploads/?digest={digest}", data=data)
        assert response.status_code == 201, response.data
        return digest

    def blob(self, digest: Digest, *, name: str = "") -> bytes:
        """The bytes of a blob."""
        with self("GET", f"/v2/{name or self.name}/blobs/{digest}") as response:
            assert response.status_code == 200, response.data
            return bytes(response.data)

    def begin(self, *, name: str = "") -> str:
        response = self("POST", f"/v2/{name or self.name}/blobs/uploads/")
        assert response.status_code == 202, response.data
        return response.headers["Location"]

    def put_manifest(
        self, data: bytes, reference: str = "", *, name: str = "", media_type: str = OCI_MANIFEST
    ) -> TestResponse:
        path = f"/v2/{name or self.name}/manifests/{reference or digest_of(data)}"
        return self("PUT", path, data=data, content_type=media_type)

    def push_image(
        self, tag: str = "", *, name: str = "", layers: tuple[bytes, ...] = (b"layer",), **more: Any
    ) -> bytes:
        """Push a whole image and return its manifest."""
        config = encode({"architecture": "amd64", "os": "linux", "tag": tag})
        for blob in (config, *layers):
            self.push_blob(blob, name=name)
        manifest = manifest_of(config, list(layers), **more)
        response = self.put_manifest(manifest, tag, name=name)
        assert response.status_code == 201, response.data
        return manifest


class Server:
    """``shiplap registry serve`` in a process group of its own, on a free port of 127.0.0.1."""

    def __init__(self, root: Path, *options: str, env: dict[str, str] | None = None) -> None:
        self.root = root
        self._options = options
        self._env = env or {}
        self.http = urllib3.PoolManager(retries=False, maxsize=32)
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "cli", "--root", str(self.root), "registry", "serve"]
        listen = () if "--listen" in self._options else ("--listen", "127.0.0.1:0")
        self.process = subprocess.Popen(
            [*command, *listen, *self._options],
            stdout=subprocess.PIPE,
            cwd=_CHECKOUT,
            text=True,
            start_new_session=True,
            env=os.environ | self._env,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("registry at "), line
        self.url = line.split()[2]
        self.host = self.url.partition("://")[2]

    def __call__(self, method: str, path: str, **options: Any) -> urllib3.BaseHTTPResponse:
        """Send a request; path may be a Location."""
        url = path if "://" in path else self.url + path
        return self.http.request(method, url, **options)

    def workers(self) -> list[int]:
        """The processes that serve."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def peak_memory(self) -> int:
        """Bytes that the largest process of the server ever had resident."""
        peaks = []
        for pid in (self.process.pid, *self.workers()):
            status = Path(f"/proc/{pid}/status").read_text()
            peaks += [int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:")]
        return max(peaks)

    def kill(self) -> None:
        """SIGKILL everything, at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self._ended()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self._ended()

    def _ended(self) -> int:
        code = self.process.wait(timeout=stretched(60))
        self.http.clear()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@contextlib.contextmanager
def serving(root: Path, *options: str, env: dict[str, str] | None = None) -> Iterator[Server]:
    server = Server(root, *options, env=env)
    try:
        yield server
    finally:
        server.stop()
