"""Copy-up: an empty volume takes what the image has at its place, with owners and modes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from core.kernel import RESOLVE_IN_ROOT, openat2
from images.apply import apply_layer
from images.diff import write_tree
from images.locks import exclusive
from images.tarwriter import TarWriter

if TYPE_CHECKING:
    from images.store import Store

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY


def fill(store: Store, view: int, target: str, volume: Path) -> None:
    """Copy the directory ``target`` of an image's files into a volume, unless the volume has something in it.

    view: a descriptor of the image's files. volume: the volume's directory. What is no directory there fills nothing.
    """
    try:
        source = openat2(view, target, _DIRECTORY, resolve=RESOLVE_IN_ROOT)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        with exclusive(volume / ".lock"):
            data = volume / "_data"
            if not os.listdir(data):
                _copy(source, data, store.tmp)
    finally:
        os.close(source)


def _copy(source: int, data: Path, scratch: Path) -> None:
    import tempfile  # 10 ms, and few containers have something to be filled

    with tempfile.TemporaryFile(dir=scratch) as tar:
        writer = TarWriter(tar)
        write_tree(source, writer)
        writer.close()
        tar.seek(0)
        root = os.open(data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            apply_layer(tar, root, overlay=False, owners=os.geteuid() == 0, devices=False)
            info = os.fstat(source)
            if os.geteuid() == 0:
                os.fchown(root, info.st_uid, info.st_gid)
            os.fchmod(root, info.st_mode & 0o7777)
        finally:
            os.close(root)
