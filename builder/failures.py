"""How a failed step is shown: the place in the Dockerfile, the lines around it, and how the command ended."""

from __future__ import annotations

from builder.errors import BuilderError
from builder.graph import SourceLines
from core.events import StepInfo

_CONTEXT_LINES = 2


class StepFailedError(BuilderError):
    """A step's command ended with a status other than 0, or could not be started.

    exit_code: as a shell gives it (128 + n for signal n). output_tail: the end of what it printed, at most 64 KiB.
    """

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
        super().__init__(reason, hint=hint)
        self.step = step
        self.lines = lines
        self.exit_code = exit_code
        self.output_tail = output_tail
        self.dockerfile = dockerfile
        self.dockerfile_name = dockerfile_name

    def render(self) -> str:
        """Several lines: place and reason, the Dockerfile's lines with the instruction marked, the hint."""
        place = f"{self.dockerfile_name}:{self.lines.first}: " if self.lines.first else ""
        shown = [f"{place}{self.message}", *marked_lines(self.dockerfile, self.lines)]
        if self.hint is not None:
            shown.append(f"hint: {self.hint}")
        return "\n".join(shown)


def marked_lines(text: str, place: SourceLines) -> list[str]:
    """The lines of ``text`` around ``place``, numbered, with ``>>>`` and a line of carets at the instruction."""
    if not place.first or not text:
        return []
    lines = text.splitlines()
    first, last = max(1, place.first - _CONTEXT_LINES), min(len(lines), place.last + _CONTEXT_LINES)
    shown = []
    for number in range(first, last + 1):
        inside = place.first <= number <= place.last
        line = lines[number - 1]
        shown.append(f"{number:>5} | {'>>> ' if inside else '    '}{line}")
        if number == place.last:
            width = len(lines[place.first - 1].split(maxsplit=1)[0]) if lines[place.first - 1].strip() else 1
            shown.append(f"      |     {'^' * (len(line) if place.first == place.last else width)}")
    return shown
