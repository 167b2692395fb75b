"""A terminal, as far as our display uses one: what a person would see after all these bytes."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


class Terminal:
    """Lines of unlimited scroll-back above a window of ``lines`` x ``columns``; wraps long lines as terminals do."""

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        self.columns, self.lines = columns, lines
        self._rows: list[list[str]] = [[]]
        self._row = self._column = 0

    def write(self, text: str) -> None:
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            assert match, f"a sequence that no display of ours should send: {text[position : position + 20]!r}"
            position = match.end()
            argument, final, back, newline, printed = match.groups()
            if final:
                self._control(argument, final)
            elif back:
                self._column = 0
            elif newline:
                self._down()
                self._column = 0
            else:
                for character in printed:
                    self._put(character)

    def _control(self, argument: str, final: str) -> None:
        if final == "A":
            top = max(0, len(self._rows) - self.lines)
            self._row = max(top, self._row - int(argument or 1))
        elif final == "K":
            del self._rows[self._row][self._column :]
        elif final == "J":
            del self._rows[self._row][self._column :]
            del self._rows[self._row + 1 :]
        else:
            assert final == "m", f"unexpected control sequence ESC [ {argument} {final}"

    def _put(self, character: str) -> None:
        assert character.isprintable() or character == " ", f"unprintable {character!r}"
        if self._column == self.columns:
            self._down()
            self._column = 0
        row = self._rows[self._row]
        row += " " * (self._column - len(row))
        row[self._column : self._column + 1] = [character]
        self._column += 1

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self._rows):
            self._rows.append([])

    @property
    def text(self) -> str:
        """All lines, without trailing blanks."""
        return "\n".join("".join(row).rstrip() for row in self._rows).rstrip("\n")
