"""``--security-opt seccomp=FILE``: docker's profile, made into a filter of system calls by libseccomp.

The profile's format is moby's (profiles/seccomp/seccomp.go); what it means is runc's (libcontainer/seccomp).
"""

from __future__ import annotations

import base64
import ctypes
import errno
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from engine.errors import InvalidRequestError, NotDoneError
from engine.fields import Fields

_MOST_BYTES: Final = 1 << 20
_EXISTS: Final = -errno.EEXIST
_UNKNOWN_CALL: Final = -1
_ACTIONS: Final[Mapping[str, int]] = {
    "SCMP_ACT_KILL": 0x00000000, "SCMP_ACT_KILL_THREAD": 0x00000000, "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000, "SCMP_ACT_ERRNO": 0x00050000, "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000, "SCMP_ACT_ALLOW": 0x7FFF0000,
}  # fmt: skip
_FLAGS: Final[Mapping[str, int]] = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1, "SECCOMP_FILTER_FLAG_LOG": 2, "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
}  # fmt: skip
_WITH_NUMBER: Final = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_OPERATORS: Final = (
    "", "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ",
)  # fmt: skip
"""In the order of libseccomp's numbers."""

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x"}


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def compiled(text: str, capabilities: frozenset[str]) -> tuple[str, int]:
    """The filter of a profile, in base64, and the flags that it is loaded with.

    capabilities: of the container, for rules that depend on them.
    Raises InvalidRequestError; NotDoneError without libseccomp, and for flags that are not done.
    """
    if len(text) > _MOST_BYTES:
        raise InvalidRequestError("Decoding seccomp profile failed: it is too large")
    try:
        profile = Fields(json.loads(text), "seccomp profile")
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"Decoding seccomp profile failed: {error}") from error
    flags = 0
    for name in profile.texts("flags"):
        if name not in _FLAGS:
            raise NotDoneError(f"seccomp profile: the flag {name!r} is refused: nobody listens to a filter here")
        flags |= _FLAGS[name]
    library = _library()
    context = library.seccomp_init(_action(profile.text("defaultAction"), profile.number("defaultErrnoRet")))
    if not context:
        raise InvalidRequestError(f"seccomp profile: {profile.text('defaultAction')} cannot be a default action")
    try:
        _add_architectures(library, context, profile)
        for rule in profile.objects("syscalls"):
            if _holds(rule, capabilities):
                _add_rule(library, context, rule, profile.text("defaultAction"))
        fd = os.memfd_create("seccomp")
        try:
            _checked(library.seccomp_export_bpf(context, fd))
            return base64.b64encode(os.pread(fd, _MOST_BYTES, 0)).decode(), flags
        finally:
            os.close(fd)
    finally:
        library.seccomp_release(context)


def _action(name: str, number: int) -> int:
    if name not in _ACTIONS:
        raise InvalidRequestError(f"seccomp profile: action {name!r} is not known, or not done")
    if name in _WITH_NUMBER:
        return _ACTIONS[name] | (number or errno.EPERM) & 0xFFFF
    return _ACTIONS[name]


def _add_architectures(library: ctypes.CDLL, context: int, profile: Fields) -> None:
    """This machine's, which is there already, and those that the profile has beside it."""
    native = library.seccomp_arch_native()
    names = profile.texts("architectures")
    for each in profile.objects("archMap"):
        if _token(library, each.text("architecture")) == native:
            names += each.texts("subArchitectures")
    for name in names:
        token = _token(library, name)
        if not token:
            raise InvalidRequestError(f"seccomp profile: architecture {name!r} is not known")
        _checked(library.seccomp_arch_add(context, token))


def _token(library: ctypes.CDLL, name: str) -> int:
    found: int = library.seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode())
    return found


def _holds(rule: Fields, capabilities: frozenset[str]) -> bool:
    """Whether a rule is for such a container, on such a host."""
    if rule.has("includes"):
        wanted = rule.inner("includes")
        if not capabilities.issuperset(wanted.texts("caps")):
            return False
        if wanted.texts("arches") and not _is_here(wanted.texts("arches")):
            return False
        if wanted.text("minKernel") and _kernel() < _version(wanted.text("minKernel")):
            return False
    if rule.has("excludes"):
        unwanted = rule.inner("excludes")
        if capabilities.intersection(unwanted.texts("caps")) or _is_here(unwanted.texts("arches")):
            return False
        if unwanted.text("minKernel") and _kernel() >= _version(unwanted.text("minKernel")):
            return False
    return True


def _is_here(architectures: Iterable[str]) -> bool:
    return _ARCHITECTURES.get(os.uname().machine, os.uname().machine) in architectures


def _kernel() -> tuple[int, ...]:
    return _version(os.uname().release)


def _version(text: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", text)
    if found is None:
        raise InvalidRequestError(f"seccomp profile: {text!r} is no version of a kernel")
    return int(found[1]), int(found[2])


def _add_rule(library: ctypes.CDLL, context: int, rule: Fields, default: str) -> None:
    action = _action(rule.text("action"), rule.number("errnoRet"))
    if rule.text("action") == default and default not in _WITH_NUMBER:
        return  # libseccomp wants no rule that says what holds anyway
    comparisons = [_comparison(each) for each in rule.objects("args")]
    places = [each.argument for each in comparisons]
    # As runc: several comparisons of one argument are alternatives.
    every = [[each] for each in comparisons] if len(set(places)) < len(places) else [comparisons]
    for name in [*rule.texts("names"), *filter(None, [rule.text("name")])]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN_CALL:
            continue
        for some in every:
            array = (_Comparison * len(some))(*some)
            result = library.seccomp_rule_add_array(context, action, number, len(some), array)
            if result not in (_EXISTS, -errno.EACCES):  # said before; as the default says
                _checked(result)


def _comparison(each: Fields) -> _Comparison:
    operator, index = each.text("op"), each.number("index")
    if operator not in _OPERATORS[1:] or not 0 <= index <= 5:
        raise InvalidRequestError(f"seccomp profile: a rule compares argument {index} by {operator!r}")
    return _Comparison(index, _OPERATORS.index(operator), each.number("value"), each.number("valueTwo"))


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise NotDoneError(
            "--security-opt seccomp=FILE takes libseccomp, which this host lacks", hint="apt install libseccomp2"
        ) from error
    pointer, number = ctypes.c_void_p, ctypes.c_uint32
    library.seccomp_init.restype = pointer
    library.seccomp_init.argtypes = [number]
    library.seccomp_release.argtypes = [pointer]
    library.seccomp_arch_native.restype = number
    library.seccomp_arch_resolve_name.restype = number
    library.seccomp_arch_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_arch_add.argtypes = [pointer, number]
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_rule_add_array.argtypes = [pointer, number, ctypes.c_int, ctypes.c_uint, pointer]
    library.seccomp_export_bpf.argtypes = [pointer, ctypes.c_int]
    return library


def _checked(result: int) -> None:
    if result < 0 and result != _EXISTS:
        raise InvalidRequestError(f"seccomp profile: {os.strerror(-result)}")


def text_of(option: str, value: Any) -> str:
    """The profile's text that ``--security-opt seccomp=`` brought along. Raises InvalidRequestError."""
    if not isinstance(value, str) or not value.lstrip().startswith("{"):
        raise InvalidRequestError(f'invalid --security-opt "{option[:80]}": the profile itself is wanted, not its name')
    return value
