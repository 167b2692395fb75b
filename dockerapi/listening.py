"""Where the API listens: unix sockets of its own, or those that systemd made.  sd_listen_fds(3)

A socket's file is made aside with its owner and mode, and renamed into place: there is no moment at which others could
connect, and none at which clients find nothing while a second engine takes over.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import socket
import stat
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

from core import namespaces
from core.errors import ShiplapError
from engine.callers import GROUP
from engine.places import Places

_FIRST: Final = 3
_BACKLOG: Final = 512
_MOST_PATH: Final = 107


class AddressError(ShiplapError):
    """One cannot listen there."""


class _Own(NamedTuple):
    """A socket that was made here. lock: held, so that a second engine sees that there is one."""

    path: Path
    inode: int
    lock: int


class Listeners:
    """The sockets. fds: open, for gunicorn."""

    def __init__(self, fds: list[int], own: list[_Own]) -> None:
        self.fds = fds
        self._own = own

    @classmethod
    def open(cls, addresses: Sequence[str], places: Places) -> Self:
        """Listen at these: ``unix:///PATH``, ``fd://``; none: systemd's, else RUN.sock. Raises AddressError."""
        passed = _from_systemd(os.environ)
        if not addresses:
            addresses = ["fd://"] if passed else [f"unix://{default_path(places)}"]
        fds: list[int] = []
        own: list[_Own] = []
        for address in addresses:
            scheme, separator, rest = address.partition("://")
            if not separator or scheme not in ("unix", "fd"):
                raise _refused(address, scheme)
            if scheme == "fd":
                if not passed:
                    raise AddressError("no sockets came from systemd", hint="start shiplap-engine.socket")
                fds += passed
                continue
            sock, made = _listening(Path(rest))
            fds.append(sock.detach())
            own.append(made)
        return cls(fds, own)

    def ready(self) -> None:
        """Say where clients find it."""
        for each in self._own:
            sys.stderr.write(f"shiplap engine: DOCKER_HOST=unix://{each.path}\n")

    def remove(self) -> None:
        """Take away the files of our own sockets, unless they are another engine's by now."""
        for each in self._own:
            with contextlib.suppress(FileNotFoundError):
                if each.path.stat().st_ino == each.inode:
                    each.path.unlink()


def default_path(places: Places) -> Path:
    """RUN/docker.sock. RUN is root's alone, so root's engine has it a level above, where the group gets to it."""
    if os.geteuid() == 0 and namespaces.is_initial():
        return places.run.parent / f"{places.run.name}.sock"
    return places.run / "docker.sock"


def _refused(address: str, scheme: str) -> AddressError:
    if scheme == "tcp":
        return AddressError(
            f"cannot listen at {address}: the engine's API is not served over tcp yet",
            hint="whoever can connect would be root's engine: use ssh -L, or docker's ssh://",
        )
    return AddressError(f"cannot listen at {address!r}", hint="write unix:///PATH, or fd:// for systemd's sockets")


def _from_systemd(environ: MutableMapping[str, str]) -> list[int]:
    """Descriptors that systemd passed to this process; the variables are taken out, for they are nobody else's."""
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    found = list(range(_FIRST, _FIRST + int(count)))
    for fd in found:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise AddressError(f"descriptor {fd} of systemd's is no socket")
    return found


def _listening(path: Path) -> tuple[socket.socket, _Own]:
    if not path.is_absolute():
        raise AddressError(f"{path} is no absolute path", hint="write unix:///PATH")
    if len(os.fsencode(path)) + 4 > _MOST_PATH:
        raise AddressError(f"{path} is too long for a socket's path", hint=f"at most {_MOST_PATH - 4} bytes")
    if path.exists() and not path.is_socket():
        raise AddressError(f"{path} is there, and is no socket", hint="remove it, or give another --listen")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise AddressError(f"cannot listen at {path}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if error.errno != errno.EWOULDBLOCK:
            raise
        raise AddressError(f"an engine listens at {path} already", hint="end it, or give another --listen") from error
    aside = Path(f"{path}.new")
    aside.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(str(aside))
    except OSError as error:
        raise AddressError(f"cannot listen at {path}: {error.strerror}") from error
    finally:
        os.umask(before)
    _open_to_the_group(aside)
    sock.listen(_BACKLOG)
    inode = aside.stat().st_ino
    os.rename(aside, path)
    return sock, _Own(path, inode, lock)


def _open_to_the_group(path: Path) -> None:
    """Root's socket is for the group ``shiplap``, too; without such a group, for root alone."""
    if os.geteuid() == 0 and namespaces.is_initial():
        with contextlib.suppress(KeyError):
            os.chown(path, 0, grp.getgrnam(GROUP).gr_gid)
            os.chmod(path, 0o660)
