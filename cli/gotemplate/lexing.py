"""Cuts a template into tokens, as Go's text/template does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from cli.gotemplate.errors import TemplateSyntaxError

_ACTION: Final = re.compile(
    r"""(?P<space>\s+)
    | (?P<string>"(?:[^"\\\n]|\\[^\n])*")
    | (?P<raw>`[^`]*`)
    | (?P<char>'(?:[^'\\\n]|\\[^\n]+?)')
    | (?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+
        |[0-9][0-9_]*(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+))
    | (?P<field>\.[^\W\d]\w*)
    | (?P<variable>\$\w*)
    | (?P<word>[^\W\d]\w*)
    | (?P<dot>\.)
    | (?P<sign>:=|[=|(),])
    """,
    re.VERBOSE,
)
_COMMENT: Final = re.compile(r"(?:-\s+|-(?=/))?/\*")


class Token(NamedTuple):
    """kind: a group of the pattern above, ``text``, ``open`` or ``close`` (of an action). column: from 1."""

    kind: str
    text: str
    line: int
    column: int


def tokens(template: str) -> Iterator[Token]:
    """The tokens of a template. Raises TemplateSyntaxError."""
    at, trimmed = 0, False
    while True:
        start = template.find("{{", at)
        text = template[at:] if start < 0 else template[at:start]
        if trimmed:
            text = text.lstrip(" \t\r\n")
        left_trim = start >= 0 and _trims_left(template, start + 2)
        if left_trim:
            text = text.rstrip(" \t\r\n")
        if text:
            yield Token("text", text, *_place(template, at))
        if start < 0:
            return
        inside = start + 2 + left_trim
        end = _comment_end(template, inside)
        if end is None:
            yield Token("open", "{{", *_place(template, start))
            found, end = _inside(template, inside)
            yield from found
            yield Token("close", "}}", *_place(template, end))
        trimmed = template.startswith("-}}", end)
        at = end + (3 if trimmed else 2)


def _trims_left(template: str, at: int) -> bool:
    return template.startswith("-", at) and template[at + 1 : at + 2].isspace()


def _comment_end(template: str, inside: int) -> int | None:
    """Where the closing braces (or their ``-``) of a comment stand; None when there is no comment."""
    found = re.compile(r"\s*/\*").match(template, inside)
    if found is None:
        return None
    end = template.find("*/", found.end())
    if end < 0:
        raise TemplateSyntaxError(f"template: :{_place(template, inside)[0]}: unclosed comment")
    rest = re.compile(r"\s+-(?=\}\})|(?=\}\})").match(template, end + 2)
    if rest is None:
        raise TemplateSyntaxError(f"template: :{_place(template, inside)[0]}: comment ends before closing delimiter")
    return rest.end() - (1 if rest[0].endswith("-") else 0)


def _inside(template: str, at: int) -> tuple[list[Token], int]:
    """The tokens up to the closing braces, and where these (or their ``-``) stand."""
    found: list[Token] = []
    while True:
        line, column = _place(template, at)
        if template.startswith("}}", at) or re.compile(r"-\}\}").match(template, at):
            return found, at
        match = _ACTION.match(template, at)
        if match is None:
            raise TemplateSyntaxError(f"template: :{line}: {_wrong(template, at)}")
        kind = str(match.lastgroup)
        if kind != "space":
            found.append(Token(kind, match[0], line, column))
            _check_end(template, match.end(), kind, line)
        elif found and found[-1].kind != "space":
            found.append(Token("space", match[0], line, column))
        at = match.end()


def _check_end(template: str, at: int, kind: str, line: int) -> None:
    """A word or number ends where something else begins: ``.A5x`` is one word, and ``5x`` is nothing."""
    if kind == "number" and template[at : at + 1].isalnum():
        raise TemplateSyntaxError(f"template: :{line}: bad number syntax: {template[at - 1 : at + 1]!r}")


def _wrong(template: str, at: int) -> str:
    if at >= len(template) or template[at] == "\n":
        return "unclosed action"
    if template[at] == '"':
        return "unterminated quoted string"
    if template[at] == "`":
        return "unterminated raw quoted string"
    if template[at] == "'":
        return "unterminated character constant"
    return (
        f"unexpected {template[at]!r} in operand"
        if template[at] in "{}"
        else (f"unexpected character in action: U+{ord(template[at]):04X} {template[at]!r}")
    )


def _place(template: str, at: int) -> tuple[int, int]:
    """Line and column of an offset, from 1; Go says the column from 0 and of bytes, which nobody counts."""
    return template.count("\n", 0, at) + 1, at - (template.rfind("\n", 0, at) + 1) + 1
