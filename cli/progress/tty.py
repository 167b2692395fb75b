"""Progress on a terminal: every step with its state and time, and the last output lines of running steps."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from cli.progress.plain import transfer_text, warning_lines
from cli.progress.screen import Row, Screen
from cli.progress.text import LineSplitter, harmless, one_line
from core.events import (
    BuildPlanned,
    Event,
    StepFinished,
    StepInfo,
    StepOutput,
    StepProgress,
    StepStarted,
    Warned,
)

_TAIL_LINES = 6
_FIRST_PAINT_S = 0.15  # a build that is over by then shows just its summary


class _Step:
    """The state of a step, and the end of its output."""

    def __init__(self, info: StepInfo) -> None:
        self.info = info
        self.started_at: float | None = None
        self.finished: StepFinished | None = None
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self.streams = {1: LineSplitter(), 2: LineSplitter()}
        self.transfers: dict[str, StepProgress] = {}

    def tail_rows(self, limit: int) -> list[Row]:
        """The last ``limit`` lines of output, an unfinished one (a prompt, a progress bar) included."""
        pending = [splitter.pending for splitter in self.streams.values() if splitter.pending]
        transfers = [transfer_text(event) for event in self.transfers.values()]
        lines = [*transfers, *self.tail, *pending]
        return [Row(f" => => # {_shown(line)}", style="dim") for line in lines[max(0, len(lines) - limit) :]]


class TtyDisplay:
    """Paints on ``screen`` at most ten times a second. clock: the epoch time that events are stamped with."""

    interval_s = 0.1

    def __init__(self, screen: Screen, *, clock: Callable[[], float] = time.time) -> None:
        self._screen = screen
        self._clock = clock
        self._began_at = clock()
        self._steps: dict[int, _Step] = {}
        self._warnings: list[Warned] = []

    def handle(self, event: Event) -> None:
        if isinstance(event, BuildPlanned):
            for info in event.steps:
                self._step(info.id).info = info
        elif isinstance(event, Warned):
            self._warnings.append(event)
        else:
            self._handle_step(self._step(event.id), event)

    def refresh(self) -> None:
        now = self._clock()
        if now - self._began_at >= _FIRST_PAINT_S:
            self._screen.paint(self._rows(now, self._screen.height))

    def close(self) -> None:
        rows = self._rows(self._clock(), height=None)
        rows += [Row(line) for line in warning_lines(self._warnings)]
        self._screen.paint(rows)

    def _step(self, step_id: int) -> _Step:
        step = self._steps.get(step_id)
        if step is None:
            step = self._steps[step_id] = _Step(StepInfo(step_id, f"step {step_id + 1}"))
        return step

    def _handle_step(self, step: _Step, event: StepStarted | StepOutput | StepProgress | StepFinished) -> None:
        if isinstance(event, StepStarted):
            step.started_at = event.at
            step.finished = None  # a worker that was lost may have done it before
        elif isinstance(event, StepOutput):
            lines = step.streams[event.stream].feed(event.data)
            step.tail += [line.text for line in lines if not line.overwritten]
        elif isinstance(event, StepProgress):
            step.transfers[event.what] = event
        else:
            step.finished = event

    def _rows(self, now: float, height: int | None) -> list[Row]:
        """The header, and a row for each step begun. With ``height``, they fit into that many lines.

        These give way, in this order: output of running steps, steps that are done (oldest first).
        """
        begun = [self._steps[step_id] for step_id in sorted(self._steps)]
        begun = [step for step in begun if step.started_at is not None or step.finished]
        ended = [step for step in begun if step.finished]
        over = height is None
        finished = " FINISHED" if over and len(ended) == len(self._steps) else ""
        rows = [Row(f"[+] Building {now - self._began_at:.1f}s ({len(ended)}/{len(self._steps)}){finished}")]
        if height is None:
            return rows + [_step_row(step, now) for step in begun]
        room = max(1, height - 2)  # the header, and the line of the cursor
        running = len(begun) - len(ended)
        limit = min(_TAIL_LINES, (room - running) // running) if running else 0
        tails = {step.info.id: step.tail_rows(limit) for step in begun if not step.finished and limit > 0}
        excess = len(begun) + sum(map(len, tails.values())) - room
        hidden = min(len(ended), excess + 1) if excess > 0 else 0
        if hidden:
            rows.append(Row(f" => … {hidden} more steps done", style="good"))
        gone = {step.info.id for step in ended[:hidden]}
        for step in begun:
            if step.info.id not in gone:
                rows.append(_step_row(step, now))
                rows += tails.get(step.info.id, [])
        return rows[: room + 1]


def _step_row(step: _Step, now: float) -> Row:
    name = one_line(step.info.name)
    if step.finished is None:
        return Row(f" => {name}", f"{max(0.0, now - (step.started_at or now)):.1f}s")
    took = f"{step.finished.duration_s:.1f}s"
    match step.finished.outcome:
        case "done":
            return Row(f" => {name}", took, "good")
        case "cached":
            return Row(f" => CACHED {name}", took, "good")
        case "cancelled":
            return Row(f" => CANCELED {name}", took, "dim")
        case "failed":
            return Row(f" => ERROR {name}", took, "bad")


def _shown(line: str) -> str:
    return harmless(line, colours=False).expandtabs(8)
