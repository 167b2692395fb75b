"""Docker's default system call filter (moby profiles/seccomp, 26.1), made into BPF by libseccomp.  seccomp(2)

An allow-list: what is not named fails with EPERM, clone3 with ENOSYS, so that the C library falls back to clone, whose
flags a filter can read. That is what a container with docker's default capabilities gets on Linux 4.8 or newer; its
tests compare it with what dockerd gives to runc. Most of it is decided by the kernel without running the filter (its
bitmap of calls that are always allowed, Linux 5.11).
"""

from __future__ import annotations

import ctypes
import errno
import os

from containers.errors import SeccompError

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NE, _EQ, _MASKED_EQ = 1, 4, 7
_EXPORT_LIMIT = 1 << 20
_CTL_OPTIMIZE, _BINARY_TREE = 8, 2  # of enum scmp_filter_attr; since libseccomp 2.5

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

# The architectures whose programs a machine runs beside its own: their system calls have numbers of their own, and one
# that is not listed kills the process. Tokens of include/uapi/linux/audit.h; x32 is marked by libseccomp.
_BESIDE = {"x86_64": (0x40000003, 0x4000003E), "aarch64": (0x40000028,), "s390x": (0x00000016,)}

_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET
_AF_VSOCK = 40
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)  # Linux, 32 bits, uname 2.6, both; asking for the present one


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def program() -> bytes:
    """The filter for this machine: an array of ``struct sock_filter``, 8 bytes each. Raises SeccompError."""
    library = _library()
    machine = os.uname().machine
    context = library.seccomp_init(_ERRNO | errno.EPERM)
    if not context:
        raise SeccompError(f"libseccomp has no filters for {machine}")
    try:
        # As systemd does. The kernel runs a new filter once for each number, to see which calls are always allowed:
        # with a tree in place of a list of comparisons that takes half the time. An older libseccomp makes the list.
        library.seccomp_attr_set(context, _CTL_OPTIMIZE, _BINARY_TREE)
        for token in _BESIDE.get(machine, ()):
            _check(library.seccomp_arch_add(context, token), "seccomp_arch_add")

        def rule(name: str, action: int, *comparisons: _Comparison) -> None:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number == -1:
                return  # newer than this libseccomp: it stays refused
            array = (_Comparison * len(comparisons))(*comparisons)
            _check(library.seccomp_rule_add_array(context, action, number, len(comparisons), array), name)

        for name in ALLOWED.union(ALLOWED_ON.get(machine, ())):
            rule(name, _ALLOW)
        for value in _PERSONALITIES:
            rule("personality", _ALLOW, _Comparison(0, _EQ, value))
        rule("socket", _ALLOW, _Comparison(0, _NE, _AF_VSOCK))
        flags = 1 if machine == "s390x" else 0
        rule("clone", _ALLOW, _Comparison(flags, _MASKED_EQ, _NEW_NAMESPACES, 0))
        rule("clone3", _ERRNO | errno.ENOSYS)
        return _exported(library, context)
    finally:
        library.seccomp_release(context)


def _library() -> ctypes.PyDLL:
    try:
        library = ctypes.PyDLL("libseccomp.so.2")
    except OSError as error:
        raise SeccompError(
            f"cannot filter the system calls of containers: {error}", hint="apt-get install libseccomp2"
        ) from error
    pointer, number = ctypes.c_void_p, ctypes.c_uint32
    library.seccomp_init.restype = pointer
    library.seccomp_init.argtypes = [number]
    library.seccomp_release.argtypes = [pointer]
    library.seccomp_attr_set.argtypes = [pointer, ctypes.c_int, number]
    library.seccomp_arch_add.argtypes = [pointer, number]
    library.seccomp_rule_add_array.argtypes = [pointer, number, ctypes.c_int, ctypes.c_uint, pointer]
    library.seccomp_export_bpf.argtypes = [pointer, ctypes.c_int]
    return library


def _exported(library: ctypes.PyDLL, context: int) -> bytes:
    fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        _check(library.seccomp_export_bpf(context, fd), "seccomp_export_bpf")
        return os.pread(fd, _EXPORT_LIMIT, 0)
    finally:
        os.close(fd)


def _check(result: int, what: str) -> None:
    if result < 0 and result != -errno.EEXIST:
        raise SeccompError(f"cannot make the filter of system calls: {what}: {os.strerror(-result)}")
