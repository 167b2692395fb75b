"""A busybox root filesystem as a layer, and a launcher to run commands on it."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.launcher import Launcher
from core.rootfs import DirectoryLayer
from tests.containers.running import Runner


@pytest.fixture(scope="session")
def busybox_layer(privileged: None, busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> DirectoryLayer:
    """The busybox root filesystem, unpacked two levels down like a store's snapshots."""
    layer = tmp_path_factory.mktemp("layers") / "busybox" / "fs"
    layer.mkdir(parents=True)
    subprocess.run(["tar", "--extract", "--numeric-owner", "--file", busybox_tar, "--directory", layer], check=True)
    for name in ("hosts", "resolv.conf", "hostname"):
        (layer / "etc" / name).unlink(missing_ok=True)
    (layer / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\n")
    (layer / "etc" / "group").write_text("root:x:0:\napp:x:1001:\nstaff:x:50:app\nwheel:x:60:root,app\n")
    return DirectoryLayer(str(layer))


@pytest.fixture
def launcher(privileged: None, tmp_path: Path) -> Iterator[Launcher]:
    state = tmp_path / "launcher"
    state.mkdir()
    with Launcher(state) as launcher:
        yield launcher


@pytest.fixture
def run(launcher: Launcher, tmp_path: Path, busybox_layer: DirectoryLayer) -> Runner:
    return Runner(launcher, tmp_path, busybox_layer, itertools.count())
