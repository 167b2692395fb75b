"""Man pages, made from what the commands say of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import click

from cli.lazy import LazyGroup
from core.release import described

_SECTION = 1
_ESCAPES = str.maketrans({
    "\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", '"': "\\(dq",
})  # fmt: skip
"""Characters for which troff has others that look better in prose, and that no shell takes."""


class ManPage(NamedTuple):
    """One page. name: of its file, without the section: ``shiplap-image-ls``. text: for man."""

    name: str
    text: str

    @property
    def file(self) -> str:
        return f"{self.name}.{_SECTION}"


def man_pages(root: click.Command) -> Iterator[ManPage]:
    """A page for ``shiplap``, which is the root, and for each command that the help shows."""
    yield from _pages(root, _context(root, "shiplap", None))


def _pages(command: click.Command, context: click.Context) -> Iterator[ManPage]:
    inside = list(_shown(command, context)) if isinstance(command, click.Group) else []
    yield ManPage(_page_name(context), "\n".join(_lines(command, context, inside)) + "\n")
    for each in inside:
        yield from _pages(each.command, each)


def _shown(group: click.Group, context: click.Context) -> Iterator[click.Context]:
    hidden = {name for name, entry in group.lazy.items() if entry.hidden} if isinstance(group, LazyGroup) else set()
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None and not command.hidden and name not in hidden:
            yield _context(command, name, context)


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    return click.Context(command, parent, name, **command.context_settings)


def _lines(command: click.Command, context: click.Context, inside: list[click.Context]) -> Iterator[str]:
    title, summary = _page_name(context), command.get_short_help_str(1000)
    yield f'.TH "{title.upper()}" "{_SECTION}" "" "shiplap {described()}" "Shiplap"'
    yield from (".SH NAME", f"{_text(title)} \\- {_text(summary.removesuffix('.'))}")
    usage = " ".join(command.collect_usage_pieces(context))
    yield from (".SH SYNOPSIS", f"\\fB{_text(context.command_path)}\\fR {_text(usage)}")
    yield ".SH DESCRIPTION"
    yield from _description(command.help or "")
    parameters = [each for each in command.get_params(context) if isinstance(each, click.Option)]
    options = [record for each in parameters if (record := each.get_help_record(context))]
    if options:
        yield ".SH OPTIONS"
    for names, about in options:
        yield from (".TP", f"\\fB{_text(names)}\\fR", _text(about) or "\\&")
    if inside:
        yield ".SH COMMANDS"
    for each in inside:
        yield from (".TP", f"\\fB{_text(each.command_path)}\\fR", _text(each.command.get_short_help_str(1000)))
    if command.epilog:
        yield from (".PP", _text(command.epilog))
    near = [_page_name(each) for each in ([context.parent] if context.parent else []) + inside]
    if near:
        yield from (".SH SEE ALSO", ", ".join(f"\\fB{_text(name)}\\fR({_SECTION})" for name in near))


def _description(text: str) -> Iterator[str]:
    r"""The paragraphs of a help. One that begins with ``\b`` stands as it is."""
    first = True
    for paragraph in text.split("\f")[0].strip().split("\n\n"):
        lines = paragraph.splitlines()
        if lines and lines[0].strip() == "\b":
            yield from (".PP", ".RS 4", ".nf", *map(_text, lines[1:]), ".fi", ".RE")
        elif lines:
            yield from (*(() if first else (".PP",)), _text(" ".join(line.strip() for line in lines)))
        first = False


def _page_name(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def _text(text: str) -> str:
    """A line that man takes for nothing else: its characters as they are, whatever the encoding of the page."""
    escaped = text.translate(_ESCAPES)
    if not escaped.isascii():
        escaped = "".join(each if each.isascii() else f"\\[u{ord(each):04X}]" for each in escaped)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
