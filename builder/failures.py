"""How a failed step is shown: the place in the Dockerfile, the lines around it, and how the command ended."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from builder.errors import BuilderError
from builder.graph import SourceLines
from core.events import StepInfo

if TYPE_CHECKING:
    from containers.spec import ContainerSpec

_CONTEXT_LINES = 2


class StepError(BuilderError):
    """A step could not be done: what was wrong, with the place in the Dockerfile.

    dockerfile, dockerfile_name: its text, and what to call it; set by whoever knows them.
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
    ) -> None:
        super().__init__(reason, hint=hint)
        self.step = step
        self.lines = lines
        self.dockerfile = dockerfile
        self.dockerfile_name = dockerfile_name

    def render(self) -> str:
        """Several lines: place and reason, the Dockerfile's lines with the instruction marked, the hint."""
        place = f"{self.dockerfile_name}:{self.lines.first}: " if self.lines.first else ""
        shown = [f"{place}{self.message}", *marked_lines(self.dockerfile, self.lines)]
        if self.hint is not None:
            shown.append(f"hint: {self.hint}")
        return "\n".join(shown)


class HeldStep:
    """A failed step, kept as it was: its files, its mounts, and the container to enter it with.

    spec: with the step's own command. Whoever has this closes it.
    """

    def __init__(self, spec: ContainerSpec, kept: ExitStack) -> None:
        self.spec = spec
        self._kept = kept

    def close(self) -> None:
        """Let go of the mounts, and remove the files."""
        self._kept.close()


class StepFailedError(StepError):
    """A step's command ended with a status other than 0, or could not be started.

    exit_code: as a shell gives it (128 + n for signal n). output_tail: the end of what it printed, at most 64 KiB.
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
        dockerfile: str = "",
        dockerfile_name: str = "",
        hint: str | None = None,
    ) -> None:
        super().__init__(
            reason, step=step, lines=lines, dockerfile=dockerfile, dockerfile_name=dockerfile_name, hint=hint
        )
        self.exit_code = exit_code
        self.output_tail = output_tail


def marked_lines(text: str, place: SourceLines) -> list[str]:
    """The lines of ``text`` around ``place``, numbered; the instruction has ``>>>`` and its first line carets."""
    if not place.first or not text:
        return []
    lines = text.splitlines()
    first, last = max(1, place.first - _CONTEXT_LINES), min(len(lines), place.last + _CONTEXT_LINES)
    shown = []
    for number in range(first, last + 1):
        line = lines[number - 1]
        mark = ">>> " if place.first <= number <= place.last else "    "
        shown.append(f"{number:>5} | {mark}{line}".rstrip())
        if number == place.first:
            indent = line[: len(line) - len(line.lstrip())]
            shown.append(f"      |     {indent}{'^' * max(1, len(line.strip()))}")
    return shown
