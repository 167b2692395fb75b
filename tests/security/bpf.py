"""Classic BPF as seccomp uses it, interpreted: what a filter says to a system call, without making one."""

from __future__ import annotations

import struct
from collections.abc import Sequence

ALLOW = 0x7FFF0000
_LOAD, _ALU, _JUMP, _RETURN = 0x20, 0x54, 0x05, 0x06
_JEQ, _JGT, _JGE, _JSET, _JA = 0x15, 0x25, 0x35, 0x45, 0x05


def decide(program: bytes, architecture: int, number: int, arguments: Sequence[int] = (), order: str = "<") -> int:
    """The action (SECCOMP_RET_*, with its data) for a call. arguments: up to six 64-bit values. order: of the bytes."""
    data = struct.pack(f"{order}IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    accumulator = at = 0
    while True:
        code, if_true, if_false, operand = struct.unpack_from(f"{order}HBBI", program, at * 8)
        at += 1
        if code == _RETURN:
            return int(operand)
        if code == _LOAD:
            (accumulator,) = struct.unpack_from(f"{order}I", data, operand)
        elif code == _ALU:
            accumulator &= operand
        elif code == _JA:
            at += operand
        else:
            outcome = {
                _JEQ: accumulator == operand,
                _JGT: accumulator > operand,
                _JGE: accumulator >= operand,
                _JSET: bool(accumulator & operand),
            }[code]
            at += if_true if outcome else if_false
