"""Whether one can listen at an address, tried before anything else is started. The error names who has the port."""

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
_OF_SERVICE: Final = "--no-welcome"  # an argument of the web process that ``shiplap serve`` starts
_LISTENING: Final = "0A"  # the state TCP_LISTEN in /proc/net/tcp: proc(5)
_PATIENCE_S: Final = 5.0
_POLL_S: Final = 0.1


class ListenError(ShiplapError):
    """One cannot listen there."""


class Holder(NamedTuple):
    """Who listens at a port: of several processes the one that has started the others.

    command: its arguments.
    webs: how many web processes of Shiplap's listen there.
    """

    pid: int
    command: tuple[str, ...]
    webs: int = 0

    @property
    def may_be_ending(self) -> bool:
        """Whether these may be web processes that have outlived their starter, and therefore end by themselves."""
        return _runs_web(self.command) and (self.webs == 1 or _OF_SERVICE in self.command)

    def __str__(self) -> str:
        if _runs_web(self.command):
            shown = "shiplap web"
        elif self.webs:
            shown = "shiplap serve"
        else:
            shown = Path(self.command[0]).name if self.command else "a process"
        return f"{''.join(letter for letter in shown if letter.isprintable())} (process {self.pid})"


def parse_listen(text: str) -> tuple[str, int]:
    """Host, empty for all addresses, and port of ``HOST:PORT``. Raises SettingsError."""
    match = _LISTEN.fullmatch(text)
    if match is None or int(match[2]) > _MAX_PORT:
        raise SettingsError(f"cannot listen on {text!r}", hint="write HOST:PORT, as in 0.0.0.0:8080")
    return match[1], int(match[2])


def require_free(host: str, port: int) -> None:
    """Raise ListenError when the name has no address, the port is in use, or may not be taken.

    Web processes of Shiplap's that have lost their parent are ending: they get some seconds for it.
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
    """Who listens at a TCP port of this network namespace; None where that is not to be seen.

    Another user's process is seen by root only.
    """
    inodes = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _listeners(table, port)}
    if not inodes:
        return None
    found: dict[int, tuple[tuple[str, ...], int]] = {}  # the arguments and the parent of each that has it open
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _has_one_of(process, inodes):
            with contextlib.suppress(OSError):
                found[int(process.name)] = _command(process), _parent(process)
    first = next((pid for pid, (_, parent) in found.items() if parent not in found), None)
    if first is None:
        return None
    command, parent = found[first]
    webs = sum(_runs_web(each) for each, _ in found.values())
    if webs and parent:
        with contextlib.suppress(OSError):
            started_by = _command(Path(f"/proc/{parent}"))
            if "serve" in started_by:  # it would start them again
                return Holder(parent, started_by, webs)
    return Holder(first, command, webs)


def _command(process: Path) -> tuple[str, ...]:
    return tuple((process / "cmdline").read_bytes().rstrip(b"\0").decode(errors="replace").split("\0"))


def _parent(process: Path) -> int:
    return int((process / "stat").read_bytes().rpartition(b")")[2].split()[1])


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
