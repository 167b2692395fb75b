"""One thin wrapper per system call, under the kernel's own name. Failures are OSError naming the call and its object.

Numbers above 400 are the same on every architecture. ``PyDLL`` keeps the interpreter's lock during a call: the
launcher has one thread, and ``clone3`` must not return into a child that waits for a lock it cannot have.
"""

from __future__ import annotations

import _thread
import ctypes
import errno
import os

_libc = ctypes.PyDLL(None, use_errno=True)

CLONE_NEWTIME = 0x80
CLONE_PARENT = 0x8000
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000
SIGKILL, _SIGCHLD, SIGSTOP = 9, 17, 19

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_NOSYMFOLLOW, MS_BIND, MS_MOVE, MS_REC = 0x20, 0x100, 0x1000, 0x2000, 0x4000
MS_PRIVATE, MS_SLAVE, MS_RELATIME, MS_STRICTATIME = 0x40000, 0x80000, 0x200000, 0x1000000
MNT_DETACH = 2

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_RECURSIVE = 0x100, 0x1000, 0x8000
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x4, 0x40
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 1, 2, 4, 8
MOUNT_ATTR_IDMAP = 0x100000
STATX_MNT_ID = 0x1000

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME = 1, 4, 15
PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_SECUREBITS = 23, 24, 28
PR_SET_NO_NEW_PRIVS = 38
SECBIT_NO_SETUID_FIXUP = 4
_SECCOMP_SET_MODE_FILTER = 1
KEYCTL_JOIN_SESSION_KEYRING = 1

_MOST_WALKS = 10_000
"""Tries of openat2: a file system of somebody's own may say EAGAIN for ever."""

_SYS_CLOSE_RANGE, _SYS_CLONE3, _SYS_OPENAT2 = 436, 435, 437
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442
_SYS_PIDFD_SEND_SIGNAL = 424
# The few without a wrapper in the C library whose numbers differ; others have the table of asm-generic/unistd.h.
_SYS_KEYCTL = {"x86_64": 250, "s390x": 280, "ppc64le": 271}.get(os.uname().machine, 219)
_SYS_SECCOMP = {"x86_64": 317, "s390x": 348, "ppc64le": 358}.get(os.uname().machine, 277)
_SYS_PIVOT_ROOT = {"x86_64": 155, "s390x": 217, "ppc64le": 203}.get(os.uname().machine, 41)

_CAPABILITY_VERSION_3 = 0x20080522


def _words(name: str, fields: str, kind: type[ctypes.c_uint32] | type[ctypes.c_uint64]) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": [(field, kind) for field in fields.split()]})


_CloneArgs = _words(
    "_CloneArgs",
    "flags pidfd child_tid parent_tid exit_signal stack stack_size tls set_tid set_tid_size cgroup",
    ctypes.c_uint64,
)
_MountAttr = _words("_MountAttr", "attr_set attr_clr propagation userns_fd", ctypes.c_uint64)
_OpenHow = _words("_OpenHow", "flags mode resolve", ctypes.c_uint64)
_CapHeader = _words("_CapHeader", "version pid", ctypes.c_uint32)
_CapData = _words("_CapData", "effective0 permitted0 inheritable0 effective1 permitted1 inheritable1", ctypes.c_uint32)


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def _check(result: int, call: str, subject: str | bytes | None = None) -> int:
    if result >= 0:
        return int(result)
    number = ctypes.get_errno()
    text = f"{call}: {os.strerror(number)}"
    if subject is None:
        raise OSError(number, text)
    raise OSError(number, text, os.fsdecode(subject))


def clone3(flags: int, *, cgroup: int = -1) -> int:
    """Fork into new namespaces, and into the cgroup v2 directory ``cgroup`` if given.  clone(2).

    Returns 0 in the child, the child's pid in the parent. For a process with one thread and few libraries only: the C
    library's fork handlers do not run, nor Python's. Of several threads the child would have one, and could wait
    forever for another to take the interpreter's lock. CLONE_PARENT: a sibling, whom the caller's parent reaps.
    """
    assert not _thread._count(), "clone3 in a process with threads"  # `threading` takes too long to import
    exit_signal = 0 if flags & CLONE_PARENT else _SIGCHLD
    args = _CloneArgs(flags=flags, exit_signal=exit_signal)
    if cgroup >= 0:
        args = _CloneArgs(flags=flags | CLONE_INTO_CGROUP, exit_signal=exit_signal, cgroup=cgroup)
    return _check(_libc.syscall(_SYS_CLONE3, ctypes.byref(args), ctypes.sizeof(args)), "clone3")


def unshare(flags: int) -> None:
    """unshare(2)"""
    _check(_libc.unshare(flags), "unshare", hex(flags))


def setns(fd: int, kind: int) -> None:
    """setns(2)"""
    _check(_libc.setns(fd, kind), "setns", hex(kind))


def mount(source: str | None, target: str, fstype: str | None, flags: int, options: str | None = None) -> None:
    """mount(2)"""
    _check(_libc.mount(_encode(source), _encode(target), _encode(fstype), flags, _encode(options)), "mount", target)


