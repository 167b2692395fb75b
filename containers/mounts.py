"""Mounts as data: what a container's /dev, /proc and /sys are made of, planned purely, carried out thinly.

Paths of operations are relative to the working directory, the container's staging tmpfs, or absolute for the host's
things. The plans are made and carried out before any layer of the container is mounted. So no path here is resolved in
a root filesystem, which may be hostile. ``attach`` moves the finished trees to their places.
"""

from __future__ import annotations

import errno
import os
import stat

from containers import syscalls
from containers.syscalls import MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REC, MS_STRICTATIME

RESOLVE_IN_ROOT = 0x10

SHM = "dev/shm"

_HARD = MS_NOSUID | MS_NODEV | MS_NOEXEC
_DEVICES = ("full", "null", "random", "tty", "urandom", "zero")
_DEVICE_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
)
# Docker's defaults (moby oci/defaults.go): what tells about or acts on the host is hidden or read-only.
MASKED_PATHS = (
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
    "sys/devices/virtual/powercap",
    "sys/firmware",
)
READONLY_PATHS = ("proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger")


class Operation:
    """One step of a plan. Equal when of the same kind with the same fields."""

    __slots__: tuple[str, ...] = ()

    def execute(self) -> None:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({fields})"


class Directory(Operation):
    """Make a directory."""

    __slots__ = ("mode", "path")

    def __init__(self, path: str, mode: int = 0o755) -> None:
        self.path, self.mode = path, mode

    def execute(self) -> None:
        os.mkdir(self.path, self.mode)


class File(Operation):
    """Make a file."""

    __slots__ = ("data", "path")

    def __init__(self, path: str, data: bytes = b"") -> None:
        self.path, self.data = path, data

    def execute(self) -> None:
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, self.data)
        finally:
            os.close(fd)


class Symlink(Operation):
    """Make a symbolic link."""

    __slots__ = ("path", "target")

    def __init__(self, path: str, target: str) -> None:
        self.path, self.target = path, target

    def execute(self) -> None:
        os.symlink(self.target, self.path)


class Filesystem(Operation):
    """Mount a new file system."""

    __slots__ = ("flags", "fstype", "options", "path")

    def __init__(self, fstype: str, path: str, flags: int, options: str | None = None) -> None:
        self.fstype, self.path, self.flags, self.options = fstype, path, flags, options

    def execute(self) -> None:
        syscalls.mount(self.fstype, self.path, self.fstype, self.flags, self.options)


class BindMount(Operation):
    """Mount a file or directory at another place too. recursive: with what is mounted below it."""

    __slots__ = ("path", "recursive", "source")

    def __init__(self, source: str, path: str, *, recursive: bool = False) -> None:
        self.source, self.path, self.recursive = source, path, recursive

    def execute(self) -> None:
        syscalls.mount(self.source, self.path, None, MS_BIND | (MS_REC if self.recursive else 0))


class Flags(Operation):
    """Give a mount other flags. Its file system keeps its own, so that this can be taken back."""

    __slots__ = ("flags", "path")

    def __init__(self, path: str, flags: int) -> None:
        self.path, self.flags = path, flags

    def execute(self) -> None:
        syscalls.mount(None, self.path, None, syscalls.MS_REMOUNT | MS_BIND | self.flags)


class ReadOnly(Operation):
    """Make what exists at a path read-only, by a bind on itself where it is no mount. Nothing there: nothing done."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def execute(self) -> None:
        try:
            syscalls.mount(self.path, self.path, None, MS_BIND | MS_REC)
        except FileNotFoundError:
            return
        syscalls.mount_setattr(
            syscalls.AT_FDCWD, self.path, syscalls.AT_RECURSIVE, attributes=syscalls.MOUNT_ATTR_RDONLY
        )


class Mask(Operation):
    """Hide what exists at a path: a directory behind ``empty``, a file behind ``null``. Nothing there: nothing done."""

    __slots__ = ("empty", "null", "path")

    def __init__(self, path: str, *, null: str, empty: str) -> None:
        self.path, self.null, self.empty = path, null, empty

    def execute(self) -> None:
        try:
            mode = os.stat(self.path).st_mode
        except (FileNotFoundError, PermissionError):
            return
        syscalls.mount(self.empty if stat.S_ISDIR(mode) else self.null, self.path, None, MS_BIND)


class FirstOf(Operation):
    """The first alternative that the kernel permits. Raises the error of the last one."""

    __slots__ = ("alternatives",)

    def __init__(self, *alternatives: Operation) -> None:
        self.alternatives = alternatives

    def execute(self) -> None:
        for alternative in self.alternatives[:-1]:
            try:
                alternative.execute()
            except OSError:
                continue
            return
        self.alternatives[-1].execute()


def open_system_trees(*, writable_sys: bool) -> None:
    """Take back what hides or protects something in a container's ``proc`` and ``sys``.

    writable_sys: /sys, which shows its own network alone, and its control groups can be written, too. Raises OSError.
    """
    for path in reversed((*MASKED_PATHS, *READONLY_PATHS)):
        try:
            syscalls.umount2(path, syscalls.MNT_DETACH)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT, errno.EACCES):  # this kernel has none of it
                raise
    if writable_sys:
        for path in ("sys", "sys/fs/cgroup"):
            Flags(path, _HARD).execute()


def resize_shm(size_bytes: int) -> None:
    """Give the container's /dev/shm another size than the 64 MiB that it was made with."""
    syscalls.mount("tmpfs", SHM, None, syscalls.MS_REMOUNT | _HARD, f"size={size_bytes}")


