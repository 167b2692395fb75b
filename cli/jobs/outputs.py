"""Outputs for people of a run on this machine: written where its user wants them."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ci.downloads import archived
from ci.local.watching import RunEnd
from cli.unpacking import place_of, unpacking
from images.store import Store

if TYPE_CHECKING:
    from typing_extensions import Buffer


class WrittenOutput(NamedTuple):
    """An output of a job, and where it is now. size: in bytes, of all files."""

    job: str
    name: str
    path: Path
    files: int
    size: int


def write_outputs(store: Store, end: RunEnd, place: Path) -> Iterator[WrittenOutput]:
    """Write each to ``place/JOB/NAME``, one for each step. Raises CommandError, OSErrors, TarErrors and the store's."""
    for name, job in end.jobs.items():
        for output in () if job.outcome is None else job.outcome.published:
            into = place_of(place, name, output.name)
            with store.layers.open(output.layer) as layer, unpacking(into) as unpack:
                unpack(io.BufferedReader(_Pieces(archived(layer, "tar", time.time()))))
            yield WrittenOutput(name, output.name, into, output.count, output.size)


class _Pieces(io.RawIOBase):
    """What is made piece by piece, as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        room = memoryview(buffer)
        count = min(len(room), len(self._rest))
        room[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
