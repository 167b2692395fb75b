"""Classic BPF as seccomp uses it, interpreted: what a filter says to a system call, without making one."""

from __future__ import annotations

import functools
import operator
import struct
from collections.abc import Callable, Sequence
from typing import Final

ALLOW = 0x7FFF0000
_LOAD, _ALU, _RETURN = 0x20, 0x54, 0x06
_JA = 0x05
_COMPARISONS: Final[dict[int, Callable[[int, int], object]]] = {
    0x15: operator.eq,
    0x25: operator.gt,
    0x35: operator.ge,
    0x45: operator.and_,  # any bit of the operand
}


def decide(program: bytes, architecture: int, number: int, arguments: Sequence[int] = (), order: str = "<") -> int:
    """The action (SECCOMP_RET_*, with its data) for a call. arguments: up to six 64-bit values. order: of the bytes."""
    data = struct.pack(f"{order}IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    words = struct.unpack(f"{order}16I", data)
    instructions = _instructions(program, order)
    accumulator = at = 0
    while True:
        code, if_true, if_false, operand = instructions[at]
        at += 1
        if code == _LOAD:
            accumulator = words[operand // 4]
        elif code == _RETURN:
            return operand
        elif code == _ALU:
            accumulator &= operand
        elif code == _JA:
            at += operand
        else:
            at += if_true if _COMPARISONS[code](accumulator, operand) else if_false


@functools.lru_cache(maxsize=16)
def _instructions(program: bytes, order: str) -> list[tuple[int, int, int, int]]:
    """Code, jumps if true and if false, and operand of each."""
    return list(struct.iter_unpack(f"{order}HBBI", program))
