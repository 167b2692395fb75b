"""Paths of a job's file system, looked up from outside of it: no link and no ``..`` in it leads anywhere else."""

from __future__ import annotations

import errno
import os
from typing import Final

from core.kernel import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2

_INSIDE: Final = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS


def is_there(root: str, path: str) -> bool:
    """Whether something is at a path below ``root``."""
    top = _opened(root)
    try:
        os.close(openat2(top, path, os.O_PATH, resolve=_INSIDE))
    except OSError:
        return False
    finally:
        os.close(top)
    return True


def make_directory(root: str, path: str) -> None:
    """Make a directory, and those above it that are missing. Raises OSError."""
    top = _opened(root)
    place = os.dup(top)
    try:
        whole = ""
        for name in filter(None, path.split("/")):
            whole += f"/{name}"
            try:
                below = openat2(top, whole, os.O_PATH | os.O_DIRECTORY, resolve=_INSIDE)
            except FileNotFoundError:
                if name in (".", ".."):
                    raise
                os.mkdir(name, 0o755, dir_fd=place)
                below = openat2(top, whole, os.O_PATH | os.O_DIRECTORY, resolve=_INSIDE)
            os.close(place)
            place = below
    except FileExistsError as error:  # a link to nothing, or somebody made it just now
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error
    finally:
        os.close(place)
        os.close(top)


def _opened(root: str) -> int:
    return os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
