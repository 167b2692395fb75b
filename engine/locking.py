"""The lock of a container, or of a volume's directory: who holds it is its keeper, its creator or its remover."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from core import ofdlocks
from core.cancellation import check
from engine.errors import ConflictError

_TURN_S: Final = 60.0
_LOOK_EACH_S: Final = 0.01


def is_held(directory: str | Path) -> bool:
    """Whether anybody holds the lock of what is in this directory. No lock file: nobody does."""
    return ofdlocks.is_file_locked(f"{directory}/lock")


def take(directory: str | Path, *, make: bool = False) -> int | None:
    """The descriptor that holds the lock until it is closed; None when somebody else has it.

    make: the lock's file, too. Raises FileNotFoundError where there is none.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if make else 0)
    fd = os.open(f"{directory}/lock", flags, 0o600)
    if ofdlocks.try_lock(fd):
        return fd
    os.close(fd)
    return None


def is_of(lock: int, directory: str | Path) -> bool:
    """Whether what this descriptor locks is still the lock of the directory: somebody may have cleared that away, and
    another have made it again, between the opening of the file and the lock on it.
    """
    try:
        return os.path.samestat(os.fstat(lock), os.stat(f"{directory}/lock"))
    except (FileNotFoundError, NotADirectoryError):
        return False


@contextlib.contextmanager
def networks_of(directory: str | Path) -> Iterator[None]:
    """Within the block, nobody else connects a container to a network, or takes it out of one.

    Without its directory it has no keeper, and nobody to take turns with. Raises ConflictError.
    """
    try:
        fd = os.open(f"{directory}/networks.lock", os.O_RDWR | os.O_CLOEXEC | os.O_CREAT, 0o600)
    except FileNotFoundError:
        yield
        return
    try:
        end = time.monotonic() + _TURN_S
        while not ofdlocks.try_lock(fd):
            if time.monotonic() > end:
                raise ConflictError("its networks are being changed", hint="try again in a moment")
            check()
            time.sleep(_LOOK_EACH_S)
        yield
    finally:
        os.close(fd)
