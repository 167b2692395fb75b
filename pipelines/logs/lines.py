"""Events of a build as numbered lines of a log, and back.

The log is the one record of what happened. So a line is more than text: it carries what a display needs to show the
build as if it ran here. ``text`` alone is always readable. A line is stored and sent as one JSON object.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from core.events import (
    BuildPlanned,
    Event,
    StepFinished,
    StepInfo,
    StepOutcome,
    StepOutput,
    StepProgress,
    StepStarted,
    Warned,
)
from core.masking import Masker

Kind: TypeAlias = Literal["output", "plan", "start", "finish", "progress", "warning", "status"]
MAX_LINE_CHARACTERS: Final = 64 << 10
"""Longer lines become several."""
_PARTIAL_CHARACTERS: Final = 4 << 10


class LogLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a run's log.

    n: its number, from 1.
    text: without newline, secrets masked.
    at: seconds since the epoch.
    step: the step that it belongs to, -1 for none.
    stream: 1 or 2 for output.
    outcome, duration_s, reason: of kind finish.
    steps: of kind plan.
    line, rule: of kind warning.
    status: what the service did with the run.
    """

    n: int
    kind: Kind
    text: str
    at: float
    step: int = -1
    stream: int = 0
    outcome: str = ""
    duration_s: float = 0.0
    reason: str = ""
    steps: tuple[StepInfo, ...] = ()
    line: int = 0
    rule: str = ""
    current_bytes: int = 0
    total_bytes: int = 0


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(LogLine)
_OUTCOMES: Final[dict[str, StepOutcome]] = {
    "done": "done",
    "cached": "cached",
    "failed": "failed",
    "cancelled": "cancelled",
}


def encode_line(line: LogLine) -> bytes:
    """One JSON object, without a newline."""
    return _encoder.encode(line)


def encode_lines(lines: Sequence[LogLine]) -> list[bytes]:
    """The same as ``encode_line`` for each line, but faster."""
    return _encoder.encode_lines(lines).split(b"\n")[:-1]


def decode_line(data: bytes) -> LogLine:
    """The line of ``encode_line``'s JSON. Raises msgspec.DecodeError."""
    return _decoder.decode(data)


def text_size(text: str) -> int:
    """Bytes that a line's text takes in the log as plain text, with its newline."""
    return (len(text) if text.isascii() else len(text.encode())) + 1


def to_event(line: LogLine) -> Event | None:
    """The event that a display takes for this line; None for the lines of the service itself."""
    match line.kind:
        case "output":
            return StepOutput(line.step, 2 if line.stream == 2 else 1, line.text.encode() + b"\n", line.at)
        case "plan":
            return BuildPlanned(line.steps)
        case "start":
            return StepStarted(line.step, line.at)
        case "finish":
            outcome = _OUTCOMES.get(line.outcome, "failed")
            return StepFinished(line.step, outcome, line.duration_s, line.at, line.reason or None)
        case "progress":
            return StepProgress(line.step, line.text, line.current_bytes, line.total_bytes)
        case "warning":
            return Warned(line.text, line.line, line.rule)
        case "status":
            return None


