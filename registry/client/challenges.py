"""``WWW-Authenticate``, parsed.  RFC 9110 section 11.6.1."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'[\s,]*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))\s*(?=,|$)')
_SCHEME = re.compile(rf"[\s,]*({_WORD})(?=[\s,]|$)")
_REST = re.compile(r"[^,]*(?:,|$)")
_ESCAPED = re.compile(r"\\(.)")


class Challenge(NamedTuple):
    """One challenge. scheme and the names of parameters are in lower case."""

    scheme: str
    parameters: Mapping[str, str] = {}


def parse_challenges(text: str) -> list[Challenge]:
    """The challenges in a header, or in several joined by commas; what is neither scheme nor parameter is skipped."""
    challenges: list[Challenge] = []
    position = 0
    while position < len(text):
        parameter = _PARAMETER.match(text, position)
        scheme = _SCHEME.match(text, position)
        if parameter and challenges:
            name, quoted, plain = parameter.groups()
            value = _ESCAPED.sub(r"\1", quoted) if quoted is not None else plain
            last = challenges[-1]
            challenges[-1] = Challenge(last.scheme, {**last.parameters, name.lower(): value})
            position = parameter.end()
        elif scheme:
            challenges.append(Challenge(scheme[1].lower()))
            position = scheme.end()
        else:
            rest = _REST.match(text, position)
            position = rest.end() if rest else len(text)
    return challenges
