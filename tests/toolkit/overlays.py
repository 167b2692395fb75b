"""Steps of containers without any container: overlayfs, mounted as ``containers`` mounts it, and what changes it."""

from __future__ import annotations

import ctypes
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_REC_PRIVATE = 0x44000
SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_MOUNT_SETATTR = 428, 429, 442
libc = ctypes.CDLL(None, use_errno=True)


class MountAttr(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd"))


def check(result: int, what: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), what)
    return result


def new_user_namespace() -> int:
    """A descriptor of a user namespace that maps 0.. to 100000.. ."""
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        libc.unshare(CLONE_NEWUSER)
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    for kind in ("uid", "gid"):
        Path(f"/proc/{pid}/{kind}_map").write_text("0 100000 65536")
    fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
    os.write(go[1], b"x")
    os.waitpid(pid, 0)
    for end in (*ready, *go):
        os.close(end)
    return fd


def mount_idmapped(source: Path, target: Path, userns: int) -> None:
    tree = check(libc.syscall(SYS_OPEN_TREE, -100, bytes(source), 1 | os.O_CLOEXEC), "open_tree")
    attr = MountAttr(attr_set=0x100000, userns_fd=userns)
    check(libc.syscall(SYS_MOUNT_SETATTR, tree, b"", 0x1000, ctypes.byref(attr), 32), "mount_setattr")
    check(libc.syscall(SYS_MOVE_MOUNT, tree, b"", -100, bytes(target), 4), "move_mount")


class OverlayStep:
    """Directories of a step: ``lower`` is to be filled, ``run`` changes the merged view, the upper is what is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lower = folder / "lower"
        self.upper = folder / "upper" / "fs"
        for path in (self.lower, self.upper, folder / "upper" / "work", *(folder / name for name in "LUM")):
            path.mkdir(parents=True)

    def run(self, action: Callable[[], None]) -> None:
        """Call ``action`` in a child that is root in a user namespace, in the overlay as its working directory."""
        assert os.geteuid() == 0, "these tests mount overlayfs: run them as root"
        userns = new_user_namespace()
        pid = os.fork()
        if pid == 0:
            try:
                self._enter(userns)
                action()
                os._exit(0)
            except BaseException:
                traceback.print_exc(file=sys.__stderr__)
            os._exit(1)
        os.close(userns)
        assert os.waitpid(pid, 0)[1] == 0

    def _enter(self, userns: int) -> None:
        lower, upper, merged = (self.folder / name for name in "LUM")
        check(libc.unshare(CLONE_NEWNS), "unshare")
        check(libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None), "private")
        mount_idmapped(self.lower, lower, userns)
        mount_idmapped(self.folder / "upper", upper, userns)
        check(libc.setns(userns, CLONE_NEWUSER), "setns")
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        os.umask(0o022)
        check(libc.unshare(CLONE_NEWNS), "unshare")
        options = f"lowerdir={lower},upperdir={upper}/fs,workdir={upper}/work,userxattr"
        check(libc.mount(b"overlay", bytes(merged), b"overlay", 0, options.encode()), "overlay")
        os.chdir(merged)
