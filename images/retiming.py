"""Layers whose files all have one time, for who builds beside what an earlier run left: make and cargo compare times.

Layers have a time of their own, which is in no key and never changes. A copy of a layer's index gets another; the data
stays where it is. What is unpacked is copied.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from typing import Final

from core.cancellation import check
from core.errors import StorageFullError
from core.files import names_in, storage_errors
from core.rootfs import DirectoryLayer, ErofsLayer, RootLayer
from images.erofs import retime
from images.errors import SnapshotError

_ASK_EACH_S: Final = 0.2
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def retimed(layer: RootLayer, directory: str, mtime_ns: int) -> RootLayer:
    """The layer with one time everywhere, in nanoseconds since the epoch.

    directory: an empty one that holds what is made for it, ``fs`` as well; it has to stay while the layer is used.
    Raises SnapshotError, StorageFullError, OSError, and what ``check`` raises.
    """
    with storage_errors("a workspace"):
        if isinstance(layer, ErofsLayer):
            index = f"{directory}/index"
            shutil.copyfile(layer.image, index)
            retime(index, mtime_ns)
            return ErofsLayer(index, layer.device)
        copy = f"{directory}/fs"
        _copy(layer.path, copy)
        _set_times(copy, mtime_ns)
        return DirectoryLayer(copy)


def _copy(source: str, target: str) -> None:
    """Everything with its owners, modes and attributes: whiteouts are devices, and what is opaque says so in one."""
    words = ["cp", "--archive", "--no-target-directory", "--", source, target]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as program:
        while True:
            try:
                _, said = program.communicate(timeout=_ASK_EACH_S)
                break
            except subprocess.TimeoutExpired:
                try:
                    check()
                except BaseException:
                    program.kill()
                    raise
    if program.returncode:
        told = said.decode(errors="replace").strip().partition("\n")[0]
        if "No space left" in told:
            raise StorageFullError(f"no space left on the disk while copying a layer: {told}")
        raise SnapshotError(f"cannot copy the layer {source}: {told}")


def _set_times(directory: str, mtime_ns: int) -> None:
    times = (mtime_ns, mtime_ns)
    root = os.open(directory, _FOLDER)
    try:
        pending = ["."]
        while pending:
            check()
            path = pending.pop()
            fd = os.open(path, _FOLDER, dir_fd=root)
            try:
                for name in names_in(fd):
                    if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                        pending.append(f"{path}/{name}")
                    else:
                        os.utime(name, ns=times, dir_fd=fd, follow_symlinks=False)
                os.utime(fd, ns=times)
            finally:
                os.close(fd)
    finally:
        os.close(root)
