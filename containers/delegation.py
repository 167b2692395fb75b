"""The control group of version 2 that a service was given to divide. (The launcher imports this: only what is cheap.)

systemd marks two kinds of group with an extended attribute: that of a unit with ``Delegate=``, and that of each user's
own manager. Whoever is in such a group makes groups below it as he likes. A group that limits those below it may have
no processes of its own. systemd 254 can put them one level down (``DelegateSubgroup=``); where it has not, this module
does.
Sources: systemd's CGROUP_DELEGATION.md; Documentation/admin-guide/cgroup-v2.rst of the kernel, "No Internal Process
Constraint".
"""

from __future__ import annotations

import errno
import os

from core.mountinfo import place_below
from core.namespaces import is_initial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from core.mountinfo import Mount

LEAF = "service"
"""The group of the service's own processes, as the units in compose/systemd have it."""

_MARKS = ("user.delegate", "trusted.delegate")
_REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EINVAL, errno.ENOENT, errno.EOPNOTSUPP)
_ELSEWHERE = "0"  # a process of an outer PID namespace, which has no number here
_SYSTEMD = "/run/systemd/system"
_RESTORE = "shiplap-restore.service"
"""The unit in compose/systemd whose end stops all containers, each by its own signal and time."""

_SCOPE = ("--scope", "--quiet", "--collect", "-p", "Delegate=yes", "--slice=shiplap.slice")
_ENDS_LATER = ("-p", f"Before={_RESTORE}")  # at a shutdown what was before ends after
_ROUNDS = 100  # in each, what was forked during the one before is moved


def delegated_group(mount: Mount, cgroup: str) -> str:
    """The directory of the nearest delegated group that this process is in, or below; empty when there is none.

    mount: of the hierarchy. cgroup: the text of /proc/self/cgroup.
    """
    own = next((line[3:] for line in cgroup.splitlines() if line.startswith("0::/")), "/")
    below = place_below(own, mount.root)
    while below != ".":
        folder = f"{mount.place}/{below}"
        if _is_marked(folder):
            return folder if os.access(folder, os.W_OK) else ""
        below = os.path.dirname(below) or "."
    return ""


def remedy() -> str:
    """How to get control groups where there are none to be had."""
    if os.geteuid() == 0 and is_initial():
        return "mount cgroup2 on /sys/fs/cgroup, writable, with cpu, memory and pids in its cgroup.subtree_control"
    return "start it where groups are yours: systemd-run --user --scope -p Delegate=yes shiplap …"


def has_systemd() -> bool:
    """Whether systemd runs this host."""
    return os.path.isdir(_SYSTEMD)


def scope() -> list[str]:
    """What to put before a command that is to be in a scope of its own, where control groups may be made.

    A scope outlives the session that it was asked for in. At a shutdown systemd ends it after the unit that stops its
    containers in order. Empty where there is no systemd that could be asked, as for
    a user who has no manager of their own: after su(1), say.
    """
    if not has_systemd():
        return []
    if os.geteuid() == 0 and is_initial():
        return ["systemd-run", *_SCOPE, *_ENDS_LATER]
    manager = f"{os.environ.get('XDG_RUNTIME_DIR', '')}/systemd/private"
    return ["systemd-run", "--user", *_SCOPE, *_ENDS_LATER] if os.access(manager, os.W_OK) else []


def make_room(folder: str) -> bool:
    """Move the processes of a group one level down; whether it has none any more."""
    leaf = f"{folder}/{LEAF}"
    try:
        for _ in range(_ROUNDS):
            with open(f"{folder}/cgroup.procs", encoding="ascii") as file:
                members = file.read().split()
            if not members:
                return True
            if _ELSEWHERE in members:
                return False
            if not os.path.isdir(leaf):
                os.mkdir(leaf, 0o755)
            for pid in members:
                _move(pid, f"{leaf}/cgroup.procs")
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
    return False


def _is_marked(folder: str) -> bool:
    for mark in _MARKS:
        try:
            if os.getxattr(folder, mark) == b"1":
                return True
        except OSError:  # without the mark, without attributes, or gone
            continue
    return False


def _move(pid: str, target: str) -> None:
    fd = os.open(target, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, pid.encode())
    except OSError as error:
        if error.errno != errno.ESRCH:  # it has ended by then
            raise
    finally:
        os.close(fd)
