"""What was not converted, or means something else now: each with its place in the file that was read."""

from __future__ import annotations

from typing import Final, NamedTuple

from core.suggestions import aside
from dockerfile_grammar.source import Source, Span

_MOST: Final = 500
"""Remarks that are kept; of the others, their number is."""


class Remark(NamedTuple):
    """One thing for somebody to do, or to know. message, hint: one line each."""

    message: str
    span: Span
    hint: str | None = None


class Remarks:
    """Those of one file. Of one thread."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._found: dict[tuple[str, Span], Remark] = {}
        self._more = 0

    def add(self, span: Span, message: str, *, hint: str | None = None) -> None:
        key = (message, span)
        if key in self._found:  # an alias is looked at wherever it stands
            return
        if len(self._found) >= _MOST:
            self._more += 1
            return
        self._found[key] = Remark(message, span, hint)

    def __len__(self) -> int:
        return len(self._found) + self._more

    def in_order(self) -> list[Remark]:
        """By line, then by column."""
        return sorted(self._found.values(), key=lambda remark: (remark.span.start, remark.message))

    def lines(self) -> list[str]:
        """A line for each, ``FILE:LINE:COLUMN: MESSAGE``, without an excerpt."""
        found = [
            f"{self.source.filename}:{remark.span}: {_one_line(remark.message)}{aside(remark.hint)}"
            for remark in self.in_order()
        ]
        if self._more:
            found.append(f"{self.source.filename}: {self._more} more are not shown")
        return found

    def render(self) -> str:
        """Each with its line and a caret below the place; no line end behind the last."""
        lines: list[str] = []
        places = [remark.span for remark in self.in_order()]
        for at, line in enumerate(self.lines()):
            lines.append(line)
            if at < len(places):
                lines += self.source.excerpt(places[at])
        return "\n".join(lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())