class LineMaker:
    """Turns events into lines. For one thread.

    first: the number of the first line. clock: for events that carry no time.
    """

    def __init__(self, first: int, masker: Masker, clock: Callable[[], float]) -> None:
        self.next = first
        self._masker = masker
        self._clock = clock
        self._open: dict[tuple[int, int], _OpenLine] = {}
        self._steps: dict[int, StepInfo] = {}
        self._progress: dict[int, str] = {}
        self._moving: dict[int, StepProgress] = {}  # by step: progress that was not shown yet
        self._turn = 0

    def lines(self, event: Event) -> list[LogLine]:
        """The lines that ``event`` completes."""
        return self._output(event) if isinstance(event, StepOutput) else list(self._others(event))

    def partials(self) -> list[LogLine]:
        """The lines that have begun and not ended, and the progress of transfers, as far as either changed.

        All have the number 0. Followers see the last one best. So when several grow, they take turns at being last.
        """
        found = [self._progress_line(0, event) for event in self._moving.values()]
        self._moving.clear()
        for (step, stream), line in self._open.items():
            text = line.begun()
            if text is not None:
                found.append(LogLine(0, "output", text, self._clock(), step, stream))
        self._turn += 1
        first = self._turn % max(1, len(found))
        return found[first:] + found[:first]

    def _output(self, event: StepOutput) -> list[LogLine]:
        step, stream, data, at = event
        found = self._open.get((step, stream))
        if found is None:
            found = self._open[step, stream] = _OpenLine(self._masker)
        texts = found.feed(data)
        first = self.next
        self.next += len(texts)
        return [LogLine(number, "output", text, at, step, stream) for number, text in enumerate(texts, first)]

    def _others(self, event: Event) -> Iterator[LogLine]:
        match event:
            case BuildPlanned(steps):
                masked = tuple(step._replace(name=self._masker.mask(step.name)) for step in steps)
                self._steps.update((step.id, step) for step in masked)  # a build announces the steps of its cache later
                told = f"{len(masked)} step" + "s" * (len(masked) != 1)
                yield LogLine(self._number(), "plan", told, self._clock(), steps=masked)
            case StepStarted(step, at):
                yield LogLine(self._number(), "start", self._name(step), at, step=step)
            case StepFinished():
                yield from self._finish(event)
            case StepProgress(step, what):
                if self._progress.get(step) != what:  # one line for each transfer, not for each piece of it
                    self._progress[step] = what
                    yield self._progress_line(self._number(), event)
                else:
                    self._moving[step] = event
            case Warned(message, line, rule):
                yield LogLine(
                    self._number(), "warning", self._masker.mask(message), self._clock(), line=line, rule=rule
                )

    def status(self, text: str) -> LogLine:
        """A line of the service itself."""
        return LogLine(self._number(), "status", self._masker.mask(text).replace("\n", " "), self._clock())

    def close(self) -> Iterator[LogLine]:
        """The lines that never got their newline."""
        for step, stream in list(self._open):
            yield from self._close(step, stream, self._clock())

    def _finish(self, event: StepFinished) -> Iterator[LogLine]:
        self._moving.pop(event.id, None)
        for stream in (1, 2):
            yield from self._close(event.id, stream, event.at)
        reason = self._masker.mask(event.reason or "")
        text = f"{self._name(event.id)}: {event.outcome}" + (f" ({reason})" if reason else "")
        yield LogLine(
            self._number(),
            "finish",
            text,
            event.at,
            step=event.id,
            outcome=event.outcome,
            duration_s=event.duration_s,
            reason=reason,
        )

    def _progress_line(self, number: int, event: StepProgress) -> LogLine:
        return LogLine(
            number, "progress", self._masker.mask(event.what), self._clock(), step=event.id,
            current_bytes=event.current_bytes, total_bytes=event.total_bytes,
        )  # fmt: skip

    def _close(self, step: int, stream: int, at: float) -> Iterator[LogLine]:
        found = self._open.pop((step, stream), None)
        if found is not None and (rest := found.close()):
            yield LogLine(self._number(), "output", rest, at, step=step, stream=stream)

    def _name(self, step: int) -> str:
        return self._steps[step].name if step in self._steps else f"step {step}"

    def _number(self) -> int:
        number = self.next
        self.next += 1
        return number


class _OpenLine:
    """The bytes of one stream up to the next newline: decoded as they come, masked as whole lines."""

    def __init__(self, masker: Masker) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._masker = masker
        self._rest = ""
        self._shown = ""

    def feed(self, data: bytes) -> list[str]:
        """The lines that end in ``data``. They are masked all at once, for no form of a secret has a newline in it."""
        text = self._rest + self._decoder.decode(data)
        ended, newline, self._rest = text.rpartition("\n")
        lines = self._masker.mask(ended).split("\n") if newline else []
        if "\r" in ended:
            lines = [line.removesuffix("\r") for line in lines]
        if len(ended) > MAX_LINE_CHARACTERS and max(map(len, lines)) > MAX_LINE_CHARACTERS:
            lines = [piece for line in lines for piece in _pieces(line)]
        while len(self._rest) > MAX_LINE_CHARACTERS + self._masker.longest:
            end = self._masker.cut(self._rest)
            lines += _pieces(self._masker.mask(self._rest[:end]))
            self._rest = self._rest[end:]
        return lines

    def begun(self) -> str | None:
        """What can be shown of the line that has not ended; None if nothing changed since the last call."""
        text = self._rest[: self._masker.safe(self._rest)]
        text = self._masker.mask(text).rstrip("\r").rpartition("\r")[2][-_PARTIAL_CHARACTERS:]
        if text == self._shown:
            return None
        self._shown = text
        return text

    def close(self) -> str:
        text = self._rest + self._decoder.decode(b"", True)
        self._rest = ""
        return self._masker.mask(text)


def _pieces(text: str) -> list[str]:
    return [text[start : start + MAX_LINE_CHARACTERS] for start in range(0, max(1, len(text)), MAX_LINE_CHARACTERS)]
