"""What a build could leave behind on the host: processes, mounts, cgroups, network interfaces.

Other programs come and go meanwhile, a dockerd or another run of this suite: what they do is left out.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from tests.toolkit.bounds import Deadline

_PR_SET_CHILD_SUBREAPER = 36
_OTHERS = (
    "/run/docker/", "/run/netns", "/run/shiplap/", "/run/user/", "/var/lib/containers/", "/var/lib/docker/",
    "/var/tmp/",
)  # fmt: skip
"""Where others mount. Below /run/shiplap are the switches of engines: whose root is a test's own asks by its place."""
_OWN_INTERFACES = re.compile(r"v\d+|out")
"""As ``containers.network`` names them in the hub: on the host none may be."""

own_places: list[str] = []
"""This run's folders, by ``conftest.py``."""


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


def command_lines() -> dict[int, str]:
    """The words of all processes of the host, by number, with spaces between. Those that end meanwhile are left out."""
    found = {}
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            words = Path("/proc", entry, "cmdline").read_bytes().rstrip(b"\0")
            found[int(entry)] = words.replace(b"\0", b" ").decode(errors="replace")
    return found


def processes_with(mark: str) -> list[int]:
    """The processes that have the mark in their command line."""
    return [pid for pid, words in command_lines().items() if mark in words]


def mount_table() -> list[str]:
    """The lines of this process's mountinfo, without what others mount in folders of their own."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if not _is_others(line.split()[4])]


def _is_others(place: str) -> bool:
    temporary = tempfile.gettempdir()
    if place.startswith(f"{temporary}/"):
        return not any(place.startswith(f"{own}/") for own in own_places)
    return place.startswith(_OTHERS)


@dataclass(frozen=True, slots=True)
class HostState:
    """Names of what exists on this host and could be ours, but for processes.

    mounts: where they are.
    cgroups: those that nobody uses any more.
    interfaces: those that have names as ours.
    """

    mounts: frozenset[str]
    cgroups: frozenset[str]
    interfaces: frozenset[str]

    @classmethod
    def capture(cls) -> HostState:
        mounts = [line.split()[4] for line in mount_table()]
        interfaces = filter(_OWN_INTERFACES.fullmatch, os.listdir("/sys/class/net"))
        return cls(frozenset(mounts), frozenset(_abandoned_cgroups()), frozenset(interfaces))

    def gained(self) -> dict[str, list[str]]:
        """What is new since, by kind, and stays: a launcher of another run that was killed is cleaned up after soon."""
        deadline = Deadline(5)
        while (new := HostState.capture().new_since(self)) and deadline:
            time.sleep(0.1)
        return new

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


def wait_until_gone(known: set[int]) -> dict[int, str]:
    """Wait until this process has no children beside ``known``; returns those that are still there at the end."""
    deadline = Deadline(10)
    while (left := {pid: words for pid, words in children().items() if pid not in known}) and deadline:
        time.sleep(0.02)
    return left
