"""One file of another system to a pipeline file of ours that lints, with a list of what is left to do."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from ci.convert.drone import convert_drone
from ci.convert.foreign import Foreign
from ci.convert.github import convert_github
from ci.convert.gitlab import convert_gitlab
from ci.convert.remarks import Remarks
from ci.convert.settling import settled
from ci.convert.woodpecker import convert_woodpecker

Dialect: TypeAlias = Literal["woodpecker", "drone", "github", "gitlab"]
DIALECTS: Final[tuple[Dialect, ...]] = get_args(Dialect)
_IN_THE_FILE: Final = 100
"""Remarks that the file has at its top."""


class Converted(NamedTuple):
    """What a foreign file became.

    text: of a pipeline file that lints.
    remarks: what is left to do.
    warnings: what lint says of it, printed.
    """

    text: str
    remarks: Remarks
    warnings: str


def convert(dialect: Dialect, data: bytes, filename: str, default_branch: str = "") -> Converted:
    """Convert a file. default_branch: what the project's is called, where the file means it without saying.

    Raises PipelineFileError, with the place, when nothing can be made of it.
    """
    foreign = Foreign(data, filename)
    match dialect:
        case "woodpecker":
            draft = convert_woodpecker(foreign)
        case "drone":
            draft = convert_drone(foreign)
        case "github":
            draft = convert_github(foreign)
        case "gitlab":
            draft = convert_gitlab(foreign, default_branch)
    settled(draft, foreign, [])
    # Only now it is known what lint took out; the second time it has nothing to object to.
    final = settled(draft, foreign, _comment(filename, foreign.remarks))
    return Converted(final.text, foreign.remarks, final.warnings)


def _comment(filename: str, remarks: Remarks) -> list[str]:
    lines = [f"Converted from {filename}."]
    found = remarks.lines()
    if not found:
        return lines
    lines.append("Left to do, or other than it was:")
    lines += [f"- {line}" for line in found[:_IN_THE_FILE]]
    if len(found) > _IN_THE_FILE:
        lines.append(f"- and {len(found) - _IN_THE_FILE} more")
    return lines
