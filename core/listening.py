"""Whether one can listen at an address, asked before anything else is started: who has the port is said by name."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import socket
import time
from pathlib import Path
from typing import Final, NamedTuple

from core.errors import SettingsError, ShiplapError

_LISTEN: Final = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9_.-]*):(\d{1,5})")
_MAX_PORT: Final = 65535
_LISTENING: Final = "0A"  # the state TCP_LISTEN in /proc/net/tcp: proc(5)
_PATIENCE_S: Final = 5.0
_POLL_S: Final = 0.1


class ListenError(ShiplapError):
    """One cannot listen there."""


class Holder(NamedTuple):
    """A process that listens. command, parent_command: its arguments, and those of the process that started it."""

    pid: int
    command: tuple[str, ...]
    parent_command: tuple[str, ...] = ()

    @property
    def is_web(self) -> bool:
        """Whether it is a web process of Shiplap's."""
        return _runs_web(self.command)

    @property
    def may_be_ending(self) -> bool:
        """Whether it may be a web process that outlived its parent. Those of a service that runs are none."""
        return self.is_web and not _runs_web(self.parent_command) and "serve" not in self.parent_command

    def __str__(self) -> str:
        shown = "shiplap web" if self.is_web else Path(self.command[0]).name if self.command else "a process"
        return f"{''.join(letter for letter in shown if letter.isprintable())} (process {self.pid})"


def parse_listen(text: str) -> tuple[str, int]:
    """Host, empty for all addresses, and port of ``HOST:PORT``. Raises SettingsError."""
    match = _LISTEN.fullmatch(text)
    if match is None or int(match[2]) > _MAX_PORT:
        raise SettingsError(f"cannot listen on {text!r}", hint="write HOST:PORT, as in 0.0.0.0:8080")
    return match[1], int(match[2])


def require_free(host: str, port: int) -> None:
    """Raise ListenError when the name has no address, the port is in use, or may not be taken.

    A web process of Shiplap's that has lost its parent gets some seconds: it is ending.
    """
    end = time.monotonic() + _PATIENCE_S
    while (error := _bind(host, port)) is not None:
        if error.errno != errno.EADDRINUSE:
            raise _refusal(host, port, error) from error
        holder = port_holder(port)
        if (holder is not None and not holder.may_be_ending) or time.monotonic() > end:
            by = f" by {holder}" if holder else ""
            raise ListenError(
                f"cannot listen on {host or '0.0.0.0'}:{port}: the port is in use{by}",  # noqa: S104 - only told
                hint="end that, or take another port: --listen HOST:PORT",
            )
        time.sleep(_POLL_S)


def _bind(host: str, port: int) -> OSError | None:
    """What comes of taking the port, which is given back at once."""
    name = host.strip("[]") or "0.0.0.0"  # noqa: S104 - what an empty host means
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(address)
    except OSError as error:
        return error
    return None


def _refusal(host: str, port: int, error: OSError) -> ListenError:
    told = f"cannot listen on {host}:{port}"
    if isinstance(error, socket.gaierror):
        return ListenError(
            f"{told}: there is no address for the name {host!r}", hint="write an address of this machine"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return ListenError(f"{told}: {host} is no address of this machine", hint="ip address shows those there are")
    if error.errno == errno.EACCES:
        return ListenError(f"{told}: only root may take ports below 1024", hint="take another one: --listen HOST:PORT")
    return ListenError(f"{told}: {error.strerror}")


def port_holder(port: int) -> Holder | None:
    """The process that listens at a TCP port of this network namespace; None where that is not to be seen.

    Another user's process is seen by root only.
    """
    inodes = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _listeners(table, port)}
    if not inodes:
        return None
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _has_one_of(process, inodes):
            with contextlib.suppress(OSError):
                parent = (process / "stat").read_bytes().rpartition(b")")[2].split()[1].decode()
                started_by = _command(parent) if parent != "0" else ()
                return Holder(int(process.name), _command(process.name), started_by)
    return None


def _command(pid: str) -> tuple[str, ...]:
    return tuple(Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode(errors="replace").split("\0"))


def _runs_web(command: tuple[str, ...]) -> bool:
    return ("-m", "web") in itertools.pairwise(command)


def _listeners(table: str, port: int) -> list[str]:
    """Inodes of the sockets that listen at the port.  Format: proc(5), /proc/net/tcp."""
    try:
        rows = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    except OSError:  # a kernel without IPv6
        return []
    found = (row.split() for row in rows)
    return [row[9] for row in found if row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) == port]


def _has_one_of(process: Path, inodes: set[str]) -> bool:
    try:
        with os.scandir(process / "fd") as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if os.readlink(entry.path) in inodes:
                        return True
    except OSError:  # it ended, or is another user's
        return False
    return False
