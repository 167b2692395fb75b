"""An engine's home for a test's containers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.rootfs import DirectoryLayer
from tests.containers.conftest import busybox_layer as busybox_layer
from tests.containers.keeper.home import Home


@pytest.fixture
def home(privileged: None, short_path: Path, tmp_path: Path, busybox_layer: DirectoryLayer) -> Iterator[Home]:
    run = short_path / "run" / "0123456789ab"
    run.mkdir(parents=True, mode=0o700)
    root = tmp_path / "root"
    (root / "containers").mkdir(parents=True, mode=0o700)
    home = Home(root, run, busybox_layer)
    yield home
    home.end()
