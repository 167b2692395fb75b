"""The end of a failed step's output, for every place that reports the failure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from pipelines.logs.lines import LogLine

TAIL_LINES: Final = 15
_WINDOW_LINES: Final = 200
_WINDOWS: Final = 5  # other steps' lines may stand between the step's own; look no further back than this
_MAX_CHARACTERS: Final = 2000
_CONTROL: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor movement
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC and its like: titles, links
    r"|\x1b[ -/]*[0-~]|[\x00-\x08\x0a-\x1f\x7f-\x9f]"
)


def last_output(
    read: Callable[[int, int], Sequence[LogLine]], *, step: int, first_line: int, last_line: int
) -> list[str]:
    """The last TAIL_LINES lines that ``step`` printed, as the log has them: masked, with colours.

    Looks at nothing that lies more than 1000 lines before the step's end. A line of more than 2000 characters is cut to
    its end.

    read: gives the log's lines from a number on, at most so many; fewer where they are long.
    first_line, last_line: the part of the log that speaks of the step.
    """
    if not first_line:
        return []
    found: list[str] = []
    end = last_line
    for _ in range(_WINDOWS):
        start = max(first_line, end - _WINDOW_LINES + 1)
        found = _printed(read, step, start, end) + found
        end = start - 1
        if len(found) >= TAIL_LINES or end < first_line:
            break
    return found[-TAIL_LINES:]


def plain(line: str) -> str:
    """A log's line without terminal controls such as colours; the last state of a line that overwrites itself."""
    return _CONTROL.sub("", line.rstrip("\r").rpartition("\r")[2])


def _printed(read: Callable[[int, int], Sequence[LogLine]], step: int, start: int, end: int) -> list[str]:
    """What ``step`` printed from line ``start`` to line ``end``."""
    texts: list[str] = []
    while start <= end and (lines := read(start, end - start + 1)):
        texts += [line.text[-_MAX_CHARACTERS:] for line in lines if line.kind == "output" and line.step == step]
        start = lines[-1].n + 1
    return texts
