"""The patterns of ``${v#p}`` and ``${v/p/r}``: ``*``, ``?``, and ``\\`` before these, ``\\``, ``}`` and ``/``.

Source: moby/buildkit, frontend/dockerfile/shell/lex.go (convertShellPatternToRegex), Go's regexp.
"""

from __future__ import annotations

import re

from dockerfile_grammar.errors import ExpansionError, shown
from dockerfile_grammar.growth import check_growth


def trim(value: str, pattern: str, side: str) -> str:
    """Remove the shortest, or after a doubled operator the longest, match from the start (#) or the end (%)."""
    greedy = pattern.startswith(side)
    if greedy:
        pattern = pattern[1:]
    if side == "#":
        match = _compile(pattern, greedy=greedy).match(value)
        return value if match is None else value[match.end() :]
    # The shortest match that ends at the end starts as far right as possible: search it in the reversed value.
    match = _compile(_reversed(pattern), greedy=greedy).match(value[::-1])
    return value if match is None else value[: len(value) - match.end()]


def replace_first(value: str, pattern: str, replacement: str) -> str:
    """Replace the first match, the longest there."""
    match = _compile(pattern, greedy=True).search(value)
    return value if match is None else value[: match.start()] + replacement + value[match.end() :]


def replace_all(value: str, pattern: str, replacement: str) -> str:
    """As Go's ReplaceAllString: no empty match right after a match; ``$`` in the replacement names a group."""
    out: list[str] = []
    end = grown = 0
    for match in _compile(pattern, greedy=True).finditer(value):
        if out and match.start() == match.end() == end:
            continue
        out += (value[end : match.start()], _go_template(replacement, match[0]))
        end = match.end()
        grown += len(out[-1])
        check_growth(grown)
    return "".join((*out, value[end:]))


def _compile(pattern: str, *, greedy: bool) -> re.Pattern[str]:
    """The regular expression of a pattern that matches as much as it can, or as little.

    Between two stars the first place that fits is as good as any other. So an atomic group tries no others, and
    patterns of many stars do not take exponential time.
    """
    first, *rest = _chunks(pattern)
    out = [first, *(f"(?>.*?{chunk})" for chunk in rest[:-1])]
    if rest:
        out.append((".*" if greedy else ".*?") + rest[-1])
    return re.compile("".join(out))


def _chunks(pattern: str) -> list[str]:
    """Regular expressions of what stands between the stars."""
    chunks = [""]
    characters = iter(pattern)
    for character in characters:
        if character == "*":
            chunks.append("")
        elif character == "?":
            chunks[-1] += "."
        elif character == "\\":
            following = next(characters, "")
            if following not in {"*", "?", "\\", "}", "/"}:
                raise ExpansionError(
                    f"invalid escape '\\{shown(following)}' in pattern {shown(pattern)!r}",
                    hint="\\ can stand before * ? \\ } and / only",
                )
            chunks[-1] += re.escape(following)
        else:
            chunks[-1] += re.escape(character)
    return chunks


def _reversed(pattern: str) -> str:
    """Reverse it, keeping each escape before what it escapes."""
    return "".join(reversed(re.findall(r"\\.|.", pattern, re.DOTALL)))


def _go_template(template: str, whole: str) -> str:
    def group(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return whole if (match[1] or match[2]) == "0" else ""

    return re.sub(r"\$\$|\$(\w+)|\$\{(\w+)\}", group, template)
