"""``--chmod``: octal numbers and chmod(1)'s symbolic modes.

Symbolic modes know no umask: ``+w`` is ``a+w``. ``t`` goes with ``u``, with ``g`` or with nobody named, as in BSD's
setmode(3), which BuildKit follows. ``X`` works after ``=`` too, as in POSIX and GNU. There setmode(3) ignores it, which
makes the directories of a plain ``u=rwX,go=rX`` unsearchable.
"""

from __future__ import annotations

import re
import stat
from typing import Final

import msgspec

from builder.errors import ModeError

_MAX: Final = 0o7777
_OCTAL = re.compile(r"[0-7]{1,12}")
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_SHIFT = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 0o4, "w": 0o2, "x": 0o1}
_SET_ID = {"u": stat.S_ISUID, "g": stat.S_ISGID, "o": 0}


class _Action(msgspec.Struct, frozen=True):
    """One clause of a symbolic mode, such as ``go-w``.

    who: letters of ``ugo``.
    what: one of ``ugo`` to copy from, or any of ``rwxXst``.
    """

    who: str
    sticky: bool
    operator: str
    what: str

    def apply(self, mode: int, *, searchable: bool) -> int:
        bits = affected = 0
        for one in self.who:
            if self.what in _SHIFT and self.what:
                bits |= (mode >> _SHIFT[self.what] & 0o7) << _SHIFT[one]
                affected |= 0o7 << _SHIFT[one]
                continue
            for letter, bit in _BITS.items():
                if letter in self.what or (letter == "x" and "X" in self.what and searchable):
                    bits |= bit << _SHIFT[one]
            if "s" in self.what:
                bits |= _SET_ID[one]
            affected |= 0o7 << _SHIFT[one] | _SET_ID[one]
        if "t" in self.what and self.sticky:
            bits |= stat.S_ISVTX
            affected |= stat.S_ISVTX
        if self.operator == "+":
            return mode | bits
        return mode & ~(bits if self.operator == "-" else affected) | (bits if self.operator == "=" else 0)


class Chmod(msgspec.Struct, frozen=True):
    """A parsed ``--chmod``. octal: the number, which holds for created directories too; None when symbolic."""

    octal: int | None
    actions: tuple[_Action, ...] = ()

    def apply(self, mode: int) -> int:
        """Change ``st_mode``; its type bits pass through."""
        if self.octal is not None:
            return stat.S_IFMT(mode) | self.octal
        searchable = stat.S_ISDIR(mode) or bool(mode & 0o111)
        for action in self.actions:
            mode = action.apply(mode, searchable=searchable)
        return mode


def parse_chmod(text: str) -> Chmod | None:
    """Parse ``755`` or ``u=rwX,go=rX``; an empty text is None. Raises ModeError."""
    if not text:
        return None
    if _OCTAL.fullmatch(text) and int(text, 8) <= _MAX:
        return Chmod(int(text, 8))
    actions: list[_Action] = []
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise ModeError(
                f"invalid --chmod={text}",
                hint="use octal from 0 to 7777 (--chmod=755), or symbols as in chmod(1) (--chmod=u=rwX,go=rX)",
                word=f"--chmod={text}",
            )
        who = "ugo" if not match[1] or "a" in match[1] else match[1]
        actions += [_Action(who, who != "o", operator, what) for operator, what in _ACTION.findall(match[2])]
    return Chmod(None, tuple(actions))
