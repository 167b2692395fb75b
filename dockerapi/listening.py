"""Where the API listens: unix sockets of its own, TCP, or what systemd made.  sd_listen_fds(3)

A socket's file is made aside with its owner and mode, and renamed into place: there is no moment at which others could
connect, and none at which clients find nothing while a second engine takes over.
"""

from __future__ import annotations

import contextlib
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
from core.files import could_lock
from core.listening import parse_listen, require_free
from dockerapi.errors import AddressError
from dockerapi.narrow import Pages
from dockerapi.tcp.terms import Terms
from engine.callers import GROUP
from engine.places import Places

_FIRST: Final = 3
_BACKLOG: Final = 512
_MOST_PATH: Final = 107


class _Own(NamedTuple):
    """A socket that was made here. inode: of its file. lock: held, so that a second engine sees that there is one."""

    path: Path
    inode: int
    lock: int


class Listeners:
    """The sockets at which the API of this process listens.

    fds: unix sockets, open, for gunicorn.
    tcp: others, for the gate (``dockerapi.tcp``). door: the unix socket to which the gate connects; None without any.
    handed: for the gate, too: a unix socket at which a service hands its clients' connections over; empty without one.
    narrow: what connections by the door for pages say of where they came in; "" without one.
    """

    def __init__(self) -> None:
        self.fds: list[int] = []
        self.tcp: list[int] = []
        self.handed: list[int] = []
        self.door: Path | None = None
        self.narrow = ""
        self._pages: Path | None = None
        self._handed: Path | None = None
        self._own: list[_Own] = []
        self._hosts: list[str] = []

    @classmethod
    def given(cls, fd: int) -> Self:
        """A unix socket that somebody else made, and listens; its file is theirs."""
        found = cls()
        found.fds.append(fd)
        return found

    @classmethod
    def open(
        cls, addresses: Sequence[str], places: Places, terms: Terms, pages: Pages | None = None, handed: str = ""
    ) -> Self:
        """Listen at these: ``unix:///PATH``, ``tcp://HOST:PORT``, ``fd://``; none: systemd's, else RUN.sock.

        handed: a path, where this process's user hands connections over; "" for none.
        Raises AddressError, TermsError, ListenError, SettingsError.
        """
        passed = _from_systemd(os.environ)
        if not addresses:
            addresses = ["fd://"] if passed else [f"unix://{places.api}"]
        found = cls()
        try:
            for address in addresses:
                found._add(address, passed, terms)
            if handed:
                found._handed = Path(handed)
                sock, made = _listening(found._handed, os.geteuid())
                found.handed.append(sock.detach())
                found._own.append(made)
            if found.tcp or found.handed:
                terms.check(found._hosts)
                found.door = found._add_unix(places.run.parent / f"{places.run.name}.tcp.sock")
            if pages is not None:
                found._pages = found._add_unix(pages.path, pages.uid)
                found.narrow = str(_aside(pages.path))  # where it was bound, before it was put in place
        except BaseException:
            found.remove()
            raise
        return found

    def _add(self, address: str, passed: Sequence[int], terms: Terms) -> None:
        scheme, separator, rest = address.partition("://")
        if scheme == "tcp" and separator:
            host, port = parse_listen(rest)
            self._hosts.append(host)
            terms.check([host])
            require_free(host, port)
            self.tcp += _listening_over_tcp(host, port)
        elif scheme == "fd" and separator:
            if not passed:
                raise AddressError("no sockets came from systemd", hint="start shiplap-engine.socket")
            for fd in passed:
                os.set_inheritable(fd, False)
                found = _host_of(fd)
                (self.fds if found is None else self.tcp).append(fd)
                self._hosts += [] if found is None else [found]
        elif scheme == "unix" and separator:
            self._add_unix(Path(rest))
        else:
            raise _refused(address)

    def _add_unix(self, path: Path, owner: int | None = None) -> Path:
        sock, made = _listening(path, owner)
        self.fds.append(sock.detach())
        self._own.append(made)
        return path

    def ready(self) -> None:
        """Say where clients find it."""
        for each in self._own:
            if each.path == self._pages:
                sys.stderr.write(f"shiplap engine: SHIPLAP_ENGINE=unix://{each.path}\n")
            elif each.path not in (self.door, self._handed):
                sys.stderr.write(f"shiplap engine: DOCKER_HOST=unix://{each.path}\n")
        for fd in self.tcp:
            sys.stderr.write(f"shiplap engine: DOCKER_HOST=tcp://{_address_of(fd)}\n")

    def remove(self) -> None:
        """Take away the files of our own sockets, unless they are another engine's by now, and those of their locks."""
        for each in self._own:
            with contextlib.suppress(FileNotFoundError):
                if each.path.stat().st_ino == each.inode:
                    each.path.unlink()
            _remove_lock(each.path, each.lock)


