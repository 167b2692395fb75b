"""Where things stand in a Dockerfile: positions, spans, and the text they point into."""

import re

from msgspec import Struct


class Position(Struct, frozen=True, order=True):
    """Line and column, both from 1; a column counts characters (code points), a tab being one."""

    line: int
    column: int


class Span(Struct, frozen=True):
    """From ``start`` up to, not including, ``end``. Of a construct over several lines, both ends are as written."""

    start: Position
    end: Position

    def __str__(self) -> str:
        return f"{self.start.line}:{self.start.column}"


class Source(Struct, frozen=True):
    """A Dockerfile's (or an ONBUILD trigger's) name and its lines, without line ends and without a byte order mark."""

    filename: str
    lines: tuple[str, ...]

    def line(self, number: int) -> str | None:
        """The text of a line (numbered from 1), or None when there is no such line."""
        return self.lines[number - 1] if 1 <= number <= len(self.lines) else None

    def excerpt(self, span: Span) -> list[str]:
        """The first line of the span, and under it a line with a caret that underlines the span on that line.

        A long line is cut to the part around the span. What a terminal might obey is shown as a replacement character.
        """
        text = self.line(span.start.line)
        if text is None:
            return []
        column = min(span.start.column, len(text) + 1)
        end = span.end.column if span.end.line == span.start.line else len(text.rstrip()) + 1
        width = max(1, min(end, len(text) + 1) - column)
        text, column, width = _around(text, column, width)
        text = _UNPRINTABLE.sub("\ufffd", text)
        # Tabs stay tabs, so that the caret stands below what it means however wide the reader's tabs are.
        indent = "".join("\t" if character == "\t" else " " for character in text[: column - 1])
        gutter = f"{span.start.line:>5} | "
        return [gutter + text, " " * (len(gutter) - 2) + "| " + indent + "^" * width]


_UNPRINTABLE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LONGEST_EXCERPT = 160
_BEFORE_CARET = 40


def _around(text: str, column: int, width: int) -> tuple[str, int, int]:
    """Cut a long line down to what stands around the span, with an ellipsis at each end that was cut."""
    if len(text) <= _LONGEST_EXCERPT:
        return text, column, width
    start = max(0, column - 1 - _BEFORE_CARET)
    cut = text[start : start + _LONGEST_EXCERPT]
    after = "…" if start + len(cut) < len(text) else ""
    before = "…" if start else ""
    column += len(before) - start
    return before + cut + after, column, min(width, len(before) + len(cut) + 1 - column)
