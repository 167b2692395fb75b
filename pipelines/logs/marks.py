"""What stands out in a log: errors, warnings, parts that fold, and the step of each line. Pure.

Folds begin as the services do it from which people come: ``::group::`` and ``##[group]`` until ``::endgroup::``, and
``--- title`` (closed), ``+++ title`` (open), ``~~~ title`` (closed, of little interest) until the next one.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from pipelines.logs.lines import decode_line
from pipelines.logs.tail import plain

MOST: Final = 10_000
"""Of errors, of warnings and of folds; what comes after them is counted only."""

_LOOKED_AT: Final = 1000  # characters of a line
_WORTH_IT: Final = re.compile(
    rb"error|err!|fail|fatal|panic|exception|critical|severe|traceback|warn|E   |group"
    rb"|\"text\":\"(?:\\u001b\[[0-9;]*m)*(?:---|\+\+\+|~~~) "
    rb"|\"kind\":\"(?:start|finish|warning)\"",
    re.IGNORECASE,
)
"""Lines without any of this are not decoded."""

_ERROR: Final = re.compile(
    r"^\s*(?:::error\b|##\[error\]|E {3,}\S|FAILED\b|--- FAIL:|Traceback \(most recent call last\)|panic:)"
    r"|^(?i:(?:npm |yarn |pnpm )?(?:(?:error|fatal)\b|err!))"
    r"|(?i:\b(?:error|fatal)(?:\[\w+\])?: )"
    r"|(?:^|[\s\[|])(?:ERROR|FATAL|CRITICAL|SEVERE)(?:[\s\]|:]|$)"
    r"|^[A-Za-z_][\w.]*(?:Error|Exception): "
)
_WARNING: Final = re.compile(
    r"^\s*(?:::warning\b|##\[warning\])"
    r"|^(?i:(?:npm |yarn |pnpm )?warn(?:ing)?\b)"
    r"|(?i:\bwarning(?:\[\w+\])?: )"
    r"|(?:^|[\s\[|])WARN(?:ING)?(?:[\s\]|:]|$)"
)
_FOLD: Final = re.compile(r"^(?:(?P<group>::group::|##\[group\])|(?P<mark>---|\+\+\+|~~~) (?!FAIL:|PASS:|SKIP:)(?=\S))")
_END: Final = re.compile(r"^(?:::endgroup::|##\[endgroup\])")

FoldKind: TypeAlias = Literal["closed", "open", "soft"]
_KINDS: Final[dict[str, FoldKind]] = {"---": "closed", "+++": "open", "~~~": "soft"}


class Fold(NamedTuple):
    """Lines of one step that fold. first: its title. last: 0 while it goes on. has_error: an error is in it."""

    first: int
    last: int
    kind: FoldKind
    has_error: bool


class Found(msgspec.Struct, frozen=True):
    """What stands out after a line.

    lines: the number of the last line that was looked at.
    spans: the step of each line: pairs of a step (-1: none) and how many lines in a row.
    errors, warnings: numbers of lines. error_count, warning_count: how many there are in all of the log.
    folds: those that go on after the line, or begin after it.
    starts: when steps began, in seconds since the epoch.
    """

    lines: int
    spans: list[tuple[int, int]]
    errors: list[int]
    warnings: list[int]
    error_count: int
    warning_count: int
    folds: list[Fold]
    starts: dict[int, float]


class _StepOnly(msgspec.Struct):
    """The member of a line that says to which step it belongs; the rest need not be decoded."""

    step: int = -1


_steps: Final = msgspec.json.Decoder(_StepOnly)


class Marker:
    """Looks at a log's lines, in their order and each once. For one thread."""

    def __init__(self) -> None:
        self.lines = 0
        self._steps = array("q")  # of each span; there may be as many as lines
        self._counts = array("q")
        self._errors: list[int] = []
        self._warnings: list[int] = []
        self._error_count = self._warning_count = 0
        self._folds: list[Fold] = []
        self._going: dict[int, int] = {}  # by step: the index of its fold
        self._before: dict[int, tuple[int, str]] = {}  # by step: its last line that began a fold, and by what
        self._starts: dict[int, float] = {}

    def look(self, number: int, data: bytes) -> None:
        """The next line, as it is stored."""
        self.lines = number
        step = _steps.decode(data).step
        if self._steps and self._steps[-1] == step:
            self._counts[-1] += 1
        else:
            self._steps.append(step)
            self._counts.append(1)
        if _WORTH_IT.search(data):
            self._look_closely(number, step, data)

    def found(self, after: int = 0) -> Found:
        """What stands out after line ``after``."""
        return Found(
            self.lines,
            list(self._after(after)),
            [number for number in self._errors if number > after],
            [number for number in self._warnings if number > after],
            self._error_count,
            self._warning_count,
            [fold for fold in self._folds if not fold.last or fold.last > after],
            dict(self._starts),
        )

    def _after(self, line: int) -> Iterator[tuple[int, int]]:
        """The steps of the lines after ``line``."""
        end = 0
        for step, count in zip(self._steps, self._counts, strict=True):
            end += count
            if end > line:
                yield step, min(count, end - line)

    def _look_closely(self, number: int, step: int, data: bytes) -> None:
        line = decode_line(data)
        if line.kind == "start":
            self._starts[step] = line.at
        elif line.kind == "finish":
            if line.outcome == "failed":
                self._is_error(number, step)
            self._end(step, number - 1)
        elif line.kind == "warning":
            self._is_warning(number)
        elif line.kind == "output":
            self._look_at_text(number, step, plain(line.text[:_LOOKED_AT]))

    def _look_at_text(self, number: int, step: int, text: str) -> None:
        if _END.match(text):
            self._end(step, number)
        elif (begun := _FOLD.match(text)) is not None:
            self._begin(number, step, begun["mark"] or "---", is_group=bool(begun["group"]))
        elif _ERROR.search(text):
            self._is_error(number, step)
        elif _WARNING.search(text):
            self._is_warning(number)

    def _begin(self, number: int, step: int, mark: str, *, is_group: bool) -> None:
        before, self._before[step] = self._before.get(step), (number, "" if is_group else mark)
        if before == (number - 1, "---") and mark == "+++" and not is_group:  # the two names of a diff
            index = self._going.pop(step, None)
            if index is not None and index == len(self._folds) - 1 and self._folds[index].first == number - 1:
                self._folds.pop()
            return
        self._end(step, number - 1)
        if len(self._folds) < MOST:
            self._going[step] = len(self._folds)
            self._folds.append(Fold(number, 0, _KINDS[mark], False))

    def _end(self, step: int, last: int) -> None:
        index = self._going.pop(step, None)
        if index is not None:
            self._folds[index] = self._folds[index]._replace(last=last)

    def _is_error(self, number: int, step: int) -> None:
        self._error_count += 1
        if len(self._errors) < MOST:
            self._errors.append(number)
        index = self._going.get(step)
        if index is not None:
            self._folds[index] = self._folds[index]._replace(has_error=True)

    def _is_warning(self, number: int) -> None:
        self._warning_count += 1
        if len(self._warnings) < MOST:
            self._warnings.append(number)