def _refused(address: str) -> AddressError:
    hint = "write unix:///PATH, tcp://HOST:PORT, or fd:// for systemd's sockets"
    return AddressError(f"cannot listen at {address!r}", hint=hint)


def _listening_over_tcp(host: str, port: int) -> list[int]:
    """Descriptors, one for each address of the name; without a name one for both families. Raises AddressError."""
    found: list[int] = []
    try:
        wanted = socket.getaddrinfo(host.strip("[]") or "::", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _type, _protocol, _name, address in wanted:
            is_both = not host and socket.has_dualstack_ipv6()
            sock = socket.create_server(address[:2], family=family, backlog=_BACKLOG, dualstack_ipv6=is_both)
            found.append(sock.detach())
            if not port:  # one that is free, at the first address
                break
    except OSError as error:
        for fd in found:
            os.close(fd)
        raise AddressError(f"cannot listen at tcp://{host}:{port}: {error.strerror}") from error
    return found


def _host_of(fd: int) -> str | None:
    """Where a passed socket listens over TCP; None: it is a unix socket."""
    with socket.socket(fileno=os.dup(fd)) as sock:
        return None if sock.family == socket.AF_UNIX else str(sock.getsockname()[0])


def _address_of(fd: int) -> str:
    with socket.socket(fileno=os.dup(fd)) as sock:
        host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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


def _listening(path: Path, owner: int | None) -> tuple[socket.socket, _Own]:
    """A unix socket that listens. owner: who alone may connect; None: this process's user, and of root's the group."""
    if not path.is_absolute():
        raise AddressError(f"{path} is no absolute path", hint="write unix:///PATH")
    if len(os.fsencode(path)) + 4 > _MOST_PATH:
        raise AddressError(f"{path} is too long for a socket's path", hint=f"at most {_MOST_PATH - 4} bytes")
    if path.exists() and not path.is_socket():
        raise AddressError(f"{path} is there, and is no socket", hint="remove it, or give another --listen")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        lock = _locked(_lock_of(path))
    except OSError as error:
        raise AddressError(f"cannot listen at {path}: {error.strerror}") from error
    if lock is None:
        raise AddressError(f"an engine listens at {path} already", hint="end it, or give another --listen")
    try:
        sock, inode = _bound(path, owner)
    except BaseException as error:
        _remove_lock(path, lock)
        os.close(lock)
        if isinstance(error, OSError):
            raise AddressError(f"cannot listen at {path}: {error.strerror}") from error
        raise
    return sock, _Own(path, inode, lock)


def _bound(path: Path, owner: int | None) -> tuple[socket.socket, int]:
    """A socket whose file is at a path, and that file's inode. Raises OSError, AddressError."""
    aside = _aside(path)
    aside.unlink(missing_ok=True)
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        before = os.umask(0o177)
        try:
            sock.bind(str(aside))
        finally:
            os.umask(before)
        stack.callback(aside.unlink, missing_ok=True)
        if owner is None:
            _open_to_the_group(aside)
        elif owner != os.geteuid():
            _give(aside, owner, -1, 0o600)
        sock.listen(_BACKLOG)
        inode = aside.stat().st_ino
        os.rename(aside, path)
        stack.pop_all()
        return sock, inode


def _aside(path: Path) -> Path:
    return Path(f"{path}.new")


def _lock_of(path: Path) -> Path:
    return Path(f"{path}.lock")


def _remove_lock(path: Path, lock: int) -> None:
    """Take away the file of a socket's lock, which is held, unless it is another engine's by now."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(lock), _lock_of(path).stat()):
            _lock_of(path).unlink()


def _locked(path: Path) -> int | None:
    """The lock at a path, which is made; None while another engine holds it. Raises OSError."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if not could_lock(lock, fcntl.LOCK_EX):
                os.close(lock)
                return None
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock), path.lstat()):
                    return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # an engine that ended removed it before we had it


def _open_to_the_group(path: Path) -> None:
    """Root's socket is for the group ``shiplap``, too; without such a group, for root alone.

    Whoever may write to its directory could have put a link in its place: then another file would be opened to them.
    """
    if os.geteuid() != 0 or not namespaces.is_initial():
        return
    try:
        group = grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return
    _give(path, 0, group, 0o660)


def _give(path: Path, owner: int, group: int, mode: int) -> None:
    """Set a socket's owner and mode. Raises AddressError where something else is in its place."""
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise AddressError(f"{path} was replaced", hint="listen in a directory that only you may write to")
        os.chown(f"/proc/self/fd/{fd}", owner, group)
        os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)
