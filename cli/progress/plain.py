"""Progress as lines, for pipes and log files, in the form that users of buildx know.

    #5 [build 2/3] RUN make
    #5 0.123 a line of output, after its time since the step's start
    #5 DONE 1.2s

Steps that run at the same time take turns. The lines of other steps wait until the current step ends, or until it has
held them up for some seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO

from cli.progress.text import LineSplitter, harmless, one_line, size_text
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

_PATIENCE_S = 5.0  # how long a step's lines may wait for the current step
_OVERWRITE_S = 1.0  # a progress bar gets a line at most this often
_TRANSFER_S = 5.0


class _Step:
    """The state of a step, and its lines that wait for their turn, many in one text where that is quicker."""

    def __init__(self, step_id: int) -> None:
        self.number = step_id + 1
        self.name = f"step {self.number}"
        self.started_at = 0.0
        self.finished = False
        self.waiting: list[str] = []
        self.waiting_since = 0.0
        self.last_line_at = 0.0
        self.transfers: dict[str, float] = {}  # what is moved -> when it was last shown; infinite when complete
        self.streams = {1: LineSplitter(), 2: LineSplitter()}


class PlainDisplay:
    """Writes to ``sink`` (text; flushed at each refresh). clock: the epoch time that events are stamped with."""

    interval_s = 0.05

    def __init__(self, sink: TextIO, *, clock: Callable[[], float] = time.time) -> None:
        self._sink = sink
        self._clock = clock
        self._steps: dict[int, _Step] = {}
        self._current: _Step | None = None
        self._out: list[str] = []
        self._anything_written = False
        self._warnings: list[Warned] = []

    def handle(self, event: Event) -> None:
        if isinstance(event, BuildPlanned):
            for info in event.steps:
                self._step(info.id).name = _name(info)
            return
        if isinstance(event, Warned):
            self._warnings.append(event)
            return
        step = self._step(event.id)
        if isinstance(event, StepStarted):
            step.started_at = event.at
            step.finished = False  # a worker that was lost may have done it before
            self._schedule(event.at, starting=step)
        elif isinstance(event, StepProgress):
            now = self._clock()
            self._add(step, self._transfer_lines(step, event, now), now)
        else:
            self._add(step, self._lines(step, event), event.at)

    def refresh(self) -> None:
        self._schedule(self._clock())
        if self._out:
            text = "\n".join(self._out)
            self._out.clear()
            self._sink.write(f"{text}\n")
            self._sink.flush()

    def close(self) -> None:
        for step in self._steps.values():
            step.finished = True  # no more lines will come, so all may be shown
        self._schedule(self._clock())
        self._out += warning_lines(self._warnings)
        self.refresh()

    def _step(self, step_id: int) -> _Step:
        step = self._steps.get(step_id)
        if step is None:
            step = self._steps[step_id] = _Step(step_id)
        return step

    def _add(self, step: _Step, lines: Iterable[str], now: float) -> None:
        if not step.waiting:
            step.waiting_since = now
        step.waiting += lines
        self._schedule(now)

    def _lines(self, step: _Step, event: StepOutput | StepFinished) -> Iterator[str]:
        if isinstance(event, StepOutput):
            yield from self._output_lines(step, event.stream, event.data, event.at)
        else:
            for stream in step.streams:
                yield from self._output_lines(step, stream, b"", event.at, final=True)
            yield f"#{step.number} {finish_text(event)}"
            step.finished = True

    def _output_lines(self, step: _Step, stream: int, data: bytes, at: float, *, final: bool = False) -> Iterator[str]:
        prefix = f"#{step.number} {max(0.0, at - step.started_at):.3f} "
        lines = step.streams[stream]
        whole = None if final else lines.feed_plain(data)
        if whole is not None:
            if whole:
                step.last_line_at = at
                yield _prefixed(whole.removesuffix("\n"), prefix)
            return
        for line in lines.feed(data, final=final):
            if line.overwritten and at - step.last_line_at < _OVERWRITE_S:
                continue
            step.last_line_at = at
            yield f"{prefix}{harmless(line.text)}".rstrip()

    def _transfer_lines(self, step: _Step, event: StepProgress, now: float) -> Iterator[str]:
        complete = 0 < event.total_bytes <= event.current_bytes
        if now - step.transfers.setdefault(event.what, now) >= _TRANSFER_S or complete:
            if step.transfers[event.what] != float("inf"):
                yield f"#{step.number} {transfer_text(event)}"
            step.transfers[event.what] = float("inf") if complete else now

    def _schedule(self, now: float, starting: _Step | None = None) -> None:
        """Move waiting lines to the output: the current step's at once, another's when its turn comes."""
        while True:
            if self._current is None:
                self._current, starting = self._next() or starting, None
                if self._current is None:
                    return
                self._show_header(self._current)
            self._flush(self._current)
            if self._current.finished:
                self._current = None
                continue
            other = self._next()
            if other is None or now - other.waiting_since < _PATIENCE_S:
                return
            self._out.append(f"#{self._current.number} ...")
            self._current = other
            self._show_header(other)

    def _next(self) -> _Step | None:
        """The step other than the current one whose lines have waited longest."""
        waiting = [step for step in self._steps.values() if step.waiting and step is not self._current]
        return min(waiting, key=lambda step: (step.waiting_since, step.number), default=None)

    def _show_header(self, step: _Step) -> None:
        if self._anything_written:
            self._out.append("")
        self._anything_written = True
        self._out.append(f"#{step.number} {step.name}")

    def _flush(self, step: _Step) -> None:
        self._out += step.waiting
        step.waiting.clear()


def _prefixed(text: str, prefix: str) -> str:
    """The lines of a text, each after ``prefix``, without blanks at their ends."""
    found = prefix + text.replace("\n", f"\n{prefix}")
    if " \n" in found or "\t\n" in found or found[-1] in " \t":
        return "\n".join(map(str.rstrip, found.split("\n")))
    return found


def _name(info: StepInfo) -> str:
    return one_line(info.name)


def finish_text(event: StepFinished) -> str:
    """How a step ended: ``DONE 1.2s``, ``CACHED``, ``ERROR: …``."""
    reason = one_line(event.reason) if event.reason else ""
    if event.outcome == "cached":
        return "CACHED"
    if event.outcome == "done":
        return f"DONE {event.duration_s:.1f}s" + (f" ({reason})" if reason else "")
    if event.outcome == "cancelled":
        return "CANCELED" + (f": {reason}" if reason else "")
    return "ERROR" + (f": {reason}" if reason else "")


def transfer_text(event: StepProgress) -> str:
    """``transferring context: 12MB / 40MB``."""
    total = f" / {size_text(event.total_bytes)}" if event.total_bytes else ""
    return f"{one_line(event.what)}: {size_text(event.current_bytes)}{total}"


def warning_lines(warnings: list[Warned]) -> list[str]:
    """The warnings of a build as a list, each with its Dockerfile line and rule where it has them."""
    if not warnings:
        return []
    count = f"{len(warnings)} warning" + ("s" if len(warnings) > 1 else "")
    lines = ["", f"{count} found:"]
    for warning in warnings:
        rule = f"{warning.rule}: " if warning.rule else ""
        place = f" (line {warning.line})" if warning.line else ""
        lines.append(f" - {rule}{one_line(warning.message)}{place}")
    return lines
