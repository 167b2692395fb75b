"""Whom a process could have been: what a fork cannot take over of another process, read from the kernel's own files.

A process that forks a command for another one (``core.forking``) serves only whom it could have been, and a client
asks only such a process. Both read of each other what is here; neither believes what the other says of itself.

Four things cannot be read of another process, and are known nevertheless:

securebits: a root with whole capability sets after execve has none that matter. ``is_certain`` wants such a one.
Landlock: whoever is confined by it, and by no no_new_privs, cannot look into a process outside. So both have to prove
    that they can. Who forks says by which name the client holds a file (``proof_of``), before that has said anything;
    the client says a word that stands in the other's environment, where /proc shows it (``word_of``).
an execve since the connection was made: the label of that moment is SO_PEERSEC's, the process SO_PEERPIDFD's.
the session keyring: who forks has an empty one of its own, and whoever has keys does not ask (``has_keys``).

(Each command starts with this: only what is cheap.)
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what ``signal`` wraps
import _socket
import os

from core import packets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_FIRST_TO_READ = 1 << 16
_MOST_OF_A_LABEL = 1024  # more is refused
_SO_PEERSEC = 31
_SO_PEERPIDFD = 77  # Linux 6.5; before, a number that was given again could not be told from the first one
_ABSENT = (2, 22, 92)  # ENOENT, EINVAL, ENOPROTOOPT: the kernel has no such thing

_NEEDED = frozenset(
    {
        b"TracerPid",
        b"Uid",
        b"Gid",
        b"Groups",
        b"CapInh",
        b"CapPrm",
        b"CapEff",
        b"CapBnd",
        b"CapAmb",
        b"NoNewPrivs",
        b"Seccomp",
        b"Seccomp_filters",
        b"Cpus_allowed",
        b"Mems_allowed",
    }
)
_AS_THERE_IS = frozenset({b"Speculation_Store_Bypass", b"SpeculationIndirectBranch", b"THP_enabled"})
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts")
_FILES = ("cgroup", "personality", "coredump_filter", "timerslack_ns")
_PERHAPS = ("loginuid", "sessionid", "attr/current", "attr/apparmor/current", "attr/smack/current")
_NO_CAPABILITY = b"0000000000000000"

AT_START = ("LD_", "PYTHON", "MALLOC_", "GLIBC_", "GCONV_", "LOCPATH", "OPENSSL_", "COVERAGE_")
"""How variables begin that act when a process starts: later a fork cannot take them over."""

_PROOF = "forking-"
_SHOWN = 9
_KINDS_OF_KERNEL = {kind[:_SHOWN] for kind in (b"keyring", b"asymmetric", b"dns_resolver", b"blacklist")}
"""Of keys that are the kernel's own, as /proc/keys shows them. A keyring is no key."""


class UnlikeError(Exception):
    """A process could not have been the other one, or cannot be known to."""


def facts(pid: int) -> dict[str, bytes]:
    """What a fork cannot take over of a process, by name. Raises OSError for what cannot be read.  proc(5)"""
    place = f"/proc/{pid}"
    found: dict[str, bytes] = {}
    for line in _read(f"{place}/status").splitlines():
        entry, _, value = line.partition(b":")
        if entry in _NEEDED or entry in _AS_THERE_IS:
            found[entry.decode("ascii")] = value.strip()
    missing = [entry for entry in _NEEDED if entry.decode("ascii") not in found]
    if missing:
        raise OSError(f"{place}/status does not tell {missing}")
    for name in _NAMESPACES:
        found[f"ns/{name}"] = os.fsencode(os.readlink(f"{place}/ns/{name}"))
    for name in ("root", "exe"):
        status = os.stat(f"{place}/{name}")
        found[name] = b"%d:%d " % (status.st_dev, status.st_ino) + os.fsencode(os.readlink(f"{place}/{name}"))
    for name in _FILES:
        found[name] = _read(f"{place}/{name}")
    for name in _PERHAPS:
        found[name] = _if_there(f"{place}/{name}")
    found["limits"] = b"\n".join(_hard_limits(_read(f"{place}/limits")))
    found["scheduling"] = b"%d %d" % (os.sched_getscheduler(pid), os.sched_getparam(pid).sched_priority)
    return found


