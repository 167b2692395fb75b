"""How a failed step is shown: the place in the Dockerfile, the lines around it, and how the command ended."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from builder.errors import BuilderError
from builder.graph.vertices import SourceLines
from core.events import StepInfo

if TYPE_CHECKING:
    from builder.graph.rootfs import RootFS
    from builder.graph.vertices import RunOp
    from builder.request.limits import StepLimits
    from containers.spec import ContainerSpec

_CONTEXT_LINES = 2


class StepError(BuilderError):
    """A step could not be done: what was wrong, with the place in the Dockerfile.

    dockerfile: its text, set by whoever knows it.
    dockerfile_name: its name for messages, set by whoever knows it.
    word: the part of the instruction that is to blame; empty for all of it.
    """

    def __init__(
        self,
        reason: str,
        *,
        step: StepInfo,
        lines: SourceLines,
        dockerfile: str = "",
        dockerfile_name: str = "",
        hint: str | None = None,
        word: str = "",
    ) -> None:
        super().__init__(reason, hint=hint)
        self.step = step
        self.word = word
        self.lines = lines
        self.dockerfile = dockerfile
        self.dockerfile_name = dockerfile_name

    def render(self) -> str:
        """Several lines: place and reason, the Dockerfile's lines with the instruction marked, the hint."""
        if not self.lines.first or not self.dockerfile:
            shown = [self.message]
        else:
            blamed = _find(self.dockerfile.splitlines(), self.lines, self.word)
            place = f"{self.dockerfile_name}:{blamed.line}:{blamed.column + 1}: "
            shown = [f"{place}{self.message}", *marked_lines(self.dockerfile, self.lines, self.word)]
        if self.hint is not None:
            shown.append(f"hint: {self.hint}")
        return "\n".join(shown)


class HeldStep:
    """A failed step, kept as it was: its files, its mounts, and the container to enter it with.

    Whoever has this object closes it.

    spec: a container with the step's own command, on the files as the step left them.
    op: the step as it was planned.
    parent: the files that it began with.
    limits: the limits that the step had.
    """

    def __init__(self, spec: ContainerSpec, kept: ExitStack, op: RunOp, parent: RootFS, limits: StepLimits) -> None:
        self.spec = spec
        self.op = op
        self.parent = parent
        self.limits = limits
        self._kept = kept

    def close(self) -> None:
        """Let go of the mounts, and remove the files."""
        self._kept.close()


class StepFailedError(StepError):
    """A step's command ended with a status other than 0, or could not be started.

    exit_code: as a shell gives it (128 + n for signal n).
    output_tail: the end of what it printed, at most 64 KiB.
    is_over_limit: a limit ended it; the message says which.
    held: the step itself, where the build was asked to hold failed ones.
    """

    held: HeldStep | None = None

    def __init__(
        self,
        reason: str,
        *,
        step: StepInfo,
        lines: SourceLines,
        exit_code: int,
        output_tail: bytes,
        is_over_limit: bool = False,
        dockerfile: str = "",
        dockerfile_name: str = "",
        hint: str | None = None,
    ) -> None:
        super().__init__(
            reason, step=step, lines=lines, dockerfile=dockerfile, dockerfile_name=dockerfile_name, hint=hint
        )
        self.exit_code = exit_code
        self.is_over_limit = is_over_limit
        self.output_tail = output_tail


class _Blamed(NamedTuple):
    """The part of a line to mark: line (from 1), column (from 0), width."""

    line: int
    column: int
    width: int


def marked_lines(text: str, place: SourceLines, word: str = "") -> list[str]:
    """The lines of ``text`` around ``place``, numbered; the instruction has ``>>>``.

    Carets are below ``word``, where the instruction has it, else below the instruction's first line.
    """
    if not place.first or not text:
        return []
    lines = text.splitlines()
    blamed = _find(lines, place, word)
    first, last = max(1, place.first - _CONTEXT_LINES), min(len(lines), place.last + _CONTEXT_LINES)
    shown = []
    for number in range(first, last + 1):
        line = lines[number - 1]
        mark = ">>> " if place.first <= number <= place.last else "    "
        shown.append(f"{number:>5} | {mark}{line}".rstrip())
        if number == blamed.line:
            indent = "".join(character if character == "\t" else " " for character in line[: blamed.column])
            shown.append(f"      |     {indent}{'^' * max(1, blamed.width)}")
    return shown


def _find(lines: list[str], place: SourceLines, word: str) -> _Blamed:
    """The place of a word in an instruction; its first line when the word is empty or comes from a variable."""
    if word:
        pattern = re.compile(rf"(?<![^\s\"',\[]){re.escape(word)}(?![^\s\"',\]])")
        for number in range(place.first, min(place.last, len(lines)) + 1):
            if found := pattern.search(lines[number - 1]):
                return _Blamed(number, found.start(), found.end() - found.start())
    line = lines[place.first - 1]
    return _Blamed(place.first, len(line) - len(line.lstrip()), len(line.strip()))
