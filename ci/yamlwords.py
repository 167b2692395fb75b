"""What is wrong with a text that is no YAML, in words for who wrote it.

libyaml says what it was about when it could go no further. Beginners stumble over few things, and these have words of
their own; the rest keeps libyaml's.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import yaml


class Words(NamedTuple):
    """A message and its place; line and column count from 0."""

    message: str
    hint: str | None
    line: int
    column: int


_QUOTE: Final = "write the whole value in quotes"
_COLON: Final = "a key ends with a colon"


def in_words(error: yaml.MarkedYAMLError, text: str) -> Words:
    """The message for an error that ``yaml.parse`` raised for ``text``."""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark is not None else (0, 0)
    lines = text.split("\n")
    rest = lines[line][column:] if line < len(lines) else ""
    before = lines[line][:column] if line < len(lines) else lines[-1]
    problem, context = error.problem or "", error.context or ""
    for words in (_of_a_character(problem, rest), _of_a_template(before, rest), _of_context(error, context)):
        if words is not None:
            message, hint, at = words
            return Words(message, hint, *(at or (line, column)))
    if "mapping values are not allowed" in problem and ": " not in before and lines[:line]:
        return Words("this line goes on with the one above, which is no key with its value", _COLON, line, 0)
    if "mapping values are not allowed" in problem:
        return Words("a colon and a space begin the value of a key, and here none can", _QUOTE, line, column)
    if "could not find expected ':'" in problem:
        return Words("this line is no key with its value", _COLON, line, column)
    if "did not find expected key" in problem or "block end" in problem or "'-' indicator" in problem:
        hint = "what belongs together begins in the same column, with spaces"
        return Words("this line does not fit what is above it", hint, line, column)
    if "',' or" in problem:
        return Words("a list or map between brackets goes on without a comma, or does not end", None, line, column)
    return Words(f"this is no YAML: {problem or context}", None, line, column)


_Found = tuple[str, str | None, tuple[int, int] | None]


def _of_a_character(problem: str, rest: str) -> _Found | None:
    """Words for a character with which no value begins."""
    if "cannot start any token" not in problem:
        return None
    if rest.startswith("\t"):
        return "lines are indented by spaces, and here is a tab", None, None
    return f"no value begins with {rest[:1]!r}", _QUOTE, None


def _of_a_template(before: str, rest: str) -> _Found | None:
    """Words for ``${NAME}`` between braces or brackets."""
    if rest.startswith("{") and before.endswith("$"):
        return "${…} between braces or brackets is taken for a map", _QUOTE, None
    return None


def _of_context(error: yaml.MarkedYAMLError, context: str) -> _Found | None:
    """Words for what began at one place and went wrong at another: the place is where it began."""
    mark = error.context_mark
    at = (mark.line, mark.column) if mark is not None else None
    if "alias" in context:
        return "* begins an alias in YAML", "a text that begins with * is written in quotes", at
    if "anchor" in context:
        return "& begins an anchor in YAML", "a text that begins with & is written in quotes", at
    if "tag" in context or "directive" in context:
        first = "!" if "tag" in context else "%"
        return (
            f"{first} begins a {context.split()[-1]} in YAML",
            f"a text that begins with {first} is written in quotes",
            at,
        )
    if "quoted scalar" in context:
        return "a text in quotes does not end", "a quote within it is doubled, or escaped by a backslash", at
    return None
