"""Coverage: the number that a job prints, found by the regular expression that its file gives."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Final

from core.events import Event, Monitor, StepOutput

if TYPE_CHECKING:
    import re2

MOST_BYTES: Final = 256 << 10
"""Of the end of each step's output, in which it is looked for."""

_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")
_COLOURS: Final = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def expression_fault(text: str) -> str | None:
    """What is wrong with a regular expression; None: nothing."""
    import re2  # a few milliseconds, for the one file in many that has such an expression

    try:
        _compiled(text)
    except re2.error as error:
        reason = error.args[0] if error.args else "it cannot be read"
        return f"it is no regular expression of RE2's: {reason.decode() if isinstance(reason, bytes) else reason}"
    return None


def coverage_in(output: bytes, expression: str) -> float | None:
    """The last number that the expression finds, in per cent: that of its first group, else of all that it matches.

    An expression of a stranger's is matched in linear time: that is why it is RE2's and not Python's.
    """
    text = _COLOURS.sub(b"", output).decode("utf-8", "replace")
    found = None
    for match in _compiled(expression).finditer(text):
        said = next((group for group in match.groups() if group), match.group())
        number = _NUMBER.search(said)
        if number is not None and 0 <= float(number.group()) <= 100:
            found = float(number.group())
    return found


def _compiled(expression: str) -> re2._Regexp:
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    return re2.compile(f"(?m){expression}", options)


class CoverageReader:
    """Passes a job's events on, and looks for its coverage in what it prints.

    Threads: any, one at a time.
    """

    def __init__(self, monitor: Monitor, expression: str) -> None:
        self._monitor = monitor
        self._expression = expression
        self._step = -1
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._found: float | None = None

    def emit(self, event: Event) -> None:
        self._monitor.emit(event)
        if isinstance(event, StepOutput):
            if event.id != self._step:
                self._look()
                self._step = event.id
            self._chunks.append(event.data)
            self._size += len(event.data)
            while self._size - len(self._chunks[0]) >= MOST_BYTES:
                self._size -= len(self._chunks.popleft())

    def coverage(self) -> float | None:
        """What the last step that printed one has printed."""
        self._look()
        return self._found

    def _look(self) -> None:
        found = coverage_in(b"".join(self._chunks)[-MOST_BYTES:], self._expression)
        self._found = self._found if found is None else found
        self._chunks.clear()
        self._size = 0
