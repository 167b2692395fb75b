"""Which host IDs stand for a container's 0..65535, and the user namespace that says so.

The range is that of root's entry in /etc/subuid, which has to be in /etc/subgid too (`shadow`'s convention, also read
by podman and docker). Without such an entry it is FALLBACK: the first block of what systemd's table of user IDs
(UIDS-GIDS) lists as unused, above every range that adduser, systemd-nspawn or useradd's subordinate IDs hand out.
A root of a user namespace only (``rootless``) has no such choice: its containers' IDs are its own.
If the host's /etc/passwd or /etc/group names an ID in that block, the next block without one is taken: the choice
depends on those files only. All build steps of a host share the range: what separates them is everything else. A
container of a keeper's has a block for itself (``host_blocks``).
"""

from __future__ import annotations

import errno
import os

from containers import syscalls
from containers.errors import NamespaceError
from core import namespaces

SIZE = 65536
FALLBACK = 0x70000000
LAST_START = 0x7FFD0000  # the block behind it is systemd's "foreign" one


def choose_start(subids: str, accounts: str) -> int:
    """The first host ID of the range.

    subids: /etc/subuid or /etc/subgid; accounts: /etc/passwd or /etc/group. Raises NamespaceError when all is taken.
    """
    for line in subids.splitlines():
        name, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if name in ("root", "0") and first.isdecimal() and count.isdecimal() and int(count) >= SIZE:
            return int(first)
    taken = _blocks_of(accounts)
    for start in range(FALLBACK, LAST_START + 1, SIZE):
        if start // SIZE not in taken:
            return start
    raise NamespaceError(
        "no block of 65536 unused user IDs for containers",
        hint="give root one: echo root:100000:65536 | tee -a /etc/subuid /etc/subgid",
    )


