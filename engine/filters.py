"""Docker's ``filters``: names with lists of values, checked and matched.  moby api/types/filters"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from engine.errors import InvalidRequestError

Filters: TypeAlias = Mapping[str, Sequence[str]]


def checked(filters: Any, known: Iterable[str]) -> dict[str, list[str]]:
    """Filters as docker's clients send them: lists, or objects whose values are true. Raises InvalidRequestError."""
    if filters is None:
        return {}
    if not isinstance(filters, Mapping):
        raise InvalidRequestError("invalid filters: expected an object of lists")
    names = frozenset(known)
    found: dict[str, list[str]] = {}
    for name, values in filters.items():
        if name not in names:
            raise InvalidRequestError(f"invalid filter '{name}'")
        if isinstance(values, Mapping):
            values = [value for value, wanted in values.items() if wanted]
        if not isinstance(values, (list, tuple)) or not all(isinstance(value, str) for value in values):
            raise InvalidRequestError(f"invalid filter '{name}': expected a list of texts")
        found[name] = list(values)
    return found


def labels_match(wanted: Sequence[str], labels: Mapping[str, str]) -> bool:
    """Whether all of ``KEY`` and ``KEY=VALUE`` hold."""
    for text in wanted:
        key, separator, value = text.partition("=")
        if key not in labels or (separator and labels[key] != value):
            return False
    return True


def text_matches(wanted: Sequence[str], text: str) -> bool:
    """Whether one of these is the text, or a regular expression that is found in it; no filter fits everything."""
    if not wanted or text in wanted:
        return True
    for pattern in wanted:
        try:
            if re.search(pattern, text):
                return True
        except re.error:
            continue  # docker passes over what is no expression, too
    return False


def number(name: str, text: str) -> int:
    """The number that a filter's value is. Raises InvalidRequestError."""
    try:
        return int(text)
    except ValueError as error:
        raise InvalidRequestError(
            f"invalid filter '{name}={text}': strconv.Atoi: parsing \"{text}\": invalid syntax"
        ) from error
