"""Which branches, tags and files a project means: lists of patterns in the language of ``.dockerignore``.

The last pattern that fits a name, or a directory that the name is in, decides. ``!`` in front means that the name is
not meant. A list without patterns means everything. A list that begins with ``!`` means everything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from dockerfile_grammar import IgnorePatterns
from dockerfile_grammar.errors import PatternError
from pipelines.errors import InvalidRequestError

_MAX_PATTERNS: Final = 100
_MAX_LENGTH: Final = 200


def check_patterns(what: str, patterns: Sequence[str]) -> None:
    """Raises InvalidRequestError. what: the setting's name."""
    if len(patterns) > _MAX_PATTERNS:
        raise InvalidRequestError(f"{what} has {len(patterns)} patterns, at most {_MAX_PATTERNS} are possible")
    for pattern in patterns:
        if not pattern.strip() or len(pattern) > _MAX_LENGTH or "\0" in pattern or "\n" in pattern:
            raise InvalidRequestError(f"{what}: invalid pattern {pattern[:100]!r}")
        try:
            IgnorePatterns.of([pattern])
        except PatternError as error:
            raise InvalidRequestError(f"{what}: pattern {pattern!r}: {error.message}", hint=error.hint) from error


def means(patterns: Sequence[str], name: str) -> bool:
    """Whether the patterns mean ``name``: a branch, a tag, or a path."""
    return means_any(patterns, (name,))


def means_any(patterns: Sequence[str], names: Iterable[str]) -> bool:
    """Whether the patterns mean at least one of the names."""
    if not patterns:
        return True
    listed = ["**", *patterns] if patterns[0].lstrip().startswith("!") else patterns
    compiled = IgnorePatterns.of(listed)
    return any(compiled.matches(name) for name in names)