def plan_system_trees(*, own_network: bool) -> list[Operation]:
    """The trees ``dev``, ``proc`` and ``sys`` of a container, and ``empty``, a read-only empty directory.

    own_network: whether the container has a network namespace of its own. Without one, /sys is the host's, read-only: a
    user namespace cannot mount the sysfs of the host's network. Its control groups are its own all the same.
    """
    plan: list[Operation] = [
        Directory("empty"),
        Filesystem("tmpfs", "empty", MS_RDONLY | _HARD, "size=0,mode=755"),
        Directory("dev"),
        Filesystem("tmpfs", "dev", MS_NOSUID | MS_NOEXEC | MS_STRICTATIME, "mode=755,size=65536k"),
    ]
    for name in _DEVICES:
        plan += [File(f"dev/{name}"), BindMount(f"/dev/{name}", f"dev/{name}")]
    plan += [
        Directory("dev/pts"),
        Filesystem("devpts", "dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"),
        Directory(SHM),
        Filesystem("tmpfs", SHM, _HARD, "mode=1777,size=65536k"),
        Directory("dev/mqueue"),
        Filesystem("mqueue", "dev/mqueue", _HARD),
        *(Symlink(f"dev/{name}", target) for name, target in _DEVICE_LINKS),
        Directory("proc"),
        Filesystem("proc", "proc", _HARD),
        Directory("sys"),
    ]
    if own_network:
        plan += [Filesystem("sysfs", "sys", _HARD), Flags("sys", MS_RDONLY | _HARD)]
    else:
        plan += [BindMount("/sys", "sys", recursive=True), ReadOnly("sys")]
    plan.append(
        FirstOf(
            Filesystem("cgroup2", "sys/fs/cgroup", MS_RDONLY | _HARD),
            Filesystem("tmpfs", "sys/fs/cgroup", MS_RDONLY | _HARD, "size=0,mode=755"),
        )
    )
    plan += [Mask(path, null="/dev/null", empty="empty") for path in MASKED_PATHS]
    plan += [ReadOnly(path) for path in READONLY_PATHS]
    return plan


def remove_shm() -> None:
    """Have no /dev/shm, with the tree ``dev`` in the working directory."""
    syscalls.umount2(SHM, syscalls.MNT_DETACH)
    os.rmdir(SHM)


def plan_stubs(directories: list[str], files: list[str]) -> list[Operation]:
    """A layer ``stubs`` that holds just the places to mount on, to lie below all layers of the root filesystem.

    What an image has covers its stub. What an image lacks is there all the same, without a trace in the container's
    upper layer. Paths are absolute in the container. A path that is wanted both as a file and as a parent stays a
    directory.
    """
    plan: list[Operation] = [Directory("stubs")]
    made = {""}
    for path in directories:
        _plan_directories(plan, made, path)
    for path in files:
        parent, _, name = path.strip("/").rpartition("/")
        _plan_directories(plan, made, parent)
        whole = f"{parent}/{name}".strip("/")
        if whole not in made:
            made.add(whole)
            plan.append(File(f"stubs/{whole}"))
    return plan


def _plan_directories(plan: list[Operation], made: set[str], path: str) -> None:
    whole = ""
    for name in path.split("/"):
        if name in ("", "."):
            continue
        whole = f"{whole}/{name}".strip("/")
        if whole not in made:
            made.add(whole)
            plan.append(Directory(f"stubs/{whole}"))


def execute(plan: list[Operation]) -> None:
    """Carry out a plan in order. Raises OSError."""
    for operation in plan:
        operation.execute()


def overlay(
    layers: list[str], upper: str | None, target: str, links: str, *, flags: int = 0, durable: bool = False
) -> None:
    """Mount an overlay file system at ``target``.

    layers: directories, topmost first; at least one, two without an upper.
    upper: directory with ``fs`` and ``work``.
    links: an empty directory, to which all other paths may be relative; it gets a short symbolic link to each
    directory, because mount(2) takes one page of options and layer paths may hold the characters that separate them.
    durable: whether the upper outlives the mount. Without it the mount is ``volatile``: no syncfs at the end, and fsync
    in the container returns at once. That is safe for a build step: nobody relies on its upper before its layer has
    been written and synced, and no such upper is mounted twice. overlayfs.rst, "userxattr", "Volatile mount".
    """
    options = "userxattr,lowerdir=" + ":".join(map(str, range(len(layers))))
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(links)
        for number, layer in enumerate(layers):
            os.symlink(layer, str(number))
        if upper is not None:
            os.symlink(upper, "u")
            options += ",upperdir=u/fs,workdir=u/work" + ("" if durable else ",volatile")
        syscalls.mount("overlay", target, "overlay", flags, options)
    finally:
        os.fchdir(before)
        os.close(before)


def attach(tree: int, root: int, path: str) -> None:
    """Move the mount that descriptor ``tree`` is the root of to ``path`` below the directory ``root``.

    Links in ``path`` are resolved inside ``root``; should ``path`` itself be a link and the tree a file, the link is
    covered, not followed. Raises OSError.
    """
    is_directory = stat.S_ISDIR(os.fstat(tree).st_mode)
    flags = os.O_PATH | (os.O_DIRECTORY if is_directory else os.O_NOFOLLOW)
    place = syscalls.openat2(root, path, flags, resolve=RESOLVE_IN_ROOT)
    try:
        both = syscalls.MOVE_MOUNT_F_EMPTY_PATH | syscalls.MOVE_MOUNT_T_EMPTY_PATH
        syscalls.move_mount(tree, "", place, "", both)
    finally:
        os.close(place)
