"""The processes above a root's containers, which live on when the service ends that served its engine's API."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from engine.places import Places

_CREDENTIALS: Final = struct.Struct("=iII")
_LOOK_S: Final = 5.0


def lasting(root: Path) -> list[int]:
    """The nurseries and keepers that there are now: of root's engine, and of the members' below ROOT/users."""
    return [pid for path in _sockets(root) for pid in _listener(path)]


def _sockets(root: Path) -> Iterator[Path]:
    for each in (root, *_below(root / "users")):
        run = Places.of(each).run
        yield run / "nursery.sock"
        yield from _below(run / "k")


def _below(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError, PermissionError), os.scandir(folder) as entries:
        for entry in entries:
            yield Path(entry.path)


def _listener(path: Path) -> Iterator[int]:
    """The process that listens there, if one does: SO_PEERCRED tells who has called listen(2)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client, contextlib.suppress(OSError):
        client.settimeout(_LOOK_S)
        client.connect(str(path))
        pid, _uid, _gid = _CREDENTIALS.unpack(
            client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        yield pid
