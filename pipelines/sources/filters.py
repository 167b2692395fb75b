"""Whether a project's lists of patterns can be read. What they mean is ``ci.patterns``'."""

from __future__ import annotations

from collections.abc import Sequence

from ci.patterns import LONGEST, MOST
from dockerfile_grammar import IgnorePatterns
from dockerfile_grammar.errors import PatternError
from pipelines.errors import InvalidRequestError


def check_patterns(what: str, patterns: Sequence[str]) -> None:
    """Raises InvalidRequestError. what: the setting's name."""
    if len(patterns) > MOST:
        raise InvalidRequestError(f"{what} has {len(patterns)} patterns, at most {MOST} are possible")
    for pattern in patterns:
        if not pattern.strip() or len(pattern) > LONGEST or "\0" in pattern or "\n" in pattern:
            raise InvalidRequestError(f"{what}: invalid pattern {pattern[:100]!r}")
        try:
            IgnorePatterns.of([pattern])
        except PatternError as error:
            raise InvalidRequestError(f"{what}: pattern {pattern!r}: {error.message}", hint=error.hint) from error
