"""File systems of several kinds, each in a file of its own, mounted for a test: what is sensitive to them runs on all.

Mounts need root, and the kernel the kind; a kind that cannot be had here is left out of ``KINDS``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.toolkit.bounds import stretched

_SIZE_BYTES: Final = 1 << 30  # sparse; xfs takes no less than 300 MB
_MAKERS: Final = {"ext4": ("mkfs.ext4", "-q", "-F"), "xfs": ("mkfs.xfs", "-q"), "btrfs": ("mkfs.btrfs", "-q")}


def _kinds() -> tuple[str, ...]:
    known = {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}
    made = [kind for kind, maker in _MAKERS.items() if kind in known and shutil.which(maker[0])]
    return (*made, "tmpfs") if os.geteuid() == 0 else ()


KINDS: Final = _kinds()


@contextmanager
def mounted(kind: str, directory: Path) -> Iterator[Path]:
    """A fresh file system of a kind, mounted at ``directory / kind``; unmounted afterwards, whatever still uses it."""
    place = directory / kind
    place.mkdir()
    if kind == "tmpfs":
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE_BYTES}", "tmpfs", str(place)]
    else:
        image = directory / f"{kind}.img"
        with image.open("wb") as file:
            file.truncate(_SIZE_BYTES)
        subprocess.run([*_MAKERS[kind], str(image)], check=True, capture_output=True, timeout=stretched(120))
        mount = ["mount", "-o", "loop", str(image), str(place)]
    subprocess.run(mount, check=True, capture_output=True, timeout=stretched(120))
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True, capture_output=True, timeout=stretched(120))
