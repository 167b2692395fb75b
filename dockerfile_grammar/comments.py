"""What the comments right above an instruction say of it: which checks to skip, and what it is for.

The comments are those on the lines directly above, with no empty line between. ``# check=skip=RULE`` among them holds
for this instruction alone; the last other one may be its description.
Source: BuildKit, frontend/dockerfile/linter and instructions (comments of ARG and FROM).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dockerfile_grammar.ast import CheckOptions, Instruction
from dockerfile_grammar.parsing import parse_check_options

_CHECK = re.compile(r"check\s*=\s*(.+)", re.IGNORECASE)


def skipped_above(instruction: Instruction) -> CheckOptions:
    """The rules that ``# check=skip=…`` above the instruction names; a comment that is no such option names none."""
    options = [found for text in _above(instruction) if (found := _check_options(text)) is not None]
    return CheckOptions(
        skip=frozenset().union(*(each.skip for each in options)), skip_all=any(each.skip_all for each in options)
    )


def description_above(instruction: Instruction) -> str | None:
    """The comment nearest above the instruction that is no ``# check=``; None without one."""
    return next((text for text in _above(instruction) if _check_options(text) is None), None)


def _above(instruction: Instruction) -> Iterator[str]:
    """The comments directly above, the nearest first."""
    line = instruction.start_line
    for comment in reversed(instruction.comments):
        line -= 1
        if comment.span.start.line != line:
            return
        yield comment.text


def _check_options(text: str) -> CheckOptions | None:
    match = _CHECK.fullmatch(text)
    if match is None:
        return None
    try:
        return parse_check_options(match[1])
    except ValueError:
        return None
