"""For whom an engine works: each caller has one of their own, and what is done to the host for them is done as them.

Root's is ROOT. A member of the group ``shiplap`` has ROOT/users/UID, with root's means: ranges of IDs, limits, the
kernel's way out. Whatever a caller asks for, it makes nobody root of the host. Anybody else works without root, in a
root of their own (``containers.keeper.anchor``).
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import signal
import stat
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from containers import users
from containers.errors import NamespaceError, UserError
from containers.events import readable
from containers.rootless import subordinate_ids
from core.kernel import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2
from core.owners import user_name
from engine import rooted
from engine.errors import InvalidRequestError, NotDoneError
from engine.places import Places

GROUP: Final = "shiplap"
"""Its members may use an engine with root's means."""

_WEB_USER: Final = "shiplap"
"""The web service's, as sysusers.d makes it."""

_FIRST_FREE_PORT: Final = 1024
_PATIENCE_S: Final = 10.0
"""For file systems of the caller's own (FUSE), which need not answer, ever."""

_stuck: Final[deque[int]] = deque()
"""Children that were killed because a file system did not answer."""

_HERE: Final = -100  # AT_FDCWD
_INSIDE: Final = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS


class Caller(NamedTuple):
    """Who asked: IDs of the host.

    view: of a job's engine, the directory that is the job's ``/``: all that is bound is found there. Empty: the host's.
    images: of a job's engine, the socket of whoever fetches images by the job's rights. Empty: registries are asked.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    view: str = ""
    images: str = ""

    @classmethod
    def own(cls) -> Caller:
        """This process's own user."""
        return cls(os.getuid(), os.getgid(), tuple(sorted(os.getgroups())))

    @classmethod
    def of(cls, uid: int) -> Caller:
        """A user of this host with all groups. Raises InvalidRequestError for a number that is no user's."""
        try:
            entry = pwd.getpwuid(uid)
        except KeyError as error:
            raise InvalidRequestError(f"no user of this host has the number {uid}") from error
        return cls(uid, entry.pw_gid, tuple(sorted(os.getgrouplist(entry.pw_name, entry.pw_gid))))

    @classmethod
    def of_job(cls, view: str, images: str) -> Caller:
        """A job, to the engine that it has for itself. The engine's root is the job's."""
        return cls(0, 0, (), view, images)

    @property
    def is_root(self) -> bool:
        """Whether this is the host's root, or root of the user namespace that the engine is in."""
        return self.uid == 0


def places_of(root: Path, caller: Caller) -> Places:
    """Where the caller's engine is. root: of the host's engine. Raises NotDoneError for who may not use that."""
    if caller.is_root:
        return Places.of(root)
    try:
        group = grp.getgrnam(GROUP).gr_gid
    except KeyError:
        group = -1
    name = user_name(caller.uid)
    if name == _WEB_USER and group == caller.gid:
        # systemd-sysusers of 0.2.0 made it with this group as its own: that made it no member
        raise NotDoneError(
            f"{name} is the web service's user, and has no engine",
            hint=f"as root: groupadd -r {GROUP}-web && usermod -g {GROUP}-web {name}",
        )
    if group not in (caller.gid, *caller.groups):
        raise NotDoneError(
            f"{name} is not in the group {GROUP}, whose members have an engine with root's means",
            hint=f"as root: groupadd -f {GROUP} && usermod -aG {GROUP} {name}; without it, shiplap works as {name}",
        )
    return Places.of(root / "users" / str(caller.uid))


def check_ports(caller: Caller, ports: Iterable[Mapping[str, Any]]) -> None:
    """Raise NotDoneError for the host's ports below 1024, which are root's callers' alone.

    ports: of the host, as ``published.wanted`` has them.
    """
    taken = [each["port"] for each in ports if 0 < each["port"] < _FIRST_FREE_PORT]
    if taken and not caller.is_root:
        raise NotDoneError(f"port {taken[0]} is for root's callers: others publish ports from {_FIRST_FREE_PORT} on")


def is_there(caller: Caller, source: str) -> bool:
    """Whether the caller finds something at a path of the host's, or of the job's."""
    if caller.view:
        return rooted.is_there(caller.view, source)
    if caller.is_root:
        return os.path.exists(source)

    def look() -> None:
        os.close(openat2(_HERE, source, os.O_PATH, resolve=RESOLVE_NO_MAGICLINKS))

    return _as(caller, look) == 0


