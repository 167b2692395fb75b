"""The filter of system calls: docker's, to the letter."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.tools import BuildKit
from bench.workloads import BASE
from containers import seccomp
from containers.errors import SeccompError
from tests.security import libseccomp
from tests.security.bpf import ALLOW, decide
from tests.security.conftest import DebianRunner
from tests.security.libseccomp import I386, MISSING, REFUSED, X32_BIT, X86_64

KILLED = 0x00000000


@pytest.fixture(scope="module")
def program() -> bytes:
    return seccomp.program()


@pytest.fixture(scope="module")
def dockers_profile(privileged: None, busybox_tar: Path) -> Iterator[dict[str, Any]]:
    """What dockerd tells runc to filter for a plain container."""
    directory = Path(tempfile.mkdtemp(prefix="shiplap-seccomp-", dir="/tmp"))  # short: dockerd's sockets are below
    docker = BuildKit(directory)
    try:
        docker.start(busybox_tar)
        identity = docker.run("run", "--detach", "--network", "none", BASE, "sleep", "60").strip()
        (config,) = directory.glob(f"docker/exec/**/{identity}/config.json")
        yield json.loads(config.read_text())["linux"]["seccomp"]
        docker.run("rm", "--force", identity)
    finally:
        docker.stop()
        shutil.rmtree(directory)


def number_of(name: str) -> int:
    number: int = ctypes.CDLL("libseccomp.so.2").seccomp_syscall_resolve_name(name.encode())
    return number


def test_allow_list_is_dockers(dockers_profile: dict[str, Any], program: bytes) -> None:
    assert dockers_profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert dockers_profile["defaultErrnoRet"] == errno.EPERM
    always = {
        name
        for rule in dockers_profile["syscalls"]
        for name in rule["names"]
        if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args")
    }
    assert always == seccomp.ALLOWED.union(seccomp.ALLOWED_ON[os.uname().machine])
    conditional = [rule for rule in dockers_profile["syscalls"] if rule.get("args")]
    assert {name for rule in conditional for name in rule["names"]} == {"socket", "personality", "clone"}
    for rule in conditional:
        (name,), (test,) = rule["names"], rule["args"]
        equal = decide(program, X86_64, number_of(name), [test["value"]])
        other = decide(program, X86_64, number_of(name), [test["value"] ^ 1])
        match test["op"]:
            case "SCMP_CMP_EQ":
                assert equal == ALLOW
            case "SCMP_CMP_NE":
                assert (equal, other) == (REFUSED, ALLOW)
            case "SCMP_CMP_MASKED_EQ":
                for bit in (1 << place for place in range(32)):
                    expected = REFUSED if test["value"] & bit else ALLOW
                    assert decide(program, X86_64, number_of(name), [bit]) == expected


def test_every_number_is_decided_by_its_name(program: bytes) -> None:
    """Each call of x86-64, also of those without a name yet: allowed by the list or refused, never anything else."""
    allowed = {number_of(name) for name in seccomp.ALLOWED.union(seccomp.ALLOWED_ON["x86_64"])}
    special = {number_of(name) for name in ("socket", "personality", "clone", "clone3")}
    for number in range(1024):
        if number not in special:
            assert (decide(program, X86_64, number) == ALLOW) == (number in allowed)
            assert decide(program, X86_64, number) in (ALLOW, REFUSED)
    assert decide(program, X86_64, number_of("clone3")) == MISSING


ARGUMENTS = (
    *([value] * 6 for value in (0, 1, 2, 8, 17, 40, 41, 0x20000, 0x20008, 0xFFFFFFFF, (1 << 64) - 1)),
    *([bit] * 6 for bit in (1 << place for place in range(64))),
    *([high << 32 | low] * 6 for high in (1, 0x7E020000) for low in (0, 8, 41, 0x20000, 0xFFFFFFFF)),
)


@pytest.mark.parametrize("machine", libseccomp.MACHINES)
def test_filter_says_what_libseccomps_says(machine: str) -> None:
    """For every number of every architecture, and the arguments that matter."""
    ours, theirs, order = seccomp.program(machine), libseccomp.program(machine), libseccomp.order_of(machine)
    for token in libseccomp.MACHINES[machine]:
        audit = X86_64 if token == libseccomp.X32 else token
        for number in libseccomp.numbers(token):
            every = decide(ours, audit, number, [0] * 6, order) == decide(ours, audit, number, [40] * 6, order)
            for arguments in ARGUMENTS[:11] if every else ARGUMENTS:
                found = decide(ours, audit, number, arguments, order)
                assert found == libseccomp.said(theirs, machine, token, number, arguments), (token, number, arguments)
        for number in (0x3FFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
            assert decide(ours, audit, number, (), order) == REFUSED


def test_upper_half_of_an_argument_is_no_way_to_vsock(program: bytes) -> None:
    """The kernel looks at the lower half of socket's first argument; libseccomp's comparison is of both."""
    assert decide(program, X86_64, number_of("socket"), [1 << 32 | 40]) == REFUSED


def test_machine_without_a_list_is_an_error() -> None:
    with pytest.raises(SeccompError, match="system calls of vax") as caught:
        seccomp.program("vax")
    assert "x86_64" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("architecture", "name", "number"),
    [(I386, "mount", 21), (I386, "keyctl", 288), (I386, "bpf", 357), (X86_64, "x32 mount", X32_BIT | 165)],
)
def test_other_architectures_are_no_way_round(program: bytes, architecture: int, name: str, number: int) -> None:
    assert decide(program, architecture, number) == REFUSED


def test_unknown_architecture_is_killed(program: bytes) -> None:
    assert decide(program, 0xC00000B7, 1) == KILLED


FORBIDDEN = {
    "mount": (165, 0, 0, 0, 0, 0),
    "umount2": (166, 0, 0),
    "pivot_root": (155, 0, 0),
    "open_tree": (428, -100, 0, 0),
    "fsopen": (430, 0, 0),
    "setns": (308, 0, 0),
    "unshare user namespace": (272, 0x10000000),
    "clone user namespace": (56, 0x10000011, 0, 0, 0, 0),
    "bpf": (321, 0, 0, 0),
    "perf_event_open": (298, 0, 0, -1, -1, 0),
    "userfaultfd": (323, 0),
    "keyctl": (250, 0, 0, 0),
    "add_key": (248, 0, 0, 0, 0, 0),
    "request_key": (249, 0, 0, 0, 0),
    "kexec_load": (246, 0, 0, 0, 0),
    "init_module": (175, 0, 0, 0),
    "finit_module": (313, 0, 0, 0),
    "delete_module": (176, 0, 0),
    "reboot": (169, 0, 0, 0, 0),
    "swapon": (167, 0, 0),
    "settimeofday": (164, 0, 0),
    "clock_settime": (227, 0, 0),
    "iopl": (172, 3),
    "ioperm": (173, 0, 1, 1),
    "quotactl": (179, 0, 0, 0, 0),
    "acct": (163, 0),
    "syslog": (103, 3, 0, 0),
    "open_by_handle_at": (304, 0, 0, 0),
    "fanotify_init": (300, 0, 0),
    "vhangup": (153,),
    "io_uring_setup": (425, 1, 0),
    "pidfd_getfd": (438, 0, 0, 0),
    "kcmp": (312, 1, 1, 0, 0, 0),
    "move_pages": (279, 0, 0, 0, 0, 0, 0),
    "socket of AF_VSOCK": (41, 40, 1, 0),
    "personality without randomisation": (135, 0x0040000),
}


def test_refused_calls_are_refused_in_a_step(debian: DebianRunner) -> None:
    """Tried for real from a container, by root, through perl's syscall()."""
    lines = []
    for name, (number, *arguments) in FORBIDDEN.items():
        words = ", ".join(map(str, (number, *arguments)))
        lines.append(f'$! = 0; syscall({words}); print "{name}: ", $!+0, "\\n";')
    said = debian.perl("\n".join(lines))
    assert said == "".join(f"{name}: {errno.EPERM}\n" for name in FORBIDDEN)


def test_clone3_falls_back(debian: DebianRunner) -> None:
    assert debian.perl("syscall(435, 0, 0); print $!+0") == str(errno.ENOSYS)


def test_filter_is_on_for_every_process_of_a_step(debian: DebianRunner) -> None:
    said = debian("grep Seccomp: /proc/self/status /proc/1/status")
    assert said == "/proc/self/status:Seccomp:\t2\n/proc/1/status:Seccomp:\t2\n"
    assert "Seccomp:\t0" in debian("grep Seccomp: /proc/self/status", filtered=False)
