"""The log of one job as whole, masked lines, and the last of them: what is shown again when it failed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Final

from ci.outcome import LOOKING, OF_SERVICE
from core.events import Event
from core.masking import Masker
from pipelines.logs.lines import LineMaker, LogLine

KEPT_LINES: Final = 50
_KEPT_CHARACTERS: Final = 4 << 10


class JobLog:
    """One job's log, whatever attempt it is in. For one thread.

    last: the last lines of output, as text.
    why: whose result it has, or why it runs; empty: nobody asked.
    """

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._maker = LineMaker(1, masker, time.time)
        self._begun: dict[int, str] = {}
        self._unfinished: dict[int, str] = {}
        self.last: deque[str] = deque(maxlen=KEPT_LINES)
        self.why = ""

    @property
    def step(self) -> str:
        """The name of the step that began last of those that go on; empty: none does."""
        return next(reversed(self._begun.values()), "")

    def speaker(self, line: LogLine) -> str:
        """The service whose output a line is; empty: the job's own."""
        name = self._begun.get(line.step, "")
        return name.removeprefix(OF_SERVICE) if name.startswith(OF_SERVICE) else ""

    def lines(self, event: Event) -> list[LogLine]:
        """The lines that an event completes."""
        found = self._maker.lines(event)
        self._note(found)
        return found

    def unfinished(self) -> list[str]:
        """Lines of output that have begun and not ended: a prompt, a progress bar."""
        for line in self._maker.partials():
            if line.kind == "output":
                self._unfinished[line.step] = line.text
        return [text for text in self._unfinished.values() if text]

    def again(self) -> list[LogLine]:
        """Begin a new attempt. Returns the lines of the one before that never got their end."""
        left = list(self._maker.close())
        self._note(left)
        self._maker = LineMaker(1, self._masker, time.time)
        self._begun.clear()
        self._unfinished.clear()
        return left

    def _note(self, lines: list[LogLine]) -> None:
        for line in lines:
            if line.kind == "output":
                self._unfinished.pop(line.step, None)
                self.last.append(line.text[:_KEPT_CHARACTERS])
            elif line.kind == "start":
                self._begun[line.step] = line.text
            elif line.kind == "finish" and self._begun.pop(line.step, "") == LOOKING:
                self.why = line.reason


def shown_lines(log: JobLog, event: Event) -> Iterator[LogLine]:
    """The lines of an event that a person is to see."""
    return (line for line in log.lines(event) if line.kind not in ("plan", "status"))
