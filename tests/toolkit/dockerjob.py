"""A root filesystem for jobs that use docker's own clients: busybox, docker, compose, buildx, and what these load."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Final

_PLUGINS: Final = Path("/usr/libexec/docker/cli-plugins")
_LIBRARIES: Final = ("/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2")
"""What Debian's builds of them load. They are Go's."""


def docker_tar(busybox: Path, made: Path, *, plugins: bool) -> Path:
    """Write the tar to ``made``; ``/busybox.tar`` in it is busybox alone, for images of the job's own engine."""
    shutil.copyfile(busybox, made)
    found = [*map(Path, _LIBRARIES), Path("/usr/bin/docker"), *(sorted(_PLUGINS.iterdir()) if plugins else ())]
    with tarfile.open(made, "a", dereference=True) as tar:
        for path in found:
            tar.add(path, str(path).lstrip("/"))
        tar.add(busybox, "busybox.tar")
    return made
