"""``--format`` of listings, as docker's: ``table``, ``table TEMPLATE``, ``json``, or a Go template for each line.

A ``Listing`` says what lines there can be of one kind of thing. What stands in lines comes from containers, and from
whoever pushes. So nothing of it steers a terminal.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import click

from cli.gotemplate import FUNCTIONS, HEADER_FUNCTIONS, Template, TemplateError, TemplateRunError
from cli.options import FORMAT
from cli.progress.text import cell_text, cell_width, harmless, unturned
from cli.table import PLAIN, Looks, looks_of, table

Row: TypeAlias = dict[str, Any]
"""What a template sees of one thing: texts by name, and functions that it may call, as docker's ``Label``."""

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])

_GAP: Final = 3
_LEAST: Final = 10  # cells of a column with its gap, as docker's


class Listing(NamedTuple):
    """One kind of thing in lists.

    headers: the fields that a template may name, and what stands above them in a table.
    table: the columns without ``--format``.
    short: what ``--quiet`` prints.
    type_name: docker's word for the kind, in errors.
    least: cells of a column with its gap; 0 for tables that docker has not, whose lines end without blanks.
    """

    headers: Mapping[str, str]
    table: Sequence[str]
    short: str
    type_name: str
    least: int = _LEAST

    def print(self, rows: Iterable[Row], form: str = "", *, quiet: bool = False, whole: bool = False) -> None:
        """Print ``lines`` on standard output, as it may look there. whole: nothing is cut off. Raises TemplateError."""
        looks = looks_of(sys.stdout)
        if sys.stdout.isatty():
            rows = map(_harmless_row, rows)
        text = self.lines(rows, form, quiet=quiet, looks=looks._replace(columns=None) if whole else looks)
        click.echo(text, nl=False, color=looks.colours or None)

    def lines(self, rows: Iterable[Row], form: str = "", *, quiet: bool = False, looks: Looks = PLAIN) -> str:
        """The text for these rows; it ends in a line end unless it is empty. Raises TemplateError.

        form: the value of ``--format``; empty: the table. looks: of a table.
        """
        if quiet:
            return "".join(f"{row[self.short]}\n" for row in rows)
        template, is_table = self._template(form)
        text = ""
        if is_table:
            self._parsed(template)
            text = Template(template, HEADER_FUNCTIONS, self._missing).run(self._header()) + "\n"
            rows = map(_harmless_row, rows)
        body = self._parsed(template)
        try:
            text += "".join(body.run(row) + "\n" for row in rows)
        except TemplateRunError as error:
            raise TemplateRunError(f"failed to execute template: {error.message}", hint=error.hint) from error
        if not is_table:
            return shown(text)
        if looks == PLAIN and self.least:
            return aligned(text, self.least)
        return _looking(text, self.least, looks)

    def check(self, form: str) -> None:
        """Raise TemplateError for a field that there is not, also where there are no rows."""
        try:
            self._parsed(self._template(form)[0]).run(self._header())
        except TemplateRunError as error:
            raise TemplateRunError(f"failed to execute template: {error.message}", hint=error.hint) from error

    def line(self, row: Row, form: str) -> str:
        """One row, without a header. Raises TemplateError."""
        return self.lines([row], self._template(form)[0])

    def _parsed(self, template: str) -> Template:
        try:
            return Template(template, FUNCTIONS, self._missing)
        except TemplateError as error:
            raise type(error)(f"failed to parse template: {error.message}", hint=error.hint) from error

    def _template(self, form: str) -> tuple[str, bool]:
        if form in ("", "table"):
            return "\t".join(f"{{{{.{name}}}}}" for name in self.table), True
        if form == "json":
            return "{{json .}}", False
        is_table = form.startswith(("table ", "table{", "table\\t"))
        text = form.removeprefix("table") if is_table else form
        return text.strip(" ").replace("\\t", "\t").replace("\\n", "\n"), is_table

    def _header(self) -> Row:
        return {**self.headers, "Label": label_header}

    def _missing(self, row: Mapping[str, Any], name: str, place: str) -> Any:
        del row
        raise TemplateRunError(
            f"template: :{place}: can't evaluate field {name} in type {self.type_name}",
            hint=f"there are {', '.join(sorted(self.headers))}",
        )


def _harmless_row(row: Row) -> Row:
    return {name: _harmless_value(value) for name, value in row.items()}


def _harmless_value(value: Any) -> Any:
    if isinstance(value, str):
        return cell_text(value)
    if not callable(value):
        return value

    @functools.wraps(value)
    def method(*arguments: Any) -> Any:
        return _harmless_value(value(*arguments))

    return method


def _looking(text: str, least: int, looks: Looks) -> str:
    """A table whose cells end in tabs, for a terminal; as ``aligned`` has it, where lines differ in their cells."""
    header, *rows = [line.split("\t") for line in text.removesuffix("\n").split("\n")]
    if any(len(row) != len(header) for row in rows):
        return aligned(text, least)
    return table(header, rows, gap=_GAP, least=max(0, least - _GAP), looks=looks) + "\n"


def label_header(name: str) -> str:
    """What docker writes above ``{{.Label "com.example.two-words"}}``: ``two words``."""
    return name.rpartition(".")[2].replace("-", " ").replace("_", " ")


def label_of(labels: Mapping[str, str]) -> Callable[[str], str]:
    """The method ``Label`` of a row."""
    return lambda name: labels.get(name, "")


def aligned(text: str, least: int = _LEAST) -> str:
    """Columns of cells that end in tabs, as Go's text/tabwriter lines them up: a column ends where a line lacks it."""
    lines = [line.split("\t") for line in text.split("\n")]
    for column in range(max(map(len, lines)) - 1):
        start = 0
        while start < len(lines):
            end = start
            while end < len(lines) and column < len(lines[end]) - 1:
                end += 1
            _align(lines[start:end], column, least)
            start = max(end, start + 1)
    return "\n".join("".join(line) for line in lines)


def _align(lines: Sequence[list[str]], column: int, least: int) -> None:
    width = max((cell_width(line[column]) + _GAP for line in lines), default=0)
    for line in lines:
        line[column] += " " * (max(width, least) - cell_width(line[column]))


def shown(text: str) -> str:
    """The text as it may reach standard output: when that is a terminal, without characters that steer it."""
    return unturned(harmless(text)) if sys.stdout.isatty() else text


def ellipsis(text: str, length: int) -> str:
    """The text cut to so many characters, with docker's ``…`` as the last one."""
    return text if len(text) <= length else text[: length - 1] + "…"


def format_option(command: _Decorated) -> _Decorated:
    """``--format`` for listings."""
    return FORMAT(command)
