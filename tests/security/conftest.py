"""A Debian root filesystem with perl, whose syscall() reaches every system call, to attack from."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from containers.launcher import Launcher
from core.rootfs import DirectoryLayer
from tests.containers.running import Runner


@dataclass
class DebianRunner(Runner):
    """Commands on Debian, as a RUN has them."""

    def perl(self, program: str, **fields: object) -> str:
        """The output of a perl program, which has to succeed."""
        status, said = self.status("perl", "-e", program, **fields)
        assert status.code == 0, f"{status}: {said}"
        return said


@pytest.fixture(scope="session")
def debian_layer(privileged: None, debian_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> DirectoryLayer:
    layer = tmp_path_factory.mktemp("debian") / "base" / "fs"
    layer.mkdir(parents=True)
    subprocess.run(["tar", "--extract", "--numeric-owner", "--file", debian_tar, "--directory", layer], check=True)
    return DirectoryLayer(str(layer))


@pytest.fixture(scope="module")
def debian(debian_layer: DirectoryLayer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRunner]:
    """One launcher for a module's attacks, as one build has for its steps."""
    folder = tmp_path_factory.mktemp("attacks")
    (folder / "launcher").mkdir()
    with Launcher(folder / "launcher") as launcher:
        yield DebianRunner(launcher, folder, debian_layer, itertools.count())