def umount2(target: str, flags: int) -> None:
    """umount2(2)"""
    _check(_libc.umount2(_encode(target), flags), "umount", target)


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)"""
    _check(_libc.syscall(_SYS_PIVOT_ROOT, _encode(new), _encode(old)), "pivot_root", new)


def open_tree(directory: int, path: str, flags: int) -> int:
    """open_tree(2): a close-on-exec descriptor; with OPEN_TREE_CLONE, of a new detached mount."""
    return _check(_libc.syscall(_SYS_OPEN_TREE, directory, _encode(path), flags | os.O_CLOEXEC), "open_tree", path)


def move_mount(from_fd: int, from_path: str, to_fd: int, to_path: str, flags: int) -> None:
    """move_mount(2)"""
    result = _libc.syscall(_SYS_MOVE_MOUNT, from_fd, _encode(from_path), to_fd, _encode(to_path), flags)
    _check(result, "move_mount", from_path or to_path)


def mount_setattr(fd: int, path: str, flags: int, *, attributes: int, userns: int = 0, propagation: int = 0) -> None:
    """mount_setattr(2): set ``attributes`` (MOUNT_ATTR_*), never clearing any. propagation: MS_PRIVATE; 0 keeps it."""
    attr = _MountAttr(attr_set=attributes, userns_fd=userns, propagation=propagation)
    result = _libc.syscall(
        _SYS_MOUNT_SETATTR, fd, _encode(path), flags, ctypes.byref(attr), ctypes.c_size_t(ctypes.sizeof(attr))
    )
    _check(result, "mount_setattr", path)


def openat2(directory: int, path: str, flags: int, *, resolve: int, mode: int = 0) -> int:
    """openat2(2): a close-on-exec descriptor. Raises OSError; BlockingIOError when a walk is disturbed for ever."""
    how = _OpenHow(flags=flags | os.O_CLOEXEC, mode=mode, resolve=resolve)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    for _ in range(_MOST_WALKS):
        result = _libc.syscall(_SYS_OPENAT2, directory, _encode(path), ctypes.byref(how), size)
        # EAGAIN: a rename or a mount anywhere on the host raced with a walk through ``..``
        if result >= 0 or ctypes.get_errno() != errno.EAGAIN:
            break
    return _check(result, "open", path)


def mount_id(path: str) -> int:
    """The ID of the mount that ``path`` is on, unique while it is mounted.  statx(2), STATX_MNT_ID."""
    buffer = ctypes.create_string_buffer(256)
    _check(_libc.statx(AT_FDCWD, _encode(path), AT_SYMLINK_NOFOLLOW, STATX_MNT_ID, buffer), "statx", path)
    return int.from_bytes(buffer.raw[0x90:0x98], "little" if _LITTLE else "big")


def sethostname(name: str) -> None:
    """sethostname(2)"""
    data = os.fsencode(name)
    _check(_libc.sethostname(data, len(data)), "sethostname", name)


def setdomainname(name: str) -> None:
    """setdomainname(2)"""
    data = os.fsencode(name)
    _check(_libc.setdomainname(data, len(data)), "setdomainname", name)


def close_all_but(kept: set[int]) -> None:
    """Close all other descriptors."""
    first = 0
    for fd in sorted(kept):
        if fd > first:
            close_range(first, fd - 1)
        first = fd + 1
    close_range(first, 0x7FFFFFFF)


def close_range(first: int, last: int) -> None:
    """close_range(2)"""
    _check(_libc.syscall(_SYS_CLOSE_RANGE, first, last, 0), "close_range")


def prctl(option: int, argument: int) -> int:
    """prctl(2) with one argument."""
    return _check(_libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0), "prctl", str(option))


def set_seccomp_filter(program: bytes, flags: int = 0) -> None:
    """Filter this thread's system calls from now on; program: an array of ``struct sock_filter``.  seccomp(2)

    Needs no_new_privs or CAP_SYS_ADMIN in the thread's user namespace.
    """
    code = ctypes.create_string_buffer(program, len(program))
    header = _FilterProgram(len(program) // 8, ctypes.cast(code, ctypes.c_void_p))
    result = _libc.syscall(_SYS_SECCOMP, _SECCOMP_SET_MODE_FILTER, ctypes.c_ulong(flags), ctypes.byref(header))
    _check(result, "seccomp")


def capset(*, effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) for the calling thread; sets are bit masks. Ambient capabilities shrink with the sets."""
    header = _CapHeader(version=_CAPABILITY_VERSION_3)
    low = 0xFFFFFFFF
    data = _CapData(
        effective0=effective & low,
        permitted0=permitted & low,
        inheritable0=inheritable & low,
        effective1=effective >> 32,
        permitted1=permitted >> 32,
        inheritable1=inheritable >> 32,
    )
    _check(_libc.capset(ctypes.byref(header), ctypes.byref(data)), "capset")


def keyctl_join_session_keyring() -> None:
    """keyctl(2): a new anonymous session keyring."""
    _check(_libc.syscall(_SYS_KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, None), "keyctl")


def signal_default(number: int) -> None:
    """signal(2) with SIG_DFL."""
    _libc.signal(number, None)


def pidfd_send_signal(pidfd: int, number: int) -> None:
    """pidfd_send_signal(2)"""
    _check(_libc.syscall(_SYS_PIDFD_SEND_SIGNAL, pidfd, number, None, 0), "pidfd_send_signal")


_LITTLE = bytes(ctypes.c_uint16(1)) == b"\x01\x00"


def _encode(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)
