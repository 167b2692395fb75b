"""The image that traffic comes from and goes to: the bench's own Python on a busybox, and the program ``traffic``."""

from __future__ import annotations

import io
import re
import shutil
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import Final

from bench.engine.engines import called
from bench.tools import rootfs

PROGRAM: Final = "/traffic.py"
_LEFT_OUT: Final = {"__pycache__", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "test", "tkinter"}
_LIBRARY: Final = re.compile(r"(/\S+) \(0x")


def make(tar: Path) -> None:
    """Write the root file system. Its files are where they are here, so that Python finds them."""
    shutil.copyfile(rootfs("busybox"), tar)
    python = interpreter()
    library = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}))
    wanted = {python.resolve(), *library.glob("lib-dynload/*.so")}
    libraries = {Path(found) for file in wanted for found in _LIBRARY.findall(called(["ldd", file]))}
    with tarfile.open(tar, "a") as archive:
        for path in sorted(libraries):
            archive.add(path.resolve(), str(path), recursive=False)
        archive.add(python.resolve(), str(python), recursive=False)
        archive.add(library, str(library), filter=_kept)
        program = Path(__file__).with_name("traffic.py").read_bytes()
        entry = tarfile.TarInfo(PROGRAM)
        entry.size, entry.mode = len(program), 0o644
        archive.addfile(entry, io.BytesIO(program))


def interpreter() -> Path:
    """Python without its environment: in the image, and for the neighbour."""
    return Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"


def _kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = Path(entry.name).name
    return None if name in _LEFT_OUT or name.startswith("config-") else entry
