"""The registry of the service keeps to the rules of ROOT/serve/registry.toml."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3

from core.digests import Digest
from core.settings import ServiceSettings
from pipelines.service import Service
from tests.registry.server.serving import OCI_MANIFEST, digest_of, manifest_of, serving
from tests.toolkit.bounds import stretched
from tests.toolkit.service import eventually
from tests.web.processes import WebProcess

_CHECKOUT = Path(__file__).resolve().parents[2]
_RULES = """\
anonymous_pull = true
grace_s = 5
collect_every_s = 0.2

[[repository]]
pattern = "small/*"
quota = "1 kB"

[[repository]]
pattern = "hub/*"
mirror = "{mirror}"

[[repository]]
pattern = "*"
immutable_tags = ["v*"]
[repository.retention]
keep_tags = ["v*"]
"""


@dataclass
class Registry:
    """A registry as its user sees it. headers: of each request."""

    url: str
    headers: dict[str, str]
    http: urllib3.PoolManager

    def __call__(self, method: str, path: str, **options: Any) -> urllib3.BaseHTTPResponse:
        headers = self.headers | options.pop("headers", {})
        return self.http.request(method, f"{self.url}/v2/{path}", headers=headers, **options)

    def push_blob(self, name: str, data: bytes) -> Digest:
        assert self("POST", f"{name}/blobs/uploads/?digest={digest_of(data)}", body=data).status == 201
        return digest_of(data)

    def put_manifest(self, name: str, tag: str, config: bytes) -> int:
        headers = {"Content-Type": OCI_MANIFEST}
        return self("PUT", f"{name}/manifests/{tag}", body=manifest_of(config, []), headers=headers).status

    def push(self, name: str, tag: str, config: bytes) -> None:
        self.push_blob(name, config)
        assert self.put_manifest(name, tag, config) == 201


@pytest.fixture
def http() -> Iterator[urllib3.PoolManager]:
    with urllib3.PoolManager(retries=False) as manager:
        yield manager


@pytest.fixture
def upstream(tmp_path: Path, http: urllib3.PoolManager) -> Iterator[Registry]:
    with serving(tmp_path / "upstream") as server:
        yield Registry(server.url, {}, http)


@pytest.fixture
def registry(
    settings: ServiceSettings, service: Service, upstream: Registry, http: urllib3.PoolManager
) -> Iterator[Registry]:
    """Of a web process, asked with the administrator's token."""
    (settings.root / "serve" / "registry.toml").write_text(_RULES.format(mirror=upstream.url.partition("://")[2]))
    with WebProcess(settings) as web:
        token = (settings.root / "serve" / "admin.token").read_text().strip()
        yield Registry(web.url, {"Authorization": f"Bearer {token}"}, http)


def test_every_rule_holds(registry: Registry, upstream: Registry, settings: ServiceSettings) -> None:
    registry.push("team/app", "v1", b"{}")
    registry.push("team/app", "nightly", b'{"os":"linux"}')
    registry.push_blob("team/app", b"[]")
    assert registry.put_manifest("team/app", "v1", b"[]") == 409  # immutable
    assert registry("DELETE", "team/app/manifests/v1").status == 409
    big = bytes(2000)
    assert registry("POST", f"small/app/blobs/uploads/?digest={digest_of(big)}", body=big).status == 403  # quota
    stranger = Registry(registry.url, {}, registry.http)
    assert stranger("GET", "team/app/manifests/v1").status == 200
    assert stranger("POST", "team/app/blobs/uploads/").status == 401
    upstream.push("lib/app", "1", b"{}")
    assert registry("GET", "hub/lib/app/manifests/1").data == manifest_of(b"{}", [])  # a mirror
    assert registry("POST", "hub/lib/app/blobs/uploads/").status == 403
    eventually(lambda: registry("GET", "team/app/manifests/nightly").status == 404, why="retention removes the tag")
    loose = digest_of(b"[]")
    file = settings.root / "blobs" / "sha256" / loose.removeprefix("sha256:")
    eventually(lambda: not file.exists(), why="the grace period ends")  # each request for it would begin it anew
    assert registry("GET", f"team/app/blobs/{loose}").status == 404
    assert registry("GET", "team/app/manifests/v1").status == 200


def test_admin_token_deletes_and_others_do_not(registry: Registry, service: Service) -> None:
    registry.push("small/app", "old", b"{}")
    build = {"Authorization": f"Bearer {service.tokens.create('ci', ['build'])[1]}"}
    assert registry("DELETE", "small/app/manifests/old", headers=build).status == 403
    assert registry("DELETE", "small/app/manifests/old").status == 202
    assert registry("DELETE", f"small/app/manifests/{digest_of(manifest_of(b'{}', []))}").status == 202
    assert registry("DELETE", f"small/app/blobs/{digest_of(b'{}')}").status == 202


def test_rules_that_cannot_be_read_are_said_at_the_start(settings: ServiceSettings, service: Service) -> None:
    (settings.root / "serve" / "registry.toml").write_text('[[repository]]\npattern = "*"\nqouta = "1 GB"\n')
    command = [sys.executable, "-m", "web", "--listen", "127.0.0.1:0"]
    environment = WebProcess(settings).environment()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=stretched(60), check=False)
    assert done.returncode == 1
    assert "registry.toml: repository '*': unknown name 'qouta'" in done.stderr
    assert "did you mean quota?" in done.stderr
