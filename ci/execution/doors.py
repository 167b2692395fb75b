"""The few files by which a job's container and whoever runs it speak: the exports, and the bell of the steps.

They lie in a directory of their own on the host, and each is mounted by itself. So nobody within can put a link, a
directory or a FIFO in the place of one.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Final

from ci.execution import script
from ci.execution.exports import MAX_BYTES
from containers.spec import Bind
from core.closing import Closing
from core.files import storage_errors
from images.store import Store

_EXPORTS, _BELL, _GO = "exports", "step", "go"
_MODE: Final = 0o666
"""Whatever user the job has."""


class Doors(Closing):
    """The files of one attempt of a job.

    Made by: the attempt, in its session's directory for temporary files.
    Ended by: ``close``; what it leaves there goes with the session.

    bell, go: descriptors of the FIFOs, for both directions and without waiting.
    """

    def __init__(self, store: Store) -> None:
        """Make them. Raises StorageFullError."""
        with contextlib.ExitStack() as undo, storage_errors("the files of a job"):
            self._path = tempfile.mkdtemp(prefix="doors-", dir=store.tmp)
            _make_file(f"{self._path}/{_EXPORTS}")
            self.bell = self._fifo(_BELL, undo)
            self.go = self._fifo(_GO, undo)
            self._held = undo.pop_all()

    def _fifo(self, name: str, undo: contextlib.ExitStack) -> int:
        path = f"{self._path}/{name}"
        os.mkfifo(path)
        os.chmod(path, _MODE)
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        undo.callback(os.close, fd)
        return fd

    def mounts(self, *, with_bell: bool) -> tuple[Bind, ...]:
        """What the container sees of it.

        with_bell: there are several steps.
        """
        found = {_EXPORTS: script.EXPORTS, **({_BELL: script.BELL, _GO: script.GO} if with_bell else {})}
        return tuple(Bind(f"{self._path}/{name}", target) for name, target in found.items())

    def exported(self) -> bytes:
        """What the job wrote, up to a byte more than it may."""
        with open(f"{self._path}/{_EXPORTS}", "rb") as file:
            return file.read(MAX_BYTES + 1)

    def close(self) -> None:
        self._held.close()


def _make_file(path: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
    os.fchmod(fd, _MODE)
    os.close(fd)
