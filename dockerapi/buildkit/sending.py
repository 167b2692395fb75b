"""Outputs, sent to the client: a file in pieces, or a directory by fsutil's protocol with the roles turned round.

The client says by the exporter's number which of its ``-o`` a transfer is for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from core.cancellation import check
from dockerapi.buildkit import messages
from dockerapi.buildkit.receiving import DATA, ERR, FIN, IS_DIRECTORY, IS_LINK, REQ, STAT
from dockerapi.buildkit.rpc import Asked, Code, RpcError
from dockerapi.buildkit.sessions import Session

_METHOD: Final = "/moby.filesync.v1.FileSend/DiffCopy"
_PIECE: Final = 256 << 10
_PATIENCE_S: Final = 600.0
_SETS: Final = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


def send_file(session: Session, number: int, path: Path) -> None:
    """Send a file for the client's exporter of this number. Raises RpcError."""
    with _begun(session, number) as asked, open(path, "rb") as file:
        while data := file.read(_PIECE):
            check()
            asked.send(messages.Bytes(data=data))
        asked.end()
        while asked.receive(messages.Bytes, _PATIENCE_S) is not None:
            pass


def send_directory(session: Session, number: int, path: Path) -> None:
    """Send what is in a directory, for the client's exporter of this number. Raises RpcError."""
    root = os.fsencode(path)
    files: dict[int, bytes] = {}
    with _begun(session, number) as asked:
        for count, (name, described) in enumerate(_described(root, b"")):
            check()
            if not described.mode & (IS_DIRECTORY | IS_LINK):
                files[count] = root + b"/" + name
            asked.send(messages.Packet(type=STAT, stat=described))
        asked.send(messages.Packet(type=STAT))
        while True:
            packet = asked.receive(messages.Packet, _PATIENCE_S)
            check()
            if packet is None:
                raise RpcError(Code.UNKNOWN, "the client ended the transfer of an output")
            if packet.type == FIN:
                break
            if packet.type == ERR:
                raise RpcError(Code.UNKNOWN, f"the client failed: {packet.data[:1000].decode(errors='replace')}")
            if packet.type != REQ or packet.ID not in files:
                raise RpcError(Code.INVALID_ARGUMENT, f"the client asked for file {packet.ID}, which there is not")
            _send_content(asked, packet.ID, files[packet.ID])
        asked.send(messages.Packet(type=FIN))
        asked.end()
        while asked.receive(messages.Packet, _PATIENCE_S) is not None:
            pass


def _begun(session: Session, number: int) -> Asked:
    if not session.has(_METHOD):
        raise RpcError(Code.UNIMPLEMENTED, "the client takes no output: it offers no FileSend")
    return Asked(session.connection, _METHOD, {"buildkit-attachable-exporter-id": [str(number)]})


def _send_content(asked: Asked, number: int, path: bytes) -> None:
    with open(path, "rb") as file:
        while data := file.read(_PIECE):
            check()
            asked.send(messages.Packet(type=DATA, ID=number, data=data))
    asked.send(messages.Packet(type=DATA, ID=number))


def _described(root: bytes, directory: bytes) -> Iterator[tuple[bytes, Any]]:
    """Path and description of everything, parents first, in the order of the parts of paths."""
    with os.scandir(root + b"/" + directory if directory else root) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        there = entry.stat(follow_symlinks=False)
        name = directory + b"/" + entry.name if directory else entry.name
        mode = stat.S_IMODE(there.st_mode)
        theirs = (mode & 0o777) | sum(go for ours, go in _SETS if mode & ours)
        described = messages.Stat(path=name, mode=theirs, modTime=there.st_mtime_ns)
        if stat.S_ISDIR(there.st_mode):
            described.mode |= IS_DIRECTORY
            yield name, described
            yield from _described(root, name)
        elif stat.S_ISLNK(there.st_mode):
            described.mode |= IS_LINK
            described.linkname = os.readlink(entry.path)
            yield name, described
        elif stat.S_ISREG(there.st_mode):
            described.size = there.st_size
            yield name, described
