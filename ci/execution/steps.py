"""The steps of a job as its monitor sees them: which there are, which one goes on, and how each ended."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from typing import Final

from builder.running.container import Output
from core.errors import ShiplapError
from core.events import BuildPlanned, Event, Monitor, StepFinished, StepInfo, StepOutcome, StepStarted, Warned

_MOST_RUNG: Final = 4096
"""Bytes that are read of a bell at once."""

_LONGEST_LINE: Final = 16

NOT_RUN: Final = "not run: the job had ended before"


class Numbering:
    """Passes events on, and gives numbers to steps that come after those of an image's build."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._next = 0

    def emit(self, event: Event) -> None:
        if isinstance(event, BuildPlanned):
            self._next = max((self._next, *(step.id + 1 for step in event.steps)))
        self._monitor.emit(event)

    def after_these(self) -> Monitor:
        """A monitor for a build, which numbers its steps from 0: they come after those that there are."""
        return _Shifted(self, self._next) if self._next else self

    def new_step(self, name: str) -> StepInfo:
        """A step that the monitor has still to be told of."""
        step = StepInfo(self._next, name)
        self._next += 1
        return step

    def planned(self, names: Sequence[str], lines: Sequence[int]) -> tuple[StepInfo, ...]:
        """Steps of the job itself, told to the monitor. lines: of the pipeline file."""
        steps = tuple(self.new_step(name)._replace(line=line) for name, line in zip(names, lines, strict=True))
        self.emit(BuildPlanned(steps))
        return steps

    @contextlib.contextmanager
    def shown(self, name: str) -> Iterator[StepInfo]:
        """A step of Shiplap's own, from its beginning to its end."""
        (step,) = self.planned([name], [0])
        began = time.monotonic()
        self.emit(StepStarted(step.id, time.time()))
        try:
            yield step
        except ShiplapError as error:
            self.emit(StepFinished(step.id, "failed", time.monotonic() - began, time.time(), error.message))
            raise
        self.emit(StepFinished(step.id, "done", time.monotonic() - began, time.time()))


class _Shifted:
    """Passes events on as those of steps that are numbered ``by`` higher."""

    def __init__(self, monitor: Monitor, by: int) -> None:
        self._monitor = monitor
        self._by = by

    def emit(self, event: Event) -> None:
        if isinstance(event, BuildPlanned):
            event = BuildPlanned(tuple(step._replace(id=step.id + self._by) for step in event.steps))
        elif not isinstance(event, Warned):
            event = event._replace(id=event.id + self._by)
        self._monitor.emit(event)


class JobSteps:
    """The entries of a job's ``run``, one after the other.

    bell, go: descriptors of the FIFOs, opened for both directions and without waiting.
    """

    def __init__(self, steps: Sequence[StepInfo], monitor: Monitor, output: Output, bell: int, go: int) -> None:
        self._steps = steps
        self._monitor = monitor
        self._output = output
        self._bell = bell
        self._go = go
        self._rest = b""
        self.current = 0
        self._start()

    def rung(self) -> None:
        """The shell has written to the bell: it is about to begin an entry, and waits.

        Whatever else a script writes there moves nothing: only the next entry can begin.
        """
        try:
            data = self._rest + os.read(self._bell, _MOST_RUNG)
        except BlockingIOError:
            return
        *lines, rest = data.split(b"\n")
        self._rest = rest[:_LONGEST_LINE]
        for line in filter(None, lines):
            if line == b"%d" % (self.current + 1) and self.current + 1 < len(self._steps):
                self._finish("done", None)
                self.current += 1
                self._start()
            with contextlib.suppress(BlockingIOError):
                os.write(self._go, line[:_LONGEST_LINE] + b"\n")

    def end(self, outcome: StepOutcome, reason: str | None) -> None:
        """The job's command has ended, within the current step; what comes after it is shown as not run."""
        self._finish(outcome, reason)
        for step in self._steps[self.current + 1 :]:
            self._monitor.emit(StepFinished(step.id, "cancelled", 0.0, time.time(), NOT_RUN))

    def _start(self) -> None:
        step = self._steps[self.current]
        self._output.begin(step.id)
        self._began = time.monotonic()
        self._monitor.emit(StepStarted(step.id, time.time()))

    def _finish(self, outcome: StepOutcome, reason: str | None) -> None:
        step = self._steps[self.current]
        self._monitor.emit(StepFinished(step.id, outcome, time.monotonic() - self._began, time.time(), reason))
