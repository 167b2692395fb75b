"""A block of rows at the bottom of a terminal that is painted over in place.

It does not use rich: importing rich.live takes longer than a cached build, and the block's last state must be printed
without it anyway. The cursor is never hidden and the alternate screen never used, so a killed process leaves nothing to
restore.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple, TextIO, TypeAlias

from cli.progress.text import cell_width, cut

Style: TypeAlias = Literal["plain", "good", "bad", "dim"]
_SGR: Final[dict[Style, str]] = {"plain": "", "good": "\x1b[34m", "bad": "\x1b[31m", "dim": "\x1b[2m"}


def styled(text: str, style: Style) -> str:
    """A line as it looks in a style."""
    return f"{_SGR[style]}{text}\x1b[0m" if _SGR[style] else text


class Row(NamedTuple):
    """One line: ``text`` from the left (cut where it does not fit), ``right`` at the right margin."""

    text: str
    right: str = ""
    style: Style = "plain"

    def fit(self, width: int) -> str:
        """The row in at most ``width`` cells."""
        if not self.right:
            return cut(self.text, width)
        room = width - cell_width(self.right) - 1
        text = cut(self.text, room)
        return text + " " * (room - cell_width(text) + 1) + self.right


class Screen:
    """Paints rows on ``sink``, a terminal.

    size: gives (columns, lines) now.
    colours: whether to use any.
    """

    def __init__(self, sink: TextIO, *, size: Callable[[], tuple[int, int]], colours: bool) -> None:
        self._sink = sink
        self._size = size
        self._colours = colours
        self._widths: list[int] = []  # of the rows on the screen now

    @property
    def height(self) -> int:
        return self._size()[1]

    def paint(self, rows: Sequence[Row]) -> None:
        """Replace what the last call painted."""
        columns, lines = self._size()
        width = max(1, columns - 1)
        out = [self._to_start(columns, lines)]
        self._widths = []
        for row in rows:
            text = row.fit(width)
            self._widths.append(cell_width(text))
            out.append(f"{styled(text, row.style) if self._colours else text}\x1b[K\n")
        out.append("\x1b[J")
        self._sink.write("".join(out))
        self._sink.flush()

    def _to_start(self, columns: int, lines: int) -> str:
        """Move up over the painted rows. A row takes several lines where a narrower window has wrapped it."""
        height = sum(max(1, -(-width // max(1, columns))) for width in self._widths)
        return f"\r\x1b[{min(height, lines - 1)}A" if height else ""


def terminal_size(sink: TextIO) -> tuple[int, int]:
    """Columns and lines of the terminal behind ``sink``; 80 x 24 where it does not tell."""
    try:
        columns, lines = os.get_terminal_size(sink.fileno())
    except (OSError, ValueError):
        return 80, 24
    return columns or 80, lines or 24
