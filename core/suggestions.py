"""What somebody who mistyped a name probably meant, and the one wording that says so.

A suggestion that is wrong costs more than none: 'ps' is no 'push', and 'restart' no 'restore'. So a name is near in
three cases only: it is one slip away; or just one candidate begins with it; or it begins with the same letter and
shares three letters in four.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

_ALIKE: Final = 0.75
"""Of difflib's ratio. 'Makefile' is like 'Dockerfile' by 0.67, 'restart' like 'restore' by 0.71."""

_SHORTEST: Final = 3
"""Letters: with fewer, any two names are one slip apart."""


def nearest(word: str, candidates: Iterable[str], most: int = 1) -> list[str]:
    """Up to ``most`` of the candidates, the likeliest first, ignoring case; empty when none is near."""
    import difflib  # only who mistyped something pays for it

    by_lower = {candidate.lower(): candidate for candidate in candidates}
    lower = word.lower()
    slips = sorted(name for name in by_lower if is_one_slip(lower, name))
    begun = [name for name in by_lower if len(lower) >= _SHORTEST and name.startswith(lower)]
    others = by_lower.keys() - begun if len(begun) > 1 else by_lower  # 'log' is no more a 'login' than a 'logout'
    alike = difflib.get_close_matches(lower, [name for name in others if name[:1] == lower[:1]], most, _ALIKE)
    likeliest = [name for name in alike if name in slips]
    found = dict.fromkeys([*likeliest, *slips, *alike, *(begun if len(begun) == 1 else ())])
    return [by_lower[name] for name in found][:most]


def is_one_slip(word: str, other: str) -> bool:
    """Whether one letter is missing, too many, or another, or two neighbours have changed places."""
    if abs(len(word) - len(other)) > 1:
        return False
    start = next((at for at, (left, right) in enumerate(zip(word, other, strict=False)) if left != right), None)
    if start is None:
        return len(word) != len(other) and min(len(word), len(other)) >= _SHORTEST - 1
    ends = zip(reversed(word[start:]), reversed(other[start:]), strict=False)
    same = next((at for at, (left, right) in enumerate(ends) if left != right), min(len(word), len(other)) - start)
    left, right = word[start : len(word) - same], other[start : len(other) - same]
    if len(left) == 2:
        return left == right[::-1]
    return max(len(left), len(right)) == 1 and min(len(word), len(other)) >= _SHORTEST - (len(left) != len(right))


def did_you_mean(names: Sequence[str], *, form: str = "{}") -> str | None:
    """``did you mean X?`` or ``did you mean X or Y?``, for use as a hint; None without names.

    form: how a name is written where it was asked for.
    """
    return f"did you mean {' or '.join(form.format(name) for name in names)}?" if names else None


def suggestion(word: str, candidates: Iterable[str], *, form: str = "{}") -> str | None:
    """``did you mean X?`` of the likeliest candidate, for use as a hint; None when none is near."""
    return did_you_mean(nearest(word, candidates), form=form)


def aside(hint: str | None) -> str:
    """A hint as an addition to a sentence: `` (did you mean X?)``; empty without one."""
    return f" ({hint})" if hint else ""
