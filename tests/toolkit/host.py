"""What a build could leave behind on the host: processes, mounts, cgroups, network interfaces and namespaces."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


@contextlib.contextmanager
def adopting_orphans() -> Iterator[None]:
    """Become the parent of every descendant whose own parent dies, so that none can get out of sight."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def children() -> dict[int, str]:
    """This process's children that still run, and their command lines; those that have ended are reaped.

    Not for use while a ``subprocess`` object waits for a child of its own.
    """
    found = {}
    me = str(os.getpid())
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            state, parent = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[:2]
            if parent != me:
                continue
            if state == "Z":
                os.waitpid(int(entry), 0)
            else:
                found[int(entry)] = Path("/proc", entry, "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError, ChildProcessError):
            continue  # it ended meanwhile
    return found


def mount_table() -> list[str]:
    """The lines of this process's mountinfo, without what other pytest workers' tests mount below their own folders."""
    own = f"/popen-{os.environ.get('PYTEST_XDIST_WORKER', '')}/"
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if "/popen-gw" not in line or own in line]


@dataclass(frozen=True, slots=True)
class HostState:
    """Names of what exists on this host, except processes. cgroups: those that nobody uses any more."""

    mounts: frozenset[str]
    cgroups: frozenset[str]
    interfaces: frozenset[str]
    network_namespaces: frozenset[str]

    @classmethod
    def capture(cls) -> HostState:
        mounts = [line.split()[4] for line in mount_table()]
        named = os.listdir("/run/netns") if os.path.isdir("/run/netns") else []
        interfaces = os.listdir("/sys/class/net")
        return cls(frozenset(mounts), frozenset(_abandoned_cgroups()), frozenset(interfaces), frozenset(named))

    def new_since(self, before: HostState) -> dict[str, list[str]]:
        """What exists in ``self`` and did not ``before``, by kind; empty when nothing is new."""
        gained = {f.name: sorted(getattr(self, f.name) - getattr(before, f.name)) for f in fields(self)}
        return {kind: names for kind, names in gained.items() if names}


def _abandoned_cgroups() -> Iterator[str]:
    """Control groups of launchers that have ended. One that lives holds a lock, and may be somebody else's."""
    # Not Path.glob, which fails when a directory goes away meanwhile: other launchers' do.
    parents = [(path, names) for path, names, _ in os.walk("/sys/fs/cgroup") if path.endswith("/shiplap")]
    for session in (f"{path}/{name}" for path, names in parents for name in names):
        try:
            fd = os.open(session, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield session
        except BlockingIOError:
            continue
        finally:
            os.close(fd)


def wait_until_gone(known: set[int], deadline_s: float = 10) -> dict[int, str]:
    """Wait until this process has no children beside ``known``; returns those that are still there at the end."""
    end = time.monotonic() + deadline_s
    while (left := {pid: words for pid, words in children().items() if pid not in known}) and time.monotonic() < end:
        time.sleep(0.02)
    return left
