"""docker, buildx and buildah with our server: push, pull, several platforms, zstd, users; digests stay the same."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.tools import Docker, ToolError
from bench.workloads import BASE
from core.platforms import Platform
from tests.registry.server.serving import Server, serving
from tests.toolkit.foreign import run_tool
from tests.toolkit.shiplap import Shiplap

pytestmark = pytest.mark.usefixtures("privileged")

_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.fixture(scope="module")
def docker(busybox_tar: Path) -> Iterator[Docker]:
    """A dockerd of our own, which has busybox as BASE."""
    directory = Path(tempfile.mkdtemp(prefix="shiplap-docker-", dir="/tmp"))  # short: dockerd's sockets are below
    daemon = Docker(directory)
    try:
        daemon.start(busybox_tar)
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(directory)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("docker") / "root") as server:
        yield server


@pytest.fixture(scope="module")
def multi(running: Server, docker: Docker) -> str:
    """An index of amd64 and arm64 that buildx has put together of two images that docker has pushed."""
    names = []
    for architecture in ("amd64", "arm64"):
        names.append(f"{running.host}/docker/multi:{architecture}")
        docker.run(
            "import",
            "--platform",
            f"linux/{architecture}",
            "--change",
            f"ENV A={architecture}",
            _tar(docker),
            names[-1],
        )
        docker.run("push", "-q", names[-1])
    docker.run("buildx", "imagetools", "create", "-t", f"{running.host}/docker/multi:all", *names)
    return f"{running.host}/docker/multi:all"


def _tar(docker: Docker) -> Path:
    """The root filesystem of BASE."""
    path = Path(docker.run("info", "--format", "{{.DockerRootDir}}").strip()).parent / "rootfs.tar"
    if not path.exists():
        identity = docker.run("create", BASE, "true").strip()
        docker.run("export", "-o", path, identity)
        docker.run("rm", identity)
    return path


def _id(docker: Docker, name: str) -> str:
    return docker.run("image", "inspect", "--format", "{{.Id}}", name).strip()


def test_docker_pushes_and_everyone_pulls_the_same(
    docker: Docker, running: Server, shiplap: Shiplap, tmp_path: Path
) -> None:
    name = f"{running.host}/docker/app:1"
    docker.run("tag", BASE, name)
    docker.run("push", "-q", name)
    identity = _id(docker, name)
    answer = running("GET", "/v2/docker/app/manifests/1", headers={"Accept": _MANIFEST})
    digest = answer.headers["Docker-Content-Digest"]
    assert answer.json()["config"]["digest"] == identity
    pinned = f"{running.host}/docker/app@{digest}"
    assert pinned in docker.run("image", "inspect", "--format", "{{.RepoDigests}}", name)

    docker.run("image", "rm", name)
    docker.run("pull", "-q", pinned)
    assert _id(docker, pinned) == identity
    shiplap("pull", name)
    assert json.loads(shiplap("image", "inspect", name).stdout)[0]["Id"] == identity
    run_tool("skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{name}", f"dir:{tmp_path}/dir")
    assert (tmp_path / "dir" / "manifest.json").read_bytes() == answer.data


def test_docker_pulls_what_shiplap_pushes(docker: Docker, running: Server, shiplap: Shiplap, busybox_tar: Path) -> None:
    for compression in ("gzip", "zstd"):
        name = f"{running.host}/docker/{compression}:1"
        shiplap("image", "import", busybox_tar, name)
        shiplap("push", "--compression", compression, name)
        docker.run("pull", "-q", name)
        assert _id(docker, name) == json.loads(shiplap("image", "inspect", name).stdout)[0]["Id"]


def test_docker_chooses_by_platform(docker: Docker, running: Server, multi: str) -> None:
    index = running("GET", "/v2/docker/multi/manifests/all", headers={"Accept": _INDEX}).json()
    assert len(index["manifests"]) == 2
    for platform, expected in ((f"linux/{Platform.host().architecture}", "amd64"), ("linux/arm64", "arm64")):
        docker.run("pull", "-q", "--platform", platform, multi)
        assert docker.run("image", "inspect", "--format", "{{.Architecture}}", multi).strip() == expected
    seen = json.loads(docker.run("buildx", "imagetools", "inspect", "--raw", multi))
    assert seen == index


def test_buildah_copies_all_platforms_as_zstd(running: Server, multi: str, tmp_path: Path) -> None:
    storage = ("--root", tmp_path / "root", "--runroot", tmp_path / "run", "--storage-driver", "vfs")
    buildah = ("buildah", *storage)
    run_tool(*buildah, "manifest", "create", "all")
    run_tool(*buildah, "manifest", "add", "--all", "--tls-verify=false", "all", f"docker://{multi}")
    target = f"{running.host}/docker/zstd-multi:1"
    run_tool(
        *buildah, "manifest", "push", "-q", "--all", "--tls-verify=false", "--compression-format", "zstd",
        "--digestfile", tmp_path / "digest", "all", f"docker://{target}",
    )  # fmt: skip
    answer = running("HEAD", "/v2/docker/zstd-multi/manifests/1", headers={"Accept": _INDEX})
    assert answer.headers["Docker-Content-Digest"] == (tmp_path / "digest").read_text().strip()
    mirror = Shiplap(tmp_path / "mirror")
    mirror("pull", "--platform", "all", target)
    (inspected,) = json.loads(mirror("image", "inspect", target).stdout)
    assert inspected["Index"]["Digest"] == answer.headers["Docker-Content-Digest"]
    assert {entry["Platform"] for entry in inspected["Index"]["Manifests"]} == {"linux/amd64", "linux/arm64"}


def test_what_is_deleted_docker_does_not_find(docker: Docker, running: Server) -> None:
    name = f"{running.host}/docker/gone:1"
    docker.run("tag", BASE, name)
    docker.run("push", "-q", name)
    docker.run("image", "rm", name)
    run_tool("skopeo", "delete", "--tls-verify=false", f"docker://{name}")
    with pytest.raises(ToolError, match="manifest unknown"):
        docker.run("pull", "-q", name)


def test_docker_logs_in_and_may_do_what_its_user_may(docker: Docker, tmp_path: Path) -> None:
    keeper = Shiplap(tmp_path / "root")
    keeper("registry", "user", "add", "alice", "team/*:*", "--password-stdin", stdin=b"correct horse\n")
    with serving(tmp_path / "root") as server:
        docker.run("login", "-u", "alice", "-p", "correct horse", server.host)
        for name, may in ((f"{server.host}/team/app:1", True), (f"{server.host}/other/app:1", False)):
            docker.run("tag", BASE, name)
            if may:
                docker.run("push", "-q", name)
            else:
                with pytest.raises(ToolError, match="denied"):
                    docker.run("push", "-q", name)
        docker.run("logout", server.host)
        with pytest.raises(ToolError, match=r"no basic auth credentials|unauthorized|denied"):
            docker.run("pull", "-q", f"{server.host}/team/app:1")
