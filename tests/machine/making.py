"""Makes the machine's disk: an image that Shiplap builds of Debian's packages, its files put on an ext4 file system."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.toolkit.bounds import stretched
from tests.toolkit.shiplap import Shiplap

_CHECKOUT = Path(__file__).resolve().parents[2]
_HERE = Path(__file__).resolve().parent
_DISK_BYTES = 6 << 30
_BUILD_S = 3600.0


class Disk(NamedTuple):
    """What a machine boots from."""

    image: Path
    kernel: Path
    initrd: Path


def make(work: Path, base: Path, busybox: Path) -> Disk:
    """The disk, with this checkout's Shiplap on it.

    work: a directory of its own; what is built stays there for the next time. base, busybox: tars of root file systems,
    of Debian and of busybox.
    """
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    shiplap = Shiplap(work / "root")
    if "debian" not in shiplap("image", "ls").stdout:
        shiplap("image", "import", base, "debian:trixie-slim", timeout_s=_BUILD_S)
    build = ("build", "--progress", "plain")
    shiplap(*build, "-f", "compose/Dockerfile", "-t", "shiplap", ".", cwd=_CHECKOUT, timeout_s=_BUILD_S)
    context, tar, tree = work / "context", work / "machine.tar", work / "tree"
    shutil.rmtree(context, ignore_errors=True)
    shutil.copytree(_CHECKOUT / "compose" / "systemd", context / "systemd")
    for file in (_CHECKOUT / "scripts" / "install-debian", *_HERE.glob("*agent*"), _HERE / "Dockerfile"):
        shutil.copy(file, context)
    shutil.copy(busybox, context / "busybox.tar")
    shiplap(*build, "--output", f"type=tar,dest={tar}", context, timeout_s=_BUILD_S)
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    extract = ("tar", "--extract", "--numeric-owner", "--xattrs", "--xattrs-include=*")
    _run(*extract, f"--file={tar}", f"--directory={tree}")
    disk = work / "disk"
    disk.unlink(missing_ok=True)
    disk.touch()
    os.truncate(disk, _DISK_BYTES)
    _run("mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree), str(disk))
    (kernel,) = (tree / "boot").glob("vmlinuz-*")
    (initrd,) = (tree / "boot").glob("initrd.img-*")
    made = Disk(disk, work / "kernel", work / "initrd")
    shutil.copy(kernel, made.kernel)
    shutil.copy(initrd, made.initrd)
    shutil.rmtree(tree)
    tar.unlink()
    return made


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=stretched(600))
