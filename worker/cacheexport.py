"""Handing a run's part of the shared cache to the process that writes it.

The run has ended by then: ``worker.exporter`` writes the cache while the next runs go on. The run's process sends it a
file in memory, over a socket that both inherited. What a run leaves may be large, and the attempt's token must not
touch a disk.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Final

import msgspec

from builder.cacheio.used import UsedCache
from core.digests import Digest
from pipelines.model import Claim
from pipelines.owning.policies import RunAsks

_MOST_BYTES: Final = 256 << 20
_log = logging.getLogger(__name__)


class CacheExport(msgspec.Struct, frozen=True):
    """One run's part of the shared cache.

    claim: the attempt's; its token opens the registry.
    asks: the run, as policies look at it: for whom it was, and of what.
    place: the name in the registry that the export is written to.
    near: names of the run's image, which have its layers already.
    used: what is to be written.
    """

    claim: Claim
    asks: RunAsks
    place: str
    near: tuple[str, ...]
    used: UsedCache


class Outlet:
    """The end of the socket where exports go in. Any process that inherited the socket may use it."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end

    def offer(self, export: CacheExport) -> bool:
        """Hand the export over. False: nobody takes it just now, and the cache stays as it is."""
        with _in_memory(msgspec.msgpack.encode(export, enc_hook=str)) as file:
            try:
                socket.send_fds(self._end, [b"export"], [file])
            except OSError as error:  # too many wait already, or nobody is there
                _log.warning("run %d: its part of the shared cache is not written: %s", export.claim.run.number, error)
                return False
        return True


def receive(end: socket.socket) -> CacheExport | None:
    """The next export; None at the end, when nobody is left who could send one. Raises msgspec.MsgspecError."""
    message, files, _, _ = socket.recv_fds(end, 16, 1)
    if not message:
        return None
    if not files:  # this process has as many files open as it may
        raise msgspec.DecodeError("its content is missing")
    with open(files[0], "rb") as file:  # closes it
        file.seek(0)
        return msgspec.msgpack.decode(file.read(_MOST_BYTES), type=CacheExport, dec_hook=_digest)


@contextlib.contextmanager
def _in_memory(data: bytes) -> Iterator[int]:
    file = os.memfd_create("cache-export")
    try:
        with open(file, "wb", closefd=False) as sink:
            sink.write(data)
        yield file
    finally:
        os.close(file)


def _digest(kind: type, text: object) -> object:
    if issubclass(kind, Digest) and isinstance(text, str):
        return kind.parse(text)
    raise NotImplementedError(kind)
