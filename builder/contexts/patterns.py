"""Patterns as filters of a walk: .dockerignore, ``--exclude``, the pattern of ``--parents``; and globs.

Patterns are parsed by dockerfile_grammar. It is loaded only for patterns: a build without any does not pay for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dockerfile_grammar.ignore import IgnorePatterns


def glob_match(pattern: str, name: str) -> bool:
    """Go's filepath.Match, for one part of a path. ``check_glob`` has already refused malformed patterns."""
    from dockerfile_grammar.globs import match

    return match(pattern, name)


def has_wildcards(path: str) -> bool:
    """Whether a source is a glob. A backslash makes the next character an ordinary one."""
    escaped = False
    for character in path:
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character in "*?[":
            return True
    return False


def check_glob(pattern: str) -> None:
    """Raises ValueError when a part of ``pattern`` is malformed."""
    from dockerfile_grammar.errors import PatternError

    for part in pattern.split("/"):
        try:
            glob_match(part, "")
        except PatternError as error:
            raise ValueError(error.reason) from error


class IgnoreFilter:
    """A filter that wants every path that patterns in .dockerignore's syntax do not name.

    Filters of several threads may share the patterns, whose only mutable state is a memo.
    """

    def __init__(self, patterns: IgnorePatterns) -> None:
        self._patterns = patterns

    @classmethod
    def of(cls, patterns: Sequence[str]) -> IgnoreFilter:
        """From the values of ``--exclude``."""
        from dockerfile_grammar.ignore import IgnorePatterns

        return cls(IgnorePatterns.of(patterns))

    def wants(self, path: str) -> bool:
        return not self._patterns.matches(path)

    def may_want_below(self, directory: str) -> bool:
        return not self._patterns.can_skip(directory)


class IncludeFilter:
    """A filter that wants the paths that ``pattern`` matches, and everything below them."""

    def __init__(self, pattern: str) -> None:
        from dockerfile_grammar.ignore import IgnorePatterns

        self._parts = pattern.split("/")
        self._patterns = IgnorePatterns.of((pattern,))

    def wants(self, path: str) -> bool:
        return self._patterns.matches(path)

    def may_want_below(self, directory: str) -> bool:
        for part, name in zip(self._parts, directory.split("/"), strict=False):
            if "**" in part:
                return True
            if not glob_match(part, name):
                return False
        return True
