"""The filter of ``containers.seccomp`` as libseccomp makes it, to compare with.

``python -m tests.security.libseccomp`` prints what ``containers/callnumbers.py`` has of every machine.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable, Iterator, Sequence

from containers import seccomp
from tests.security.bpf import ALLOW, decide

X86_64, I386, X32 = 0xC000003E, 0x40000003, 0x4000003E
MACHINES = {
    "x86_64": (X86_64, I386, X32),
    "aarch64": (0xC00000B7, 0x40000028),
    "ppc64le": (0xC0000015,),
    "riscv64": (0xC00000F3,),
    "s390x": (0x80000016, 0x00000016),
}
"""By machine, what its programs may be made for: libseccomp's tokens, which are the kernel's but for x32."""

REFUSED, MISSING = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
X32_BIT = 0x40000000

_NE, _EQ, _MASKED_EQ = 1, 4, 7
_ONES = [(1 << 64) - 1] * 6


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def order_of(machine: str) -> str:
    """The byte order of a machine, as the struct module writes it."""
    return ">" if machine == "s390x" else "<"


def program(machine: str) -> bytes:
    """libseccomp's filter with docker's rules for a machine, in its byte order."""
    library = _library()
    native = library.seccomp_arch_native()
    context = library.seccomp_init(REFUSED)
    try:
        if native not in MACHINES[machine]:  # first: there is no filter for two byte orders
            _check(library.seccomp_arch_remove(context, native))
        for token in MACHINES[machine]:
            _check(library.seccomp_arch_add(context, token))

        def rule(name: str, action: int, *comparisons: _Comparison) -> None:
            number = library.seccomp_syscall_resolve_name(name.encode())
            assert number != -1, f"this libseccomp does not know {name}"
            array = (_Comparison * len(comparisons))(*comparisons)
            _check(library.seccomp_rule_add_array(context, action, number, len(comparisons), array))

        for name in seccomp.ALLOWED.union(seccomp.ALLOWED_ON.get(machine, ())):
            rule(name, ALLOW)
        for value in seccomp.PERSONALITIES:
            rule("personality", ALLOW, _Comparison(0, _EQ, value))
        rule("socket", ALLOW, _Comparison(0, _NE, seccomp.AF_VSOCK))
        flags = 1 if machine == "s390x" else 0
        rule("clone", ALLOW, _Comparison(flags, _MASKED_EQ, seccomp.NEW_NAMESPACES, 0))
        rule("clone3", MISSING)
        fd = os.memfd_create("seccomp")
        try:
            _check(library.seccomp_export_bpf(context, fd))
            return os.pread(fd, 1 << 20, 0)
        finally:
            os.close(fd)
    finally:
        library.seccomp_release(context)


def numbers(token: int) -> list[int]:
    """The numbers that a call may have where programs are made for ``token``, and many that none has."""
    library = _library()
    first = X32_BIT if token == X32 else 0
    found = {first + number for number in range(1200)}
    for name in seccomp.ALLOWED.union(*seccomp.ALLOWED_ON.values()):
        number = library.seccomp_syscall_resolve_name_arch(token, name.encode())
        if number >= 0:
            found |= {number - 1, number, number + 1}
    return sorted(number for number in found if number >= first)


def said(code: bytes, machine: str, token: int, number: int, arguments: Sequence[int]) -> int:
    """What libseccomp's filter for a machine says. On one of the other byte order it makes some answers backwards."""
    answer = decide(code, X86_64 if token == X32 else token, number, arguments, order_of(machine))
    return answer if answer in (ALLOW, REFUSED, MISSING) else int.from_bytes(answer.to_bytes(4, "big"), "little")


def _table(machine: str, token: int) -> Iterator[str]:
    """One architecture's numbers, as Python."""
    code, first = program(machine), X32_BIT if token == X32 else 0
    allowed: list[int] = []
    special: dict[str, int] = {}
    for number in numbers(token):
        answers = [said(code, machine, token, number, arguments) for arguments in ([0] * 6, [1] * 6, [40] * 6, _ONES)]
        if set(answers) == {ALLOW}:
            allowed.append(number - first)
        elif set(answers) != {REFUSED}:
            kind = {
                (MISSING, MISSING, MISSING): "clone3",
                (ALLOW, ALLOW, ALLOW): "clone",
                (ALLOW, ALLOW, REFUSED): "socket",
                (ALLOW, REFUSED, REFUSED): "personality",
            }[answers[0], answers[1], answers[2]]
            assert special.setdefault(kind, number - first) == number - first
    yield "        Calls("
    yield f"            0x{X86_64 if token == X32 else token:08X},"
    yield f"            first=0x{first:X},"
    yield f"            wide={bool(token & 0x80000000)},"
    yield f"            clone_flags={int(machine == 's390x')},"
    yield from (f"            {kind}={special[kind]}," for kind in ("clone", "clone3", "personality", "socket"))
    yield '            allowed="""'
    yield from _wrapped(_ranges(allowed))
    yield '            """,'
    yield "        ),"


def _ranges(found: Sequence[int]) -> Iterator[str]:
    begin = before = found[0]
    for number in [*found[1:], -1]:
        if number != before + 1:
            yield f"{begin}" if begin == before else f"{begin}-{before}"
            begin = number
        before = number


def _wrapped(words: Iterable[str]) -> Iterator[str]:
    line = " " * 15
    for word in words:
        if len(line) + len(word) > 118:
            yield line
            line = " " * 15
        line += f" {word}"
    yield line


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("libseccomp.so.2")
    pointer, number = ctypes.c_void_p, ctypes.c_uint32
    library.seccomp_init.restype = pointer
    library.seccomp_init.argtypes = [number]
    library.seccomp_release.argtypes = [pointer]
    library.seccomp_arch_native.restype = number
    library.seccomp_arch_add.argtypes = [pointer, number]
    library.seccomp_arch_remove.argtypes = [pointer, number]
    library.seccomp_syscall_resolve_name_arch.argtypes = [number, ctypes.c_char_p]
    library.seccomp_rule_add_array.argtypes = [pointer, number, ctypes.c_int, ctypes.c_uint, pointer]
    library.seccomp_export_bpf.argtypes = [pointer, ctypes.c_int]
    return library


def _check(result: int) -> None:
    if result < 0 and result != -errno.EEXIST:
        raise OSError(-result, os.strerror(-result))


if __name__ == "__main__":
    for machine, tokens in MACHINES.items():
        print(f'    "{machine}": (')
        for token in tokens:
            print("\n".join(_table(machine, token)))
        print("    ),")
