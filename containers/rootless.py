"""Being root without being root: a user namespace in which an unprivileged user is, for all that is theirs.

    user 1000 ─┐ uid 0           files of the image's root are the user's own
    subuids   ─┘ uid 1..65536    those of its other users belong to subordinate IDs, which newuidmap(1) gives out

After ``become_root`` everything is as for root, except what the kernel keeps from such a root. Layers are unpacked
instead of mounted as EROFS; devices are not made; no idmapped mounts are needed; there are limits only where control
groups were delegated to the user. Containers are in further namespaces of their own below this one.
"""

from __future__ import annotations

import os
import pwd
import threading
from pathlib import Path
from typing import Final

from containers import syscalls
from containers.errors import NamespaceError
from core.owners import user_name

_NEEDED: Final = 65536
_OWN_ID: Final = 1
_NO_PROGRAM: Final = 127  # os.spawnvp's word for a program that cannot be executed


def become_root() -> None:
    """Enter a user namespace as its root, unless this process is root already. Only for a process with one thread.

    Files that it makes from here on belong, outside, to the user and the subordinate IDs. Raises NamespaceError.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        return
    assert threading.active_count() == 1, "become_root in a process with threads"
    name = user_name(uid)
    users, groups = subordinate_ids("/etc/subuid", name, uid), subordinate_ids("/etc/subgid", name, uid)
    ready, entered = os.pipe2(os.O_CLOEXEC)
    process = os.getpid()
    helper = os.fork()
    if helper == 0:
        os.close(entered)
        _write_maps(ready, process, (uid, users), (gid, groups))
    os.close(ready)
    try:
        try:
            syscalls.unshare(syscalls.CLONE_NEWUSER)
        except OSError as error:
            raise NamespaceError(
                f"this user may not make a user namespace: {error.strerror}",
                hint="see user.max_user_namespaces, kernel.unprivileged_userns_clone and "
                "kernel.apparmor_restrict_unprivileged_userns (sysctl), or run as root",
            ) from error
        os.write(entered, b"1")
    finally:
        os.close(entered)
        _pid, status = os.waitpid(helper, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == _NO_PROGRAM:
        raise NamespaceError(
            f"newuidmap or newgidmap, which map the subordinate IDs of {name}, is missing",
            hint="apt-get install uidmap, or run Shiplap as root",
        )
    if code:
        raise NamespaceError(
            f"newuidmap or newgidmap did not map the subordinate IDs of {name}: exit status {code}",
            hint="both have to be set-user-ID root, on a file system without nosuid, and not started without new"
            " privileges (no_new_privs): ls -l /usr/bin/newuidmap",
        )
    remember_home(uid)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _write_maps(ready: int, process: int, users: tuple[int, int], groups: tuple[int, int]) -> None:
    """In a child that stayed outside: wait for the namespace, write its maps, end."""
    code = 1
    try:
        if os.read(ready, 1):
            for program, (own, first) in (("newuidmap", users), ("newgidmap", groups)):
                arguments = [program, process, 0, own, _OWN_ID, _OWN_ID, first, _NEEDED]
                code = os.spawnvp(os.P_WAIT, program, list(map(str, arguments)))  # noqa: S606 - without a shell is the point
                if code:
                    break
    finally:
        os._exit(code)


def remember_home(uid: int) -> None:
    """Have HOME say where this user's home is, before it is user 0, of whom the password database has another."""
    if not os.environ.get("HOME") and (home := _home(uid)):
        os.environ["HOME"] = home


def _home(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return ""


def subordinate_ids(path: str, name: str, uid: int) -> int:
    """The first of a user's subordinate IDs in /etc/subuid or /etc/subgid. Raises NamespaceError when they are few."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    for line in lines:
        owner, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if owner in (name, str(uid)) and first.isdecimal() and count.isdecimal() and int(count) >= _NEEDED:
            return int(first)
    raise NamespaceError(
        f"{path} gives {name} no {_NEEDED} subordinate IDs, which the users of an image need",
        hint=f"as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}, or run Shiplap as root",
    )
