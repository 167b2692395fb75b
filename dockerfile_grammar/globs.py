"""Go's filepath.Match, which COPY and ADD use for their sources.  Source: go, path/filepath/match.go."""

from __future__ import annotations

import functools
import re

from dockerfile_grammar.errors import PatternError, shown


def match(pattern: str, name: str) -> bool:
    """Whether the whole of ``name`` matches: ``*`` and ``?`` stop at slashes, ``[a-z]`` and ``[^a-z]`` do not.

    Raises PatternError for a malformed pattern, also where Go would notice only with another name.
    """
    return _compile(pattern).fullmatch(name) is not None


def has_wildcards(pattern: str) -> bool:
    """Whether a source is to be matched at all, rather than taken literally."""
    return any(character in pattern for character in "*?[\\")


def check(pattern: str) -> None:
    """Raises PatternError when the pattern is malformed."""
    _compile(pattern)


@functools.lru_cache(maxsize=1024)
def _compile(pattern: str) -> re.Pattern[str]:
    chunks = _chunks(pattern)
    *before, last = chunks
    out = []
    for index, chunk in enumerate(before):
        # What Go does: the first place where a chunk matches is the one, there is no going back. An atomic group says
        # the same, and keeps a pattern of many stars from taking exponential time.
        out.append(chunk if index == 0 else f"(?>[^/]*?{chunk})")
    out.append(last if not before else f"[^/]*{last}")
    return re.compile("".join(out), re.DOTALL)


def _chunks(pattern: str) -> list[str]:
    """Regular expressions of what stands between the stars."""
    chunks = [""]
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if character == "*":
            position += 1
            if chunks[-1] or len(chunks) == 1:
                chunks.append("")
            continue
        if character == "?":
            chunks[-1] += "[^/]"
            position += 1
        elif character == "[":
            text, position = character_class(pattern, position + 1)
            chunks[-1] += text
        else:
            literal, position = _literal(pattern, position)
            chunks[-1] += re.escape(literal)
    return chunks


def _literal(pattern: str, position: int) -> tuple[str, int]:
    """A character, maybe escaped, and where it ends."""
    if pattern[position] == "\\":
        position += 1
        if position == len(pattern):
            raise _malformed(pattern, "it ends in a backslash")
    return pattern[position], position + 1


def character_class(pattern: str, position: int) -> tuple[str, int]:
    """The regular expression of a class whose content starts at ``position``, and where the class ends."""
    negated = pattern.startswith("^", position)
    position += negated
    ranges: list[str] = []
    while not (ranges and pattern.startswith("]", position)):
        low, position = _class_member(pattern, position)
        high = low
        if pattern.startswith("-", position):
            high, position = _class_member(pattern, position + 1)
        # A range that runs backwards is not an error; it holds nothing.
        ranges.append(f"{re.escape(low)}-{re.escape(high)}" if low <= high else "")
    content = "".join(ranges)
    if not content:
        return ("." if negated else "(?!)"), position + 1
    return f"[{'^' if negated else ''}{content}]", position + 1


def _class_member(pattern: str, position: int) -> tuple[str, int]:
    if position >= len(pattern):
        raise _malformed(pattern, "a [ is not closed")
    if pattern[position] in "-]":
        raise _malformed(pattern, f"{pattern[position]!r} in a class needs a backslash before it")
    character, position = _literal(pattern, position)
    if position == len(pattern):
        raise _malformed(pattern, "a [ is not closed")
    return character, position


def _malformed(pattern: str, reason: str) -> PatternError:
    return PatternError(
        f"malformed pattern {shown(pattern)!r}: {reason}", hint="to match [ * ? or \\ itself, write \\ before it"
    )
