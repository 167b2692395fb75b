"""Patterns as filters of a walk: .dockerignore, ``--exclude``, the pattern of ``--parents``; and globs.

The patterns are dockerfile_grammar's, which is loaded when there are any: a build without does not pay for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dockerfile_grammar.ignore import IgnorePatterns


def glob_match(pattern: str, name: str) -> bool:
    """Go's filepath.Match, for one part of a path; a malformed pattern was refused by ``check_glob``."""
    from dockerfile_grammar.globs import match

    return match(pattern, name)


def has_wildcards(path: str) -> bool:
    """Whether a source is a glob; a backslash takes the meaning from what follows it."""
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
    """Wants what patterns in the syntax of .dockerignore do not name.

    The patterns may be shared by the filters of several threads: all that they do not keep to themselves is a memo.
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
    """Wants what ``pattern`` matches, and all that is below it."""

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