def is_socket(caller: Caller, source: str) -> bool:
    """Whether the caller finds a unix socket at a path of the host's."""

    def look() -> None:
        fd = openat2(_HERE, source, os.O_PATH, resolve=RESOLVE_NO_MAGICLINKS)
        try:
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
        finally:
            os.close(fd)

    return _as(caller, look) == 0


def make_directory(caller: Caller, source: str) -> None:
    """Make a bind's source that is missing, as the caller. Raises InvalidRequestError."""
    if caller.view:
        number = _tried(lambda: rooted.make_directory(caller.view, source))
    else:
        number = _as(caller, lambda: os.makedirs(source, mode=0o755, exist_ok=True))
    if number:
        raise InvalidRequestError(f"cannot make the bind's source {source}: {os.strerror(number)}")


def _as(caller: Caller, does: Callable[[], None]) -> int:
    """Do something with the caller's rights, in a child where these are not our own; the error's number, 0 for none."""
    if caller.is_root:
        return _tried(does)
    _reap()
    pid = os.fork()
    if pid == 0:
        number = errno.EPERM
        try:
            os.setgroups(caller.groups)
            os.setresgid(caller.gid, caller.gid, caller.gid)
            os.setresuid(caller.uid, caller.uid, caller.uid)
            number = _tried(does)
        finally:
            os._exit(number)
    pidfd = os.pidfd_open(pid)
    try:
        if not readable(pidfd, _PATIENCE_S):
            os.kill(pid, signal.SIGKILL)  # it may not even end by that, before the file system does
            _stuck.append(pid)
            raise InvalidRequestError(f"the file system of a bind's source has not answered for {_PATIENCE_S:.0f} s")
    finally:
        os.close(pidfd)
    _pid, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _reap() -> None:
    """Let go of children that were killed and have ended by now: each would stay as a zombie."""
    for _ in range(len(_stuck)):
        pid = _stuck.popleft()  # whoever takes it off is alone with it
        if not os.waitpid(pid, os.WNOHANG)[0]:
            _stuck.append(pid)


def _tried(does: Callable[[], None]) -> int:
    try:
        does()
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def bound(caller: Caller, mounts: Sequence[Mapping[str, Any]], inside: Callable[[], tuple[int, int]]) -> list[Any]:
    """A container's mounts, with what its keeper needs to know of the caller at the binds.

    inside: looks up the numbers of the command's user and group in the container; it is not called without binds.
    """
    if not any(mount.get("caller") for mount in mounts):
        return list(mounts)
    told = {**caller._asdict(), "groups": list(caller.groups), "inside": list(inside())}
    told["subordinate"] = subordinates(caller.uid)
    return [{**mount, "caller": told} if mount.get("caller") else dict(mount) for mount in mounts]


def warnings(caller: Caller, mounts: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is to be said about the binds among a container's mounts."""
    binds = [mount for mount in mounts if mount["kind"] == "bind"]
    if not any(mount.get("caller") for mount in binds) or subordinates(caller.uid) is not None:
        return []
    name = user_name(caller.uid)
    return [f"{name} has no subordinate IDs (/etc/subuid, /etc/subgid): in binds, only the command's user can write"]


def subordinates(uid: int) -> list[int] | None:
    """The first of a user's subordinate user and group IDs; None for who has none."""
    name = user_name(uid)
    try:
        return [subordinate_ids(f"/etc/{kind}", name, uid) for kind in ("subuid", "subgid")]
    except NamespaceError:
        return None


def numbers_of(user: str, root: int) -> tuple[int, int]:
    """The numbers of a user, and of their group, in an image. Raises InvalidRequestError.

    root: a descriptor of its files, which may be hostile.
    """

    def lines(path: str) -> list[str]:
        try:
            fd = openat2(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, resolve=_INSIDE)
        except OSError:
            return []
        return users.lines_of(fd)

    try:
        found = users.resolve(user, lines("etc/passwd"), lines("etc/group"))
    except UserError as error:
        raise InvalidRequestError(error.message, hint=error.hint) from error
    return found.uid, found.gid
