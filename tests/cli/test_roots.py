"""Roots at odd places: what works all the same, and what the first command says that it does not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.toolkit.bounds import stretched
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap

_CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["with,comma", "with:colon, and space", "x" * 200], ids=["comma", "colon", "long"])
def test_layers_are_indexed_and_mounted_whatever_the_roots_name(
    privileged: None, tmp_path: Path, busybox_tar: Path, name: str
) -> None:
    shiplap = Shiplap(tmp_path / name)
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    assert shiplap("run", "--network", "none", BUSYBOX_NAME, "echo", "works").stdout == "works\n"
    assert len(list((shiplap.root / "snapshots").glob("*/index"))) == 1


@pytest.fixture
def on_overlay(privileged: None, tmp_path: Path) -> Iterator[Path]:
    """A directory on overlayfs, as in a container without a volume."""
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    place = tmp_path / "merged"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", place], check=True, timeout=stretched(60))
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True, timeout=stretched(60))


def test_root_on_overlayfs_is_told_by_the_first_command(on_overlay: Path, busybox_tar: Path) -> None:
    shiplap = Shiplap(on_overlay / "new" / "root")
    shiplap.root.parent.mkdir()
    said = shiplap("image", "import", busybox_tar, BUSYBOX_NAME).stderr
    assert f"warning: {shiplap.root} is on overlayfs" in said
    assert "choose a root on ext4, xfs, btrfs or tmpfs" in said
    assert shiplap("image", "ls").stderr == ""
    doctor = shiplap("doctor", check=False)
    assert doctor.returncode == 1
    assert "file system of the root: choose a root on ext4" in doctor.stdout


@pytest.mark.parametrize("command", [("-m", "cli", "serve", "--listen", "127.0.0.1:0"), ("-m", "worker")])
def test_service_does_not_start_where_every_step_would_fail(on_overlay: Path, command: tuple[str, ...]) -> None:
    shiplap = Shiplap(on_overlay / "root")
    result = subprocess.run(
        [sys.executable, *command], cwd=_CHECKOUT, env=shiplap.environment(None), capture_output=True, text=True,
        timeout=stretched(60),
    )  # fmt: skip
    assert result.returncode == 1
    assert f"error: {shiplap.root} is on overlayfs" in result.stderr
    assert "hint: choose a root on ext4" in result.stderr
    assert not shiplap.root.exists()


@pytest.mark.parametrize("command", ["web", "worker"])
def test_service_runs_nothing_that_lies_in_the_directory_it_is_started_in(tmp_path: Path, command: str) -> None:
    here = tmp_path / "here"
    for room in ("web", "worker", "pipelines"):
        (here / room).mkdir(parents=True)
        (here / room / "__init__.py").write_text("raise SystemExit('somebody else was run')\n")
    shiplap = Shiplap(tmp_path / "root")
    environment = {**shiplap.environment(None), "SHIPLAP_DATABASE_URL": "mysql://nothing"}
    result = subprocess.run(
        [Path(sys.executable).with_name("shiplap"), command], cwd=here, env=environment, capture_output=True,
        text=True, timeout=stretched(60),
    )  # fmt: skip
    assert result.returncode == 1
    assert "SHIPLAP_DATABASE_URL" in result.stderr
    assert "somebody else" not in result.stderr
