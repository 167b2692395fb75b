"""Foreign programs as witnesses: what skopeo and podman push comes back with the same digests."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.registry.server.serving import (
    OCI_INDEX,
    OCI_MANIFEST,
    Server,
    descriptor,
    digest_of,
    encode,
    serving,
)
from tests.toolkit.bounds import stretched
from tests.toolkit.shiplap import Shiplap

_OPEN = "--tls-verify=false"


def _run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    result = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=stretched(240), env=env
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def archive(base_store: Shiplap, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The busybox image as an OCI archive."""
    path = tmp_path_factory.mktemp("archive") / "busybox.tar"
    base_store("image", "save", "-o", path, "busybox")
    return path


@pytest.fixture(scope="module")
def layout(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout whose tag ``multi`` is an index of two platforms."""
    directory = tmp_path_factory.mktemp("layout")
    _run("skopeo", "copy", "-q", f"oci-archive:{archive}", f"oci:{directory}:one")
    document = json.loads((directory / "index.json").read_bytes())
    first = document["manifests"][0]
    manifest = json.loads(_blob(directory, first["digest"]).read_bytes())
    config = json.loads(_blob(directory, manifest["config"]["digest"]).read_bytes()) | {"architecture": "arm64"}
    manifest["config"] |= _add(directory, encode(config))
    second = _add(directory, encode(manifest)) | {"mediaType": OCI_MANIFEST}
    platforms = ({"os": "linux", "architecture": "amd64"}, {"os": "linux", "architecture": "arm64"})
    children = [
        {key: child[key] for key in ("mediaType", "digest", "size")} | {"platform": platform}
        for child, platform in zip((first, second), platforms, strict=True)
    ]
    index = encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children})
    entry = _add(directory, index) | {"mediaType": OCI_INDEX}
    document["manifests"].append(entry | {"annotations": {"org.opencontainers.image.ref.name": "multi"}})
    (directory / "index.json").write_bytes(encode(document))
    return directory


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def _add(layout: Path, data: bytes) -> dict[str, object]:
    _blob(layout, digest_of(data)).write_bytes(data)
    return {key: value for key, value in descriptor(data).items() if key != "mediaType"}


def _digests(layout: Path) -> set[str]:
    return {path.name for path in (layout / "blobs" / "sha256").iterdir()}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("foreign") / "root") as server:
        yield server


def test_skopeo_copies_an_index_in_and_out(running: Server, layout: Path, tmp_path: Path) -> None:
    remote = f"docker://{running.host}/foreign/multi:v1"
    _run("skopeo", "copy", "-q", "--all", "--dest-tls-verify=false", f"oci:{layout}:multi", remote)
    _run("skopeo", "copy", "-q", "--all", "--src-tls-verify=false", remote, f"oci:{tmp_path}:v1")
    assert _digests(tmp_path) == _digests(layout)
    raw = _run("skopeo", "inspect", _OPEN, "--raw", remote)
    assert json.loads(raw)["mediaType"] == OCI_INDEX
    arm = json.loads(_run("skopeo", "--override-arch", "arm64", "inspect", _OPEN, remote))
    assert arm["Architecture"] == "arm64"


def test_skopeo_inspects_lists_and_deletes(running: Server, archive: Path) -> None:
    remote = f"docker://{running.host}/foreign/one"
    for tag in ("b", "a"):
        _run("skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci-archive:{archive}", f"{remote}:{tag}")
    assert json.loads(_run("skopeo", "list-tags", _OPEN, remote))["Tags"] == ["a", "b"]
    assert json.loads(_run("skopeo", "inspect", _OPEN, f"{remote}:a"))["RepoTags"] == ["a", "b"]
    _run("skopeo", "delete", _OPEN, f"{remote}:a")
    response = running("GET", "/v2/foreign/one/tags/list")
    assert response.json()["tags"] == []


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_skopeo_pushes_compressed_layers(running: Server, archive: Path, tmp_path: Path, compression: str) -> None:
    local = tmp_path / "dir"
    _run(
        "skopeo", "copy", "-q", "--dest-compress", "--dest-compress-format", compression,
        f"oci-archive:{archive}", f"dir:{local}",
    )  # fmt: skip
    remote = f"docker://{running.host}/foreign/{compression}:1"
    # Else it takes the blob of another compression that it knows to be in another repository.
    _run("skopeo", "copy", "-q", "--preserve-digests", "--dest-tls-verify=false", f"dir:{local}", remote)
    back = tmp_path / "back"
    _run("skopeo", "copy", "-q", "--src-tls-verify=false", remote, f"dir:{back}")
    assert (back / "manifest.json").read_bytes() == (local / "manifest.json").read_bytes()
    assert compression in (back / "manifest.json").read_text()


def test_skopeo_syncs_a_repository(running: Server, archive: Path, tmp_path: Path) -> None:
    for tag in ("1", "2"):
        target = f"docker://{running.host}/foreign/synced:{tag}"
        _run("skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci-archive:{archive}", target)
    _run(
        "skopeo", "sync", "--src-tls-verify=false", "--src", "docker", "--dest", "dir",
        f"{running.host}/foreign/synced", tmp_path,
    )  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {"synced:1", "synced:2"}


def test_skopeo_copies_within_the_registry_by_mounting(running: Server, archive: Path) -> None:
    source, target = (f"docker://{running.host}/foreign/{name}:1" for name in ("source", "target"))
    _run("skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci-archive:{archive}", source)
    _run("skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", source, target)
    inspected = [json.loads(_run("skopeo", "inspect", _OPEN, remote))["Digest"] for remote in (source, target)]
    assert inspected[0] == inspected[1]


def test_podman_pushes_and_pulls(running: Server, archive: Path, tmp_path: Path) -> None:
    podman = ("podman", "--root", tmp_path / "root", "--runroot", tmp_path / "run", "--storage-driver", "vfs")
    name = f"{running.host}/foreign/podman:1"
    loaded = _run(*podman, "load", "-q", "-i", archive).strip().rpartition(" ")[2]
    _run(*podman, "tag", loaded, name)
    _run(*podman, "push", "-q", _OPEN, "--digestfile", tmp_path / "digest", name)
    pushed = (tmp_path / "digest").read_text().strip()
    assert running("HEAD", "/v2/foreign/podman/manifests/1").headers["Docker-Content-Digest"] == pushed
    before = _run(*podman, "image", "inspect", "--format", "{{.Id}}", name)
    _run(*podman, "rmi", "--all", "--force")
    _run(*podman, "pull", "-q", _OPEN, name)
    assert _run(*podman, "image", "inspect", "--format", "{{.Id}}", name) == before


def test_skopeo_logs_in_and_may_do_what_its_user_may(tmp_path: Path, archive: Path) -> None:
    shiplap = Shiplap(tmp_path / "root")
    for name, rights in (("alice", ["team/*:pull,push,delete"]), ("bob", ["*:pull"])):
        shiplap("registry", "user", "add", name, *rights, "--password-stdin", stdin=b"correct horse\n")
    with serving(tmp_path / "root") as server:
        remote, auths = f"docker://{server.host}/team/app:1", {}
        for name in ("alice", "bob"):
            auths[name] = tmp_path / f"{name}.json"
            _run("skopeo", "login", _OPEN, "--authfile", auths[name], "-u", name, "-p", "correct horse", server.host)
        push = ("skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci-archive:{archive}")
        _run(*push, "--authfile", auths["alice"], remote)
        _run("skopeo", "inspect", _OPEN, "--authfile", auths["bob"], remote)
        for authfile, target in ((auths["bob"], remote), (auths["alice"], f"docker://{server.host}/other/app:1")):
            refused = subprocess.run([*push, "--authfile", str(authfile), target], capture_output=True, text=True)
            assert refused.returncode != 0
            assert "denied" in refused.stderr or "403" in refused.stderr
        wrong = subprocess.run(
            ["skopeo", "login", _OPEN, "--authfile", str(tmp_path / "x"), "-u", "alice", "-p", "wrong", server.host],
            capture_output=True,
        )
        assert wrong.returncode != 0
        _run("skopeo", "delete", _OPEN, "--authfile", auths["alice"], remote)
