"""Images for the registry of the browser's tests, put there without HTTP; and a build cache."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import time
from pathlib import Path
from typing import Any

from core.digests import Digest
from images.records import CacheRecord
from images.store import Store
from registry.server.content import Blob
from registry.server.registry import Registry
from tests.web.browser.stage import HOSTILE

_OCI = "application/vnd.oci.image"
_MANIFEST, _INDEX = f"{_OCI}.manifest.v1+json", f"{_OCI}.index.v1+json"

Files = dict[str, bytes | str | None]
"""Content by path: bytes of a file, None for a directory, text for where a symbolic link leads."""

BASE: Files = {
    "etc": None, "etc/motd": b"welcome\n", "etc/passwd": b"root:x:0:0::/root:/bin/sh\n", "usr": None,
    "usr/bin": None, "usr/bin/sh": bytes(120_000), "usr/bin/tide": bytes(64_000), "usr/share": None,
    "usr/share/doc": None, "usr/share/doc/copyright": b"free\n" * 100, "bin": "usr/bin",
}  # fmt: skip
ABOVE: Files = {
    "etc/motd": b"served by the harbour\n", "srv": None, "srv/www": None, "srv/www/index.html": b"<h1>tide</h1>\n" * 20,
    "srv/www/tides.json": b"{}" * 300, "usr/share/.wh.doc": b"",
}  # fmt: skip
CONFIG: dict[str, Any] = {
    "architecture": "amd64", "os": "linux", "created": "2026-11-20T08:00:00Z",
    "config": {
        "Env": ["PATH=/usr/bin", "PORT=8080"], "Entrypoint": ["/usr/bin/tide"],
        "Cmd": ["--listen", ":8080"], "User": "tide",
        "WorkingDir": "/srv/www", "ExposedPorts": {"8080/tcp": {}},
        "Labels": {"org.opencontainers.image.source": "https://git.example.org/harbour/web"},
    },
}  # fmt: skip
HISTORY = [
    {"created_by": "ADD rootfs.tar / # buildkit"},
    {"created_by": "ENV PORT=8080", "empty_layer": True},
    {"created_by": "COPY . /srv/www # buildkit"},
    {"created_by": 'CMD ["--listen" ":8080"]', "empty_layer": True},
]
SPDX = {
    "_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://spdx.dev/Document",
    "predicate": {"spdxVersion": "SPDX-2.3", "packages": [
        {"name": "libc6", "versionInfo": "2.41-12", "licenseDeclared": "LGPL-2.1"},
        {"name": "tide", "versionInfo": "2.1.0", "licenseDeclared": "Apache-2.0"},
    ]},
}  # fmt: skip


class Stock:
    """Pushes into ``registry``."""

    def __init__(self, registry: Registry, repository: str) -> None:
        self._registry = registry
        self._repository = repository

    def blob(self, data: bytes, media_type: str, **members: Any) -> dict[str, Any]:
        """A descriptor of what is now a blob."""

        def register(connection: Any, content: Digest) -> None:
            self._registry.content.link(connection, self._repository, Blob(content, content, len(data)))

        self._registry.content.put_bytes(data, register)
        return {"mediaType": media_type, "digest": Digest.of(data), "size": len(data), **members}

    def manifest(self, document: dict[str, Any], *tags: str) -> dict[str, Any]:
        """A descriptor of what is now a manifest."""
        data = json.dumps({"schemaVersion": 2, **document}).encode()
        media_type = document["mediaType"]
        pushed = self._registry.manifests.put(self._repository, data, media_type, digest=None, tags=tags)
        return {"mediaType": media_type, "digest": pushed.digest, "size": len(data)}

    def image(self, layers: list[bytes], *tags: str, **changes: Any) -> dict[str, Any]:
        """An image of these layer tars. changes: of its config."""
        diff_ids = [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in layers]
        config = {**CONFIG, "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": HISTORY, **changes}
        described = [self.blob(gzip.compress(tar, 1, mtime=0), f"{_OCI}.layer.v1.tar+gzip") for tar in layers]
        return self.manifest(
            {
                "mediaType": _MANIFEST,
                "config": self.blob(json.dumps(config).encode(), f"{_OCI}.config.v1+json"),
                "layers": described,
            },
            *tags,
        )


def stock(registry: Registry) -> None:
    """``harbour/web`` with the tags main and stable (images) and v2 (an index with an SBOM); ``harbour/tide``."""
    shelf = Stock(registry, "harbour/web")
    layers = [layer_tar(BASE), layer_tar(ABOVE)]
    image = shelf.image(layers, "main", "v2.1.0-amd64")
    statement = shelf.blob(
        json.dumps(SPDX).encode(), "application/vnd.in-toto+json",
        annotations={"in-toto.io/predicate-type": "https://spdx.dev/Document"},
    )  # fmt: skip
    empty = shelf.blob(b"{}", f"{_OCI}.config.v1+json")
    attestation = shelf.manifest({"mediaType": _MANIFEST, "config": empty, "layers": [statement]})
    about = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image["digest"]}
    unknown = {"os": "unknown", "architecture": "unknown"}
    entries = [
        {**image, "platform": {"os": "linux", "architecture": "amd64"}},
        {**attestation, "platform": unknown, "annotations": about},
    ]
    shelf.manifest({"mediaType": _INDEX, "manifests": entries}, "v2")
    signature = shelf.blob(b"signed", "application/octet-stream")
    shelf.manifest(
        {
            "mediaType": _MANIFEST, "artifactType": "application/vnd.example.signature", "config": empty,
            "layers": [signature], "subject": image, "annotations": {"by": "ada"},
        }
    )  # fmt: skip
    shelf.image([layers[0], layer_tar({**ABOVE, "srv/www/new.html": b"new", "usr/bin/tide": bytes(70_000)})], "stable")
    Stock(registry, "harbour/tide").image(layers[:1], "nightly")


def stock_cache(root: Path) -> None:
    """Some steps that were built before, by a process that is gone."""
    steps = (
        ("[deps 3/3] RUN npm ci", 3_400_000),
        ("[api 2/2] RUN go build", 900_000),
        ("[final 1/3] COPY /srv", 40_000),
    )
    with Store.open(root) as store:
        for age_h, (name, size) in enumerate(steps, 1):
            with store.layers.writer() as writer:
                writer.write(name.encode().ljust(size, b"\0"))
                diff_id = writer.commit()
            made_at = time.time() - 3600 * age_h
            store.cache.put(CacheRecord(str(Digest.of(name.encode())), "", diff_id, made_at, 1.0, name))


def stock_evil(registry: Registry) -> None:
    """``evil/image:main`` has markup wherever an image can have any."""
    Stock(registry, "evil/image").image(
        [layer_tar({f"srv/{HOSTILE.replace('/', '')}": b"!"})],
        "main",
        config={"Labels": {"evil": HOSTILE}, "Env": [f"EVIL={HOSTILE}"], "Cmd": [HOSTILE], "User": HOSTILE},
        history=[{"created_by": f"RUN echo {HOSTILE}"}],
    )


def layer_tar(files: Files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.mtime = 1_700_000_000
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()
