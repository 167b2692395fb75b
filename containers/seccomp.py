"""Docker's default system call filter (moby profiles/seccomp, 26.1), as BPF.  seccomp(2)

An allow-list: what it does not name fails with EPERM. clone3 fails with ENOSYS, so that the C library falls back to
clone, whose flags a filter can read. docker gives the same to a container with its default capabilities on Linux 4.8 or
newer. Tests compare the filter with what dockerd gives to runc, and with what libseccomp makes of that.

The kernel decides most calls without running the filter (its bitmap of calls that are always allowed, Linux 5.11). To
find these calls, it runs a new filter once for each number, and compiles it, before each command. So the filter is a
tree of ranges of numbers, with half of libseccomp's instructions.
"""

from __future__ import annotations

import errno
import os
import struct

from containers.callnumbers import CALLS, Calls
from containers.errors import SeccompError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    _Code: TypeAlias = list[tuple[int, int, int, int]]  # struct sock_filter: code, jump if true, if false, operand

# Classic BPF (linux/bpf_common.h), and where struct seccomp_data has things.
_LOAD, _JUMP, _JUMP_EQUAL, _JUMP_ABOVE_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_FARTHEST = 255  # jump of a comparison

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x00000000

_NAMES = """
    _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown
    chown32 chroot clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
    eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate
    fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr
    flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate
    ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list
    get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32
    getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid
    getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday
    getuid getuid32 getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy
    io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill
    landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat
    listen listxattr llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier
    memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect
    mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
    mq_unlink mremap msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep
    newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free
    pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease
    process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead
    readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr rename
    renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile
    sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32
    setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32
    setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32
    setxattr shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall
    socketpair splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs sysinfo
    tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
    timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times
    tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat utime utimensat utimensat_time64 utimes
    vfork vmsplice wait4 waitid waitpid write writev
"""

ALLOWED = frozenset(_NAMES.split())
"""On every architecture, whatever the arguments."""

ALLOWED_ON = {
    "x86_64": ("arch_prctl", "modify_ldt"),
    "aarch64": ("arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint", "cacheflush", "set_tls"),
    "ppc64le": ("sync_file_range2", "swapcontext"),
    "s390x": ("s390_pci_mmio_read", "s390_pci_mmio_write", "s390_runtime_instr"),
    "riscv64": ("riscv_flush_icache",),
}
"""By machine, as uname(2) calls it."""

NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET
AF_VSOCK = 40
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)  # Linux, 32 bits, uname 2.6, both; asking for the present one


def program(machine: str = "") -> bytes:
    """The filter: an array of ``struct sock_filter``, 8 bytes each, in the machine's byte order.

    machine: as uname(2) calls it, in place of this one. A call of an architecture that the machine does not run kills
    the process. Raises SeccompError.
    """
    machine = machine or os.uname().machine
    if machine not in CALLS:
        raise SeccompError(
            f"there is no list of the system calls of {machine}",
            hint=f"steps can be isolated on {', '.join(sorted(CALLS))}",
        )
    low = 4 if machine == "s390x" else 0  # where in an argument its lower half is
    sections: dict[int, list[Calls]] = {}
    for calls in CALLS[machine]:
        sections.setdefault(calls.audit, []).append(calls)
    code: _Code = [(_LOAD, 0, 0, _ARCHITECTURE)]
    for audit, parts in sections.items():
        section = [(_LOAD, 0, 0, _NUMBER), *_tree([leaf for calls in parts for leaf in _leaves(calls, low)])]
        code += [(_JUMP_EQUAL, 1, 0, audit), (_JUMP, 0, 0, len(section)), *section]
    code.append((_RETURN, 0, 0, _KILL))
    order = ">" if machine == "s390x" else "<"
    return b"".join(struct.pack(f"{order}HBBI", *instruction) for instruction in code)


def _leaves(calls: Calls, low: int) -> list[tuple[int, _Code]]:
    """What is to be done from which number on, in order."""
    refuse, allow = [(_RETURN, 0, 0, _ERRNO | errno.EPERM)], [(_RETURN, 0, 0, _ALLOW)]
    ranges = [(first, last, allow) for first, last in _ranges(calls.allowed)]
    special = {
        calls.clone: _unless_any_bit(_ARGUMENTS + 8 * calls.clone_flags + low, NEW_NAMESPACES),
        # Of the lower half, which is what the kernel looks at; docker's filter can be got round with the other one.
        calls.socket: _unless_equal(_ARGUMENTS + low, AF_VSOCK),
        calls.personality: _if_one_of(_ARGUMENTS + low, PERSONALITIES, _ARGUMENTS + 4 - low if calls.wide else None),
        calls.clone3: [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)],
    }
    ranges += [(number, number, code) for number, code in special.items()]
    leaves: list[tuple[int, _Code]] = []
    free = 0  # the first number that nothing was said about
    for first, last, code in sorted(ranges, key=lambda each: each[0]):
        if first > free:
            leaves.append((calls.first + free, refuse))
        leaves.append((calls.first + first, code))
        free = last + 1
    leaves.append((calls.first + free, refuse))
    return leaves


def _tree(leaves: list[tuple[int, _Code]]) -> _Code:
    """Comparisons with the number, which has been loaded, that lead to the right leaf."""
    if len(leaves) == 1:
        return leaves[0][1]
    middle = len(leaves) // 2
    below, above = _tree(leaves[:middle]), _tree(leaves[middle:])
    if len(below) <= _FARTHEST:
        return [(_JUMP_ABOVE_EQUAL, len(below), 0, leaves[middle][0]), *below, *above]
    return [(_JUMP_ABOVE_EQUAL, 0, 1, leaves[middle][0]), (_JUMP, 0, 0, len(below)), *below, *above]


def _unless_any_bit(offset: int, bits: int) -> _Code:
    return [(_LOAD, 0, 0, offset), (_JUMP_ANY_BIT, 0, 1, bits), *_DENY_OR_ALLOW]


def _unless_equal(offset: int, value: int) -> _Code:
    return [(_LOAD, 0, 0, offset), (_JUMP_EQUAL, 0, 1, value), *_DENY_OR_ALLOW]


def _if_one_of(offset: int, values: tuple[int, ...], upper: int | None) -> _Code:
    """upper: where the other half of the argument is, which has to be zero."""
    code = [(_LOAD, 0, 0, offset)]
    code += [(_JUMP_EQUAL, len(values) - number, 0, value) for number, value in enumerate(values)]
    code += _DENY_OR_ALLOW
    if upper is None:
        return code
    return [(_LOAD, 0, 0, upper), (_JUMP_EQUAL, 1, 0, 0), _DENY_OR_ALLOW[0], *code]


_DENY_OR_ALLOW: _Code = [(_RETURN, 0, 0, _ERRNO | errno.EPERM), (_RETURN, 0, 0, _ALLOW)]


def _ranges(text: str) -> list[tuple[int, int]]:
    found = []
    for word in text.split():
        first, _, last = word.partition("-")
        found.append((int(first), int(last or first)))
    return found