def taken_blocks(accounts: tuple[str, ...], builds: tuple[int, int]) -> set[int]:
    """The blocks of 65536, by number, that no container may have for itself.

    accounts: /etc/passwd and /etc/group. builds: what all build steps share, which is no container's own.
    """
    taken = {FALLBACK // SIZE}.union(*map(_blocks_of, accounts))
    for start in builds:
        taken |= {start // SIZE, (start + SIZE - 1) // SIZE}
    return taken


def host_blocks() -> tuple[range, set[int]]:
    """The blocks for containers by number, and those of them that are taken by this host.

    No blocks where containers have the IDs that are this process's own.
    """
    builds = host_ranges()
    if not any(builds):
        return range(0), set()
    blocks = range(FALLBACK // SIZE, LAST_START // SIZE + 1)
    return blocks, taken_blocks((_read("/etc/passwd"), _read("/etc/group")), builds)


def _blocks_of(accounts: str) -> set[int]:
    """The blocks that hold an account of /etc/passwd or /etc/group."""
    fields = [line.split(":") for line in accounts.splitlines()]
    return {int(parts[2]) // SIZE for parts in fields if len(parts) > 2 and parts[2].isdecimal()}


def host_ranges() -> tuple[int, int]:
    """The first host user ID and group ID for containers on this host. Raises NamespaceError."""
    if not namespaces.is_initial():
        for kind in ("uid", "gid"):
            mapped = sum(count for inside, _, count in namespaces.id_map(kind) if inside < SIZE)
            if mapped < SIZE:
                raise NamespaceError(
                    f"this user namespace maps {mapped} {kind}s, and containers need {SIZE}",
                    hint="run Shiplap outside of it, or where 0 to 65535 are mapped",
                )
        return (0, 0)
    return (
        choose_start(_read("/etc/subuid"), _read("/etc/passwd")),
        choose_start(_read("/etc/subgid"), _read("/etc/group")),
    )


def clone_as(owner: int, flags: int, cgroup: int, *, death_signal: int) -> int:
    """clone3 with the host's user ``owner`` as the owner of the new user namespace; its pid, 0 in the child.

    death_signal: what the caller is to get at its own parent's death; 0 for nothing.

    What the kernel counts for each user (inotify instances and watches, pending signals, timers, message queues, …) it
    counts in the owner's name too, with the host's limits. If the owner were root, a container could use up what the
    host's root is allowed. If all containers had one owner, each could use up what the others are allowed. So every
    container has an owner of its own, who owns nothing else. Capabilities stay while the user changes. The kernel
    forgets the caller's death signal at every change of user: it is set again, and ``server`` also watches the parent.
    """
    pid = -1
    syscalls.prctl(syscalls.PR_SET_SECUREBITS, syscalls.SECBIT_NO_SETUID_FIXUP)
    os.seteuid(owner)
    try:
        pid = syscalls.clone3(flags, cgroup=cgroup)
    finally:
        if pid:
            os.seteuid(0)
            syscalls.prctl(syscalls.PR_SET_SECUREBITS, 0)
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, death_signal)
    return pid


def write_maps(
    pid: int, ranges: tuple[int, int], proc: str = "/proc", instead_of_root: tuple[int, int] = (0, 0)
) -> None:
    """Map 0..65535 in the new user namespace of process ``pid``.  user_namespaces(7)

    instead_of_root: a user and a group who change places with root.
    """
    _write(pid, _maps(ranges, instead_of_root), proc)


def _maps(ranges: tuple[int, int], instead_of_root: tuple[int, int]) -> tuple[bytes, bytes]:
    return _lines("uid", ranges[0], instead_of_root[0]), _lines("gid", ranges[1], instead_of_root[1])


def _write(pid: int, maps: tuple[bytes, bytes], proc: str) -> None:
    for kind, lines in zip(("uid", "gid"), maps, strict=True):
        fd = os.open(f"{proc}/{pid}/{kind}_map", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, lines)
        except PermissionError as error:
            first = lines.split(maxsplit=2)[1].decode()
            raise NamespaceError(
                f"the kernel refuses to map user IDs from {first} on into a container",
                hint="in a container or user namespace, run Shiplap where these IDs are mapped, or as the host's root",
            ) from error
        finally:
            os.close(fd)


def owner(ranges: tuple[int, int], number: int) -> int:
    """The owner of the ``number``-th container's user namespace, see ``clone_as``: of the mapped users, but no root."""
    return ranges[0] + 1 + number % (SIZE - 1)


def _lines(kind: str, start: int, other: int) -> bytes:
    if start:
        runs = [(0, other, 1), (1, 1, other - 1), (other, 0, 1), (other + 1, other + 1, SIZE - other - 1)]
        if not other:
            runs = [(0, 0, SIZE)]
        return b"".join(b"%d %d %d\n" % (inside, start + outside, count) for inside, outside, count in runs if count)
    # The IDs that are ours, as ours are mapped: one line may not span two of the namespace above.
    return b"".join(
        b"%d %d %d\n" % (inside, inside, min(count, SIZE - inside))
        for inside, _, count in namespaces.id_map(kind)
        if inside < SIZE
    )


def user_namespace(ranges: tuple[int, int], proc: str = "/proc", instead_of_root: tuple[int, int] = (0, 0)) -> int:
    """A descriptor of a new user namespace that maps 0..65535 to ``ranges``; for idmapped mounts.

    instead_of_root: see ``write_maps``.
    """
    return namespace_of(_maps(ranges, instead_of_root), proc)


def namespace_of(maps: tuple[bytes, bytes], proc: str = "/proc") -> int:
    """A descriptor of a new user namespace with these maps of users and groups. Raises NamespaceError, OSError."""
    waiting, release = os.pipe()
    try:
        try:
            pid = syscalls.clone3(syscalls.CLONE_NEWUSER)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOSPC, errno.EINVAL, errno.EUSERS):
                raise
            raise NamespaceError(
                f"the kernel refuses to make a user namespace: {error.strerror}",
                hint="sysctls like user.max_user_namespaces limit them; `shiplap doctor` tells what is missing",
            ) from error
        if pid == 0:
            os.close(release)
            os.read(waiting, 1)
            os._exit(0)
        try:
            _write(pid, maps, proc)
            return os.open(f"{proc}/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(release)
            release = -1
            os.waitpid(pid, 0)
    finally:
        os.close(waiting)
        if release >= 0:
            os.close(release)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""
