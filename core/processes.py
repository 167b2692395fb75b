"""Processes that are not to outlive the one that started them, and all that these start."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_POLL_S: Final = 0.02


def end_with_parent(parent: int, number: int = signal.SIGTERM) -> None:
    """Have the kernel send this process signal ``number`` when ``parent``, its parent's ID, dies.  prctl(2)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it died before we said so
        os.kill(os.getpid(), number)


def adopt_orphans() -> None:
    """Become the parent of what descendants leave behind when they die, in place of process 1.  prctl(2)."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def descendants(ancestor: int) -> list[int]:
    """The IDs of all processes below ``ancestor`` now, also of those that have ended and wait for their parent."""
    return _below(ancestor, _children())


def _children() -> dict[int, list[int]]:
    """The children of each process that has some, as they are now."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{name}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    return children


def _below(ancestor: int, children: Mapping[int, Sequence[int]]) -> list[int]:
    found: list[int] = []
    pending = [ancestor]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def reap_adopted(own: Iterable[int] = ()) -> None:
    """Reap adopted orphans that have ended. own: children whose end somebody else waits for."""
    kept = set(own)
    me = os.getpid()
    for process in descendants(me):
        if process not in kept:
            with contextlib.suppress(ChildProcessError):  # somebody else's child
                os.waitpid(process, os.WNOHANG)


def kill_descendants(timeout_s: float, *, spared: Iterable[int] = ()) -> list[int]:
    """SIGKILL all processes below this one, and those that they still start, until there is none.

    Only for a process that has called ``adopt_orphans`` and waits for no child any more. Returns those that did not end
    within ``timeout_s``: the kernel holds them in a system call. spared: these live on, with all that is below them.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        children = _children()  # one look for all: there may be hundreds of containers
        found = _below(os.getpid(), children)
        kept = {below for process in spared for below in (process, *_below(process, children))}
        left = [process for process in found if process not in kept]
        for process in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        reap_adopted()
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(_POLL_S)
