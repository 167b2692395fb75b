"""Pull-through: a registry that is filled from another one, both of ours, on loopback."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.settings import RegistrySettings
from images.store import Store
from registry.client import Client, ClientConfig, RetryPolicy
from registry.server.settings import Policy, ServerSettings
from tests.registry.server.conftest import Bench
from tests.registry.server.serving import OCI_INDEX, Server, code_of, digest_of, index_of, manifest_of, serving
from tests.toolkit.bounds import eventually


class Upstream:
    """A registry with one image, ``lib/app:v1``."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.layer = os.urandom(100_000)
        self.manifest = self.push("v1", self.layer)

    def push(self, tag: str, *layers: bytes) -> bytes:
        for blob in (b"{}", *layers):
            path = f"/v2/lib/app/blobs/uploads/?digest={digest_of(blob)}"
            assert self.server("POST", path, body=blob).status == 201
        manifest = manifest_of(b"{}", list(layers))
        assert self.server("PUT", f"/v2/lib/app/manifests/{tag}", body=manifest).status == 201
        return manifest


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    with serving(tmp_path / "upstream") as server:
        yield Upstream(server)


@pytest.fixture
def mirror(make_bench: Callable[..., Bench], upstream: Upstream, tmp_path: Path) -> Bench:
    """Has ``hub/lib/app`` from upstream's ``lib/app``; looks every time."""
    policy = Policy("hub/*", mirror=upstream.server.host, mirror_fresh_s=0)
    config = ClientConfig.load(RegistrySettings.from_environ({"DOCKER_CONFIG": str(tmp_path)}), tmp_path)
    client = Client(config, policy=RetryPolicy(tries=1))
    return make_bench(ServerSettings(access="open", policies=(policy,)), upstream=client)


def test_image_is_pulled_through_and_stays(mirror: Bench, upstream: Upstream) -> None:
    assert mirror.client("GET", "/v2/hub/lib/app/manifests/v1").data == upstream.manifest
    assert mirror.client.blob(digest_of(upstream.layer), name="hub/lib/app") == upstream.layer
    upstream.server.stop()
    assert mirror.client("GET", "/v2/hub/lib/app/manifests/v1").data == upstream.manifest
    assert mirror.client.blob(digest_of(upstream.layer), name="hub/lib/app") == upstream.layer
    gone = mirror.client("GET", f"/v2/hub/lib/app/blobs/{digest_of(b'{}')}")
    assert (gone.status_code, code_of(gone)) == (502, "UNAVAILABLE")
    assert mirror.client("GET", "/v2/hub/lib/app/manifests/v2").status_code == 502


def test_moved_tag_is_followed(mirror: Bench, upstream: Upstream) -> None:
    assert mirror.client("GET", "/v2/hub/lib/app/manifests/v1").data == upstream.manifest
    moved = upstream.push("v1", b"another layer")
    assert mirror.client("GET", "/v2/hub/lib/app/manifests/v1").data == moved
    assert mirror.client("GET", f"/v2/hub/lib/app/manifests/{digest_of(upstream.manifest)}").data == upstream.manifest


def test_index_and_its_children(mirror: Bench, upstream: Upstream) -> None:
    index = index_of([upstream.manifest])
    headers = {"Content-Type": OCI_INDEX}
    assert upstream.server("PUT", "/v2/lib/app/manifests/multi", body=index, headers=headers).status == 201
    assert mirror.client("GET", "/v2/hub/lib/app/manifests/multi").data == index
    assert mirror.client("GET", f"/v2/hub/lib/app/manifests/{digest_of(upstream.manifest)}").data == upstream.manifest


def test_what_upstream_has_not_404(mirror: Bench) -> None:
    for path in ("manifests/v9", f"manifests/{digest_of(b'x')}", f"blobs/{digest_of(b'x')}"):
        assert mirror.client("GET", f"/v2/hub/lib/app/{path}").status_code == 404
    assert mirror.client("GET", "/v2/elsewhere/app/manifests/v1").status_code == 404


def test_blobs_that_no_manifest_here_needs_are_not_fetched(mirror: Bench, upstream: Upstream) -> None:
    assert mirror.client("HEAD", f"/v2/hub/lib/app/blobs/{digest_of(upstream.layer)}").status_code == 404


def test_nobody_pushes_to_a_mirror(mirror: Bench) -> None:
    response = mirror.client("POST", "/v2/hub/lib/app/blobs/uploads/")
    assert (response.status_code, code_of(response)) == (403, "DENIED")
    assert mirror.client("DELETE", "/v2/hub/lib/app/manifests/v1").status_code == 403
    mirror.client.push_image("v1", name="mine/app")


def test_damaged_content_of_upstream_is_not_kept(mirror: Bench, upstream: Upstream) -> None:
    assert mirror.client("GET", "/v2/hub/lib/app/manifests/v1").status_code == 200
    digest = digest_of(upstream.layer)
    path = upstream.server.root / "blobs" / "sha256" / digest.hex
    path.write_bytes(bytes(len(upstream.layer)))
    response = mirror.client("GET", f"/v2/hub/lib/app/blobs/{digest}")
    assert response.status_code in (400, 502)
    assert not mirror.registry.content.path(digest).exists()
    assert not list((mirror.store.root / "serve" / "uploads").iterdir())


def test_many_pulls_at_once_fetch_once(mirror: Bench, upstream: Upstream) -> None:
    mirror.client("GET", "/v2/hub/lib/app/manifests/v1")
    digest = digest_of(upstream.layer)
    fetch = mirror.registry.mirror
    assert fetch is not None
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: fetch.fetch_blob("hub/lib/app", digest), range(16)))
    assert mirror.client.blob(digest, name="hub/lib/app") == upstream.layer


def test_connections_to_upstream_end_with_the_registry(mirror: Bench) -> None:
    def watching() -> set[threading.Thread]:
        """Each client has such a thread from its first request until it is closed."""
        return {thread for thread in threading.enumerate() if thread.name == "registry-watch"}

    before = watching()
    assert mirror.client("GET", "/v2/hub/lib/app/manifests/v1").status_code == 200
    begun = watching() - before
    assert begun
    mirror.registry.close()
    eventually(lambda: not any(thread.is_alive() for thread in begun), why="the client of upstream is closed")


def test_served_mirror_by_its_settings_file(upstream: Upstream, tmp_path: Path) -> None:
    root = tmp_path / "served"
    (root / "serve").mkdir(parents=True)
    (root / "serve" / "registry.toml").write_text(f'[[repository]]\npattern = "*"\nmirror = "{upstream.server.host}"\n')
    with serving(root, env={"DOCKER_CONFIG": str(tmp_path)}) as server:
        assert server("GET", "/v2/lib/app/manifests/v1").data == upstream.manifest
        assert server("GET", f"/v2/lib/app/blobs/{digest_of(upstream.layer)}").data == upstream.layer
    with Store.open(root) as store:
        assert store.database.one("SELECT count(*) FROM registry_uploads") == (0,)
