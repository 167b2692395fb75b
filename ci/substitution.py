"""``${NAME}`` in the values of a pipeline file: found, and replaced, in single values after they were parsed.

``$${`` is a literal ``${``; any other ``$`` is itself. NAME is a variable (``PYTHON``, ``SHIPLAP_BRANCH``) or an export
of a job (``app.IMAGE``). A value that was put in is not looked at again, and can become no other key or entry.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

_REFERENCE: Final = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[a-z][a-z0-9_-]*(?:/[a-z][a-z0-9_-]*)?\.[A-Za-z_][A-Za-z0-9_]*")


class Placeholder(NamedTuple):
    """One ``${NAME}`` of a text. start, end: offsets in it. job: whose export it is; empty: a variable."""

    name: str
    job: str
    start: int
    end: int


class BadReferenceError(ValueError):
    """``${`` with no name behind it, or without its ``}``."""


def is_open(text: str) -> bool:
    """Whether something in a text is still to be replaced."""
    return "${" in text and any(match[1] is not None for match in _REFERENCE.finditer(text))


def references(text: str) -> list[Placeholder]:
    """All that a text names. Raises BadReferenceError."""
    found = []
    for match in _REFERENCE.finditer(text):
        if match[1] is None:
            continue
        name, closed = match[1], match[2]
        if not closed:
            raise BadReferenceError("${ has no } behind it; a literal ${ is written $${")
        if not _NAME.fullmatch(name):
            raise BadReferenceError(f"${{{name}}} names no variable; a literal ${{ is written $${{")
        job, _, last = name.rpartition(".")
        found.append(Placeholder(last, job, match.start(), match.end()))
    return found


def literal(text: str) -> str:
    """The text that ``replace`` makes this of, whatever is in it."""
    return text.replace("${", "$${")


def rewritten(text: str, other: Callable[[Placeholder], str | None]) -> str:
    """The text with other texts, which may name something in turn, in the place of some names; ``$${`` stays.

    other: None: this name stays.
    """
    instead = {reference.start: other(reference) for reference in references(text)}
    return _REFERENCE.sub(lambda match: found if (found := instead.get(match.start())) is not None else match[0], text)


def replace(text: str, value: Callable[[Placeholder], str | None]) -> str:
    """The text with each ``${NAME}`` replaced by its value, and ``$${`` by ``${``.

    value: None for a name that has no value yet. Then the text stays as it is, whole: it is replaced once, when all
    its values are there, for what a value brings in is never looked at.
    """
    values = {reference.start: value(reference) for reference in references(text)}
    if None in values.values():
        return text
    return _REFERENCE.sub(lambda match: "${" if match[1] is None else str(values[match.start()]), text)