def is_certain(found: dict[str, bytes]) -> bool:
    """Whether a process with these facts hides none: nothing confines it, nobody traces it, and it is a whole root.

    Root's sets are whole after execve unless a securebit kept it from that: SECBIT_NOROOT. capabilities(7)
    """
    free = all(found[name] == b"0" for name in ("TracerPid", "NoNewPrivs", "Seccomp", "Seccomp_filters"))
    is_root = found["Uid"].split() == [b"0"] * 4
    sets = {found[name] for name in ("CapPrm", "CapEff", "CapBnd")}
    bare = found["CapInh"] == found["CapAmb"] == _NO_CAPABILITY
    return free and is_root and bare and len(sets) == 1 and _NO_CAPABILITY not in sets


def check_peer(sock: _socket.socket, own: dict[str, bytes]) -> bytes:
    """Find that this process could have been the one at the other end of a socket; the environment that one began with.

    own: this process's facts. Raises UnlikeError, and OSError for what cannot be read.
    """
    pid, uid, _gid = packets.peer(sock)
    if pid <= 0 or uid != os.geteuid():
        raise UnlikeError("it is another user's, or not in this PID namespace")
    pidfd = sock.getsockopt(_socket.SOL_SOCKET, _SO_PEERPIDFD)
    try:
        theirs = facts(pid)
        different = [name for name in {**own, **theirs} if own.get(name) != theirs.get(name)]
        if different:
            raise UnlikeError(f"it differs in {', '.join(different)}")
        if _label(sock) != _own_label():
            raise UnlikeError("it had another label when it connected")
        environment = _read(f"/proc/{pid}/environ")
        if acts_at_start(environment.split(b"\0")):
            raise UnlikeError("its environment acts when a process starts")
        _signal.pidfd_send_signal(pidfd, 0)  # it lives: all of this was read of it, and not of a later one
    finally:
        os.close(pidfd)
    if not is_certain(theirs):
        raise UnlikeError("something may confine it that cannot be seen")
    return environment


def acts_at_start(entries: Iterable[bytes]) -> bool:
    """Whether one of these variables (``NAME=value``, or names) acts when a process starts."""
    beginnings = tuple(name.encode("ascii") for name in AT_START)
    return any(entry.startswith(beginnings) for entry in entries)


def word_of(environment: bytes, variable: str) -> bytes:
    """What a variable says in an environment as /proc shows it; b"" when it is not there."""
    beginning = f"{variable}=".encode("ascii")
    for entry in environment.split(b"\0"):
        if entry.startswith(beginning):
            return entry[len(beginning) :]
    return b""


def new_proof() -> tuple[int, bytes]:
    """A new file in memory whose name proves that who knows it can look into this process: descriptor and name."""
    name = _PROOF + os.urandom(16).hex()
    return os.memfd_create(name, os.MFD_CLOEXEC), name.encode("ascii")


def proof_of(pid: int) -> bytes:
    """The name of a process's ``new_proof``. Raises OSError for what cannot be looked into, UnlikeError without one."""
    place = f"/proc/{pid}/fd"
    for number in os.listdir(place):
        try:
            target = os.readlink(f"{place}/{number}")
        except FileNotFoundError:
            continue
        if target.startswith(f"/memfd:{_PROOF}"):
            return os.fsencode(target.removeprefix("/memfd:").partition(" ")[0])
    raise UnlikeError("it holds no file that could be named to it")


def has_keys() -> bool:
    """Whether this process may have keys in its session keyring. Raises OSError when it cannot know.  keyrings(7)"""
    try:
        lines = _read("/proc/keys").splitlines()
    except FileNotFoundError:
        return False  # a kernel without keys
    if not lines:
        raise OSError("/proc/keys is hidden")
    return any(line.split()[7] not in _KINDS_OF_KERNEL for line in lines)


def _label(sock: _socket.socket) -> bytes:
    try:
        return sock.getsockopt(_socket.SOL_SOCKET, _SO_PEERSEC, _MOST_OF_A_LABEL)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return b""


def _own_label() -> bytes:
    one, other = packets.pair()
    try:
        return _label(one)
    finally:
        one.close()
        other.close()


def _hard_limits(text: bytes) -> Iterable[bytes]:
    head, *lines = text.splitlines()
    soft, hard = head.index(b"Soft Limit"), head.index(b"Hard Limit")
    return [line[:soft].strip() + b"=" + line[hard:].split()[0] for line in lines]


def _if_there(path: str) -> bytes:
    try:
        return _read(path)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return b"absent"


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, _FIRST_TO_READ):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)
