"""Registries to talk to, stores to fill, images to send."""

from __future__ import annotations

import io
import json
import os
import random
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from core.digests import DiffID, Digest
from core.platforms import Platform
from core.references import Reference
from images.oci import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, ImageConfig
from images.store import Store
from images.summary import Image
from registry.client import Client, ClientConfig, LayerProgress, RetryPolicy
from registry.credentials import Credentials
from tests.toolkit.faulty import ScriptedRegistry, scripted_registry
from tests.toolkit.registries import Authority, DebianRegistry, debian_registry, make_authority

HASTY = RetryPolicy(base_s=0.001, cap_s=0.002)


@dataclass
class Recorder:
    """A TransferMonitor that remembers."""

    layers: list[LayerProgress] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def layer(self, progress: LayerProgress) -> None:
        self.layers.append(progress)

    def message(self, text: str) -> None:
        self.messages.append(text)

    @property
    def final(self) -> dict[str, str]:
        """The last state of each layer."""
        return {progress.id: progress.state for progress in self.layers}


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def docker_config(tmp_path: Path) -> Path:
    """A directory for docker's config.json, empty."""
    path = tmp_path / "docker"
    path.mkdir()
    return path


@pytest.fixture
def client_for(docker_config: Path) -> Iterator[Callable[..., Client]]:
    """Opens clients that do not wait long: ``client_for(insecure=(…), certificates=(…), user=(name, password))``."""
    opened: list[Client] = []

    def open_client(
        *,
        insecure: tuple[str, ...] = (),
        certificates: tuple[Path, ...] = (),
        mirrors: dict[str, tuple[str, ...]] | None = None,
        credentials: Credentials | None = None,
        policy: RetryPolicy = HASTY,
        keeps_pulled: bool = True,
    ) -> Client:
        config = ClientConfig(
            docker_config,
            certificates=certificates,
            insecure=insecure,
            mirrors=mirrors or {},
            keeps_pulled=keeps_pulled,
        )
        lookup = (lambda _: credentials) if credentials else None
        client = Client(config, credentials=lookup, policy=policy)
        opened.append(client)
        return client

    yield open_client
    for client in opened:
        client.close()


@pytest.fixture
def client(client_for: Callable[..., Client]) -> Client:
    """A client that knows nobody."""
    return client_for()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def other_store(tmp_path: Path) -> Iterator[Store]:
    """As if on another machine."""
    with Store.open(tmp_path / "other") as opened:
        yield opened


@pytest.fixture(scope="session")
def plain_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    """docker-registry that lets everybody do everything, without TLS. Shared: use names of your own."""
    with debian_registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA that nobody knows."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def scripted() -> Iterator[ScriptedRegistry]:
    with scripted_registry() as registry:
        yield registry


def layer_tar(name: str, size: int = 1000, *, seed: int = 0) -> bytes:
    """A tar of one file with random content."""
    content = random.Random(f"{name} {seed}").randbytes(size)
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = size
        tar.addfile(entry, io.BytesIO(content))
    return sink.getvalue()


@pytest.fixture
def make_image() -> Callable[..., Image]:
    """``make_image(store, name, layers=2, size=1000)``: an image of random layers, tagged."""

    def make(store: Store, name: str, *, layers: int = 2, size: int = 1000, seed: object = None) -> Image:
        chosen = os.urandom(8).hex() if seed is None else str(seed)
        diff_ids: list[DiffID] = []
        for number in range(layers):
            with store.layers.writer() as writer:
                writer.write(layer_tar(f"{chosen}-{number}", size))
                diff_ids.append(writer.commit())
        config = ImageConfig.for_platform(Platform.parse("linux/amd64"))
        return store.images.put(config, diff_ids, names=(Reference.parse(name),))

    return make


@pytest.fixture(scope="session")
def oci_layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout with the uncompressed image ``one``, and the index ``multi`` (amd64, arm64, an attestation)."""
    return write_layout(tmp_path_factory.mktemp("layout"))


def write_layout(directory: Path) -> Path:
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, Any]:
        digest = Digest.of(data)
        (blobs / digest.hex).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def put_json(document: object, media_type: str) -> dict[str, Any]:
        return put(json.dumps(document).encode(), media_type)

    def manifest(architecture: str) -> dict[str, Any]:
        layers = [put(layer_tar(f"{architecture}-{number}", 5000), OCI_LAYER) for number in range(2)]
        rootfs = {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]}
        config = put_json({"architecture": architecture, "os": "linux", "config": {}, "rootfs": rootfs}, OCI_CONFIG)
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}
        return put_json(document, OCI_MANIFEST)

    amd64, arm64 = manifest("amd64"), manifest("arm64")
    statement = put(b"{}", "application/vnd.in-toto+json")
    attested = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": put_json({}, OCI_CONFIG),
        "layers": [statement],
    }
    entries = [
        {**put_json(attested, OCI_MANIFEST), "platform": {"os": "unknown", "architecture": "unknown"}},
        {**amd64, "platform": {"os": "linux", "architecture": "amd64"}},
        {**arm64, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
    ]
    index = put_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}, OCI_INDEX)
    named = [
        {**entry, "annotations": {"org.opencontainers.image.ref.name": name}}
        for name, entry in (("one", amd64), ("multi", index))
    ]
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": named}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return directory
