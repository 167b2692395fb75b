"""FROM, COPY --from and run fetch what the store has not; a registry that has it not either is told with the place."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from tests.toolkit.registries import DebianRegistry, debian_registry
from tests.toolkit.shiplap import Shiplap

pytestmark = pytest.mark.usefixtures("privileged")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path) -> Iterator[DebianRegistry]:
    """A registry with ``base:1``, which no test's store has."""
    with debian_registry(tmp_path_factory.mktemp("registry")) as running:
        maker = Shiplap(tmp_path_factory.mktemp("maker") / "root")
        maker("image", "import", busybox_tar, f"{running.host}/base:1")
        maker("push", f"{running.host}/base:1")
        yield running


def test_base_and_source_are_pulled_once(shiplap: Shiplap, registry: DebianRegistry, tmp_path: Path) -> None:
    base = f"{registry.host}/base:1"
    copy = f"COPY --from={base} /bin/busybox /x/busybox"
    (tmp_path / "Dockerfile").write_text(f"FROM {base}\n{copy}\nRUN /x/busybox true\n")
    built = shiplap("build", "-t", "app", tmp_path)
    assert built.stderr.count("[internal] pull") == 1
    assert f"[internal] pull {base}" in built.stderr
    again = shiplap("build", "-t", "app", tmp_path)
    assert "[internal] pull" not in again.stderr
    assert "0 executed" in again.stderr


def test_pull_flag_asks_the_registry_again(shiplap: Shiplap, registry: DebianRegistry, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {registry.host}/base:1\nRUN true\n")
    shiplap("build", tmp_path)
    assert "[internal] pull" in shiplap("build", "--pull", tmp_path).stderr


def test_run_pulls_its_image(shiplap: Shiplap, registry: DebianRegistry) -> None:
    ran = shiplap("run", "--rm", f"{registry.host}/base:1", "echo", "here")
    assert ran.stdout == "here\n"
    assert "pulling it" in ran.stderr


def test_what_neither_has_is_told_with_the_place(shiplap: Shiplap, registry: DebianRegistry, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {registry.host}/nothing:1\n")
    failed = shiplap("build", tmp_path, check=False)
    assert failed.returncode == 1
    assert "Dockerfile:1:6: no such image" in failed.stderr
    assert "pulling it failed" in failed.stderr
    assert "hint: shiplap image ls shows the images there are" in failed.stderr
    ran = shiplap("run", f"{registry.host}/nothing:1", check=False)
    assert ran.returncode == 125
    assert "pulling it failed" in ran.stderr
    assert "hint: shiplap image ls shows the images there are" in ran.stderr


def test_a_base_that_is_only_appended_to_is_not_downloaded(
    shiplap: Shiplap, registry: DebianRegistry, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("appended\n")
    (tmp_path / "Dockerfile").write_text(f"FROM {registry.host}/base:1\nLABEL a=b\nCOPY --link file /file\n")
    name = f"{registry.host}/appended:1"
    built = shiplap("build", "-t", name, tmp_path)
    assert "[internal] fetch" not in built.stderr
    assert len(json.loads(shiplap("image", "inspect", name).stdout)[0]["LayersAway"]) == 1
    assert "Mounted from base" in shiplap("push", name).stdout
    assert len(json.loads(shiplap("image", "inspect", name).stdout)[0]["LayersAway"]) == 1
    ran = shiplap("run", "--rm", name, "cat", "/file")
    assert ran.stdout == "appended\n"
    assert f"fetching a layer from {registry.host}/base" in ran.stderr
    assert "LayersAway" not in json.loads(shiplap("image", "inspect", name).stdout)[0]


def test_layers_are_fetched_by_the_step_that_needs_them(
    shiplap: Shiplap, registry: DebianRegistry, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {registry.host}/base:1\nRUN true\n")
    assert f"[internal] fetch a layer of {registry.host}/base" in shiplap("build", tmp_path).stderr


def test_a_layer_that_the_registry_has_lost_fails_the_step_that_needs_it(
    shiplap: Shiplap, registry: DebianRegistry, tmp_path: Path
) -> None:
    name = f"{registry.host}/lost"
    maker = Shiplap(tmp_path / "maker")
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "rootfs" / "file").write_text("lost\n")
    subprocess.run(["tar", "cf", tmp_path / "rootfs.tar", "-C", tmp_path / "rootfs", "."], check=True)
    maker("image", "import", tmp_path / "rootfs.tar", f"{name}:1")
    maker("push", f"{name}:1")
    http = urllib3.PoolManager(retries=False)
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    (layer,) = http.request("GET", f"http://{registry.host}/v2/lost/manifests/1", headers=accept).json()["layers"]
    assert http.request("DELETE", f"http://{registry.host}/v2/lost/blobs/{layer['digest']}").status == 202
    (tmp_path / "Dockerfile").write_text(f"FROM {name}:1\nRUN true\n")
    failed = shiplap("build", tmp_path, check=False)
    assert failed.returncode == 1
    assert f"blob {layer['digest']} of {name} cannot be fetched" in failed.stderr
