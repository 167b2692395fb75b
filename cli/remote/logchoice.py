"""Which part of a log is wanted, and how its lines are printed."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from cli.progress.text import harmless
from cli.remote.errors import RemoteError
from cli.remote.http import Client, not_ours
from cli.table import rfc3339
from core.suggestions import suggestion
from pipelines.logs.lines import LogLine

_PAGE: Final = 5000
_FOUND: Final = 1000
_AT_ONCE: Final = 1000  # lines that are written together


class _Page(msgspec.Struct, frozen=True):
    """A page of a log, as the API has it. next: where the next one begins; None: there is none."""

    lines: list[LogLine]
    next: int | None


_page: Final = msgspec.json.Decoder(_Page)


class NoStepError(RemoteError):
    """A log has no step of this name."""


class LogChoice(NamedTuple):
    """What somebody wants to see of a log.

    first: the number of the first line. tail: only so many lines, the last ones; None: all.
    search: what a line has to contain, in any case of letters.
    step: a part of a step's name. failed: only steps that failed, and all of a log without any.
    """

    first: int = 1
    tail: int | None = None
    search: str = ""
    step: str = ""
    failed: bool = False

    def stored(self, client: Client, path: str, count: int) -> Iterable[LogLine]:
        """The lines as far as they are stored. path: of the job, or of its run, in the API. count: how many it has.

        Raises NoStepError.
        """
        if self.step or self.failed:
            lines = self._of_steps(client, path)
        else:
            first = self.first if self.tail is None or self.search else max(self.first, count - self.tail + 1)
            lines = self._from(client, path, first)
        return lines if self.tail is None else deque(lines, self.tail)

    def after(self, count: int) -> int:
        """The line after which a follower begins. count: how many lines there are already."""
        return max(self.first - 1, 0 if self.tail is None else count - self.tail)

    def is_wanted(self, line: LogLine) -> bool:
        return line.n >= self.first and (not self.search or self.search.casefold() in line.text.casefold())

    def _from(self, client: Client, path: str, first: int) -> Iterator[LogLine]:
        """From a line on. Where something is looked for, the server does that."""
        following: int | None = first
        place, asked = f"{path}/log", {"limit": str(_PAGE)}
        if self.search:
            place, asked = f"{place}/search", {"limit": str(_FOUND), "text": self.search}
        while following is not None:
            try:
                page = _page.decode(client.get(place, query={**asked, "first": str(following)}))
            except msgspec.MsgspecError as error:
                raise not_ours() from error
            yield from page.lines
            following = page.next

    def _of_steps(self, client: Client, path: str) -> Iterator[LogLine]:
        steps: list[dict[str, Any]] = client.call("GET", f"{path}/steps")["steps"]
        if self.step:
            steps = _named(steps, self.step)
        if self.failed:
            failed = [step for step in steps if step["state"] == "failed"]
            if not failed and not self.step:  # what failed is no step's fault: the whole tells
                yield from filter(self.is_wanted, self._from(client, path, self.first))
                return
            steps = failed
        for step in steps:
            if step["first_line"]:
                yield from filter(self.is_wanted, self._of_step(client, path, step))

    def _of_step(self, client: Client, path: str, step: dict[str, Any]) -> Iterator[LogLine]:
        for line in self._from(client, path, max(self.first, step["first_line"])):
            if step["last_line"] and line.n > step["last_line"]:
                return
            if line.step == step["index"]:
                yield line


def _named(steps: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    found = [step for step in steps if text.casefold() in step["name"].casefold()]
    if not found:
        names = [step["name"] for step in steps]
        hint = suggestion(text, names) or (f"its steps are: {', '.join(names)[:500]}" if names else "it has no steps")
        raise NoStepError(f"there is no step {text!r}", hint=harmless(hint, colours=False))
    return found


class LinePrinter:
    """Prints the lines of logs that are wanted. numbers: with their numbers; timestamps: with the moments they came."""

    def __init__(self, choice: LogChoice, *, numbers: bool, timestamps: bool) -> None:
        self._choice = choice
        self._numbers = numbers
        self._timestamps = timestamps

    def print_all(self, lines: Iterable[LogLine], job: str = "") -> None:
        """Print lines that are there; of those that are to come, nothing is seen until they have come."""
        left = iter(lines)
        while batch := list(islice(left, _AT_ONCE)):
            self.print(batch, job)

    def print(self, lines: Iterable[LogLine], job: str = "") -> None:
        """Print those lines that are wanted. job: its name, to stand in front; empty: nothing does."""
        front = f"{harmless(job, colours=False)} | " if job else ""
        sys.stdout.write("".join(f"{front}{self._text(line)}\n" for line in lines if self._choice.is_wanted(line)))
        sys.stdout.flush()

    def _text(self, line: LogLine) -> str:
        text = harmless(line.text)
        if self._timestamps:
            text = f"{rfc3339(line.at)} {text}"
        return f"{line.n:6} {text}" if self._numbers else text
