"""File systems: which kind one is, and whether a root may be there. (The launcher imports this: no ``typing``.)"""

from __future__ import annotations

import os

from core.errors import SettingsError
from core.mountinfo import mounts

GOOD_KINDS = "ext4, xfs, btrfs or tmpfs"
_OVERLAY = "overlay"


def kind_of(path: str) -> str:
    """The type of the file system that a file or directory is on: ``ext4``; "" when the kernel does not tell.

    Raises OSError when there is no such path.  proc_pid_fdinfo(5), proc_pid_mountinfo(5)
    """
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
            number = next((line.split()[1] for line in file if line.startswith("mnt_id:")), "")
    finally:
        os.close(fd)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return next((mount.kind for mount in mounts(file.read()) if mount.number == number), "")


def why_unfit(path: str) -> str:
    """Why steps cannot have their files at ``path``, which may not be there yet; empty: nothing speaks against it.

    Raises OSError.
    """
    there = path
    while not os.path.exists(there):
        there = os.path.dirname(there)
    if kind_of(there) != _OVERLAY:
        return ""
    return f"{path} is on overlayfs, on which no step can have its files"


def way_out(path: str) -> str:
    """What to do when ``path`` is unfit."""
    return f"choose a root on {GOOD_KINDS} instead of {path}: --root DIR or SHIPLAP_ROOT; in a container, a volume"


def require_fit(path: str) -> None:
    """Raise SettingsError when every step of every build would fail because of where its root ``path`` is."""
    if unfit := why_unfit(path):
        raise SettingsError(unfit, hint=way_out(path))
