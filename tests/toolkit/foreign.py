"""Other people's container tools, as witnesses that an image is what it says."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.toolkit.bounds import stretched


def run_tool(*command: str | Path, timeout_s: float = 180) -> str:
    """Run a program that has to succeed and return its standard output. Fails the test showing all it said."""
    result = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=stretched(timeout_s),
        env={**os.environ, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"},
    )
    if result.returncode != 0:
        words = " ".join(map(str, command))
        raise AssertionError(f"{words} exited {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result.stdout


@dataclass(frozen=True, slots=True)
class Podman:
    """podman with storage of its own. runc: crun refuses hosts that have cgroup v1 and v2 mixed."""

    directory: Path

    def __call__(self, *args: str | Path) -> str:
        return run_tool(
            *("podman", "--root", self._storage, "--runroot", self.directory / "run"),
            *("--tmpdir", self.directory / "tmp", "--storage-driver", "overlay", "--runtime", "runc"),
            *("--cgroup-manager", "cgroupfs", "--events-backend", "none"),
            *args,
        )

    def run(self, image: str, command: Sequence[str]) -> str:
        return self("run", "--rm", "--network", "none", image, *command)

    def close(self) -> None:
        """Unmount the storage, which podman leaves mounted on itself."""
        if os.path.ismount(self._storage / "overlay"):
            run_tool("umount", "--lazy", self._storage / "overlay")

    @property
    def _storage(self) -> Path:
        return self.directory / "root"
