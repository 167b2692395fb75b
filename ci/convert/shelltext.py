"""``${{ }}`` in a shell's script becomes a variable: where it stands says how it is written there.

The other system puts text into the script; a variable is read by the shell, and stays data. Between double quotes and
outside of quotes ``${NAME}`` is read. Between single quotes they are closed for it and opened again. In a heredoc whose
end is quoted nothing is read, so nothing can be put there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

OPEN: Final = "${{"
_HEREDOC: Final = re.compile(r"<<-?[ \t]*(\\?)(['\"]?)([A-Za-z_][A-Za-z0-9_]*)\2")


class Variable(NamedTuple):
    """What stands in a script for an expression. is_one_word: outside of quotes it is put in quotes."""

    name: str
    is_one_word: bool


class NotReadHereError(ValueError):
    """The expression stands where the shell reads no variable."""


def with_variables(script: str, variable: Callable[[str], Variable]) -> str:
    """The script, with a variable for each expression. variable: is handed what stands between the braces.

    Raises NotReadHereError, and what ``variable`` raises.
    """
    result: list[str] = []
    state = ""  # the quote that is open, or nothing
    ends: list[tuple[str, bool]] = []  # of heredocs that begin with the next line
    at, heredoc = 0, ""
    is_verbatim = False
    while at < len(script):
        if script.startswith(OPEN, at):
            end = script.find("}}", at)
            if end < 0:
                raise NotReadHereError
            result.append(_written(variable(script[at + 3 : end].strip()), state, heredoc, is_verbatim))
            at = end + 2
            continue
        character = script[at]
        if heredoc:
            stop = _end_of_line(script, at) if at == 0 or script[at - 1] == "\n" else at
            if script[at:stop].strip() == heredoc:
                heredoc, is_verbatim = ends.pop(0) if ends else ("", False)
                result.append(script[at:stop])
                at = stop
                continue
        elif character == "\n" and ends and not state:
            heredoc, is_verbatim = ends.pop(0)
        elif state != "'" and character == "\\" and at + 1 < len(script) and not script.startswith(OPEN, at + 1):
            result.append(script[at : at + 2])
            at += 2
            continue
        elif character in "'\"" and state in ("", character):
            state = "" if state else character
        elif not state and character == "#" and (at == 0 or script[at - 1] in " \t\n;"):
            comment = script[at : _end_of_line(script, at)]
            result.append(comment.replace(OPEN, "$ {{"))
            at += len(comment)
            continue
        elif not state and (found := _HEREDOC.match(script, at)) and not script.startswith("<<<", at):
            ends.append((found[3], bool(found[1] or found[2])))
            result.append(found[0])
            at = found.end()
            continue
        result.append(character)
        at += 1
    return "".join(result)


def _end_of_line(script: str, at: int) -> int:
    end = script.find("\n", at)
    return end if end >= 0 else len(script)


def _written(variable: Variable, state: str, heredoc: str, is_verbatim: bool) -> str:
    read = f"${{{variable.name}}}"
    if heredoc:
        if is_verbatim:
            raise NotReadHereError
        return read
    if state == "'":
        return f"'\"{read}\"'"
    return f'"{read}"' if variable.is_one_word and not state else read
