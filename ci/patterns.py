"""Lists of patterns, in the language of ``.dockerignore``: branches, tags, and files of a workspace.

The last pattern that fits a name, or a directory that it is in, decides; ``!`` in front means that it is not meant.
A list without patterns means everything, one that begins with ``!`` everything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from dockerfile_grammar import IgnorePatterns, globs
from dockerfile_grammar.errors import PatternError
from dockerfile_grammar.ignore import clean_path

MOST: Final = 100
"""Patterns of one list."""

LONGEST: Final = 200
"""Characters of one pattern."""


def fault(pattern: str) -> str | None:
    """What is wrong with a pattern, for a message that names it already; None: nothing."""
    if not pattern.strip():
        return "a pattern is empty"
    if len(pattern) > LONGEST:
        return f"a pattern has at most {LONGEST} characters"
    if "\0" in pattern or "\n" in pattern:
        return "a pattern is one line"
    try:
        IgnorePatterns.of([pattern])
    except PatternError as error:
        return f"{error.message} ({error.hint})" if error.hint else error.message
    return None


def compiled(patterns: Sequence[str]) -> IgnorePatterns:
    """Patterns as something that answers ``matches(path)``; the list is not empty."""
    return IgnorePatterns.of(["**", *patterns] if patterns[0].lstrip().startswith("!") else patterns)


def means(patterns: Sequence[str], name: str) -> bool:
    """Whether the patterns mean ``name``: a branch, a tag, or a path."""
    return means_any(patterns, (name,))


def means_any(patterns: Sequence[str], names: Iterable[str]) -> bool:
    """Whether the patterns mean at least one of the names."""
    if not patterns:
        return True
    found = compiled(patterns)
    return any(found.matches(name) for name in names)


def excludes(pattern: str) -> bool:
    """Whether a pattern says what is not meant."""
    return pattern.lstrip().startswith("!")


def literal_start(pattern: str) -> str:
    """The path that everything which a pattern means lies at or below; empty: it may lie anywhere."""
    parts = clean_path(pattern.strip()).split("/")
    return "/".join(parts[: next((at for at, part in enumerate(parts) if globs.has_wildcards(part)), len(parts))])


def is_literal(pattern: str) -> bool:
    """Whether a pattern names one path, with all below it."""
    return not globs.has_wildcards(pattern)
