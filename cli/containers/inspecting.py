"""``--format`` of ``inspect``: a Go template over the whole document.

docker's command line has the document as Go's structures and names them so: ``.ID`` where the JSON has ``Id``. So a
name that the document lacks is looked for without regard to case. A map that is there for its names, as Labels, has
nothing for the others; all else is a mistake in the template.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import click

from cli.containers.command import WrongTemplateError
from cli.containers.gostructs import as_structures
from cli.errors import describe
from cli.gotemplate import Template, TemplateRunError
from cli.gotemplate.errors import TemplateSyntaxError
from cli.gotemplate.running import NO_VALUE
from cli.guarding import say
from cli.listing import shown
from cli.table import print_json
from core.errors import ShiplapError

_OWN_NAMES: Final = frozenset({
    "Id", "Image", "Name", "State", "Config", "HostConfig", "Path", "Driver", "NetworkSettings", "Status", "Env", "Cmd",
    "Ports", "Memory", "NetworkMode", "IPAddress", "Type", "Source", "HostIp",
})  # fmt: skip
"""Members that structures have, and maps that are there for their names hardly."""


def inspected(template: str, document: Mapping[str, Any]) -> str:
    """What a template makes of a document. Raises TemplateError."""
    return Template(template, missing=_missing).run(as_structures(document))


def _missing(data: Mapping[str, Any], name: str, place: str) -> Any:
    if name == "Health" and "Status" in data:
        return None  # a pointer of docker's to nothing: {{if .State.Health}}
    alike = [member for member in data if member.lower() == name.lower()]
    if len(alike) == 1:
        return data[alike[0]]
    if data and not _OWN_NAMES.isdisjoint(data):
        raise TemplateRunError(f'template: :{place}: map has no entry for key "{name}"')
    return NO_VALUE


def template_of(form: str) -> Template | None:
    """The value of ``--format``, parsed; None for the whole documents. Raises WrongTemplateError."""
    if not form:
        return None
    try:
        return Template("{{json .}}" if form == "json" else form, missing=_missing)
    except TemplateSyntaxError as error:
        raise WrongTemplateError(f"template parsing error: {error.message}") from error


def print_inspected(names: Sequence[str], find: Callable[[str], dict[str, Any]], template: Template | None) -> int:
    """Print the documents of these names, as one list or by the template; then what went wrong. Returns the exit code.

    find: raises ShiplapErrors.
    """
    documents, errors = [], []
    for name in names:
        try:
            documents.append(find(name))
        except ShiplapError as error:
            errors.append(error)
    if template is None:
        print_json(documents)
    else:
        for document in documents:
            click.echo(_shown(template, document))
    for problem in errors:
        say(describe(problem))
    return 1 if errors else 0


def _shown(template: Template, document: Mapping[str, Any]) -> str:
    try:
        return shown(template.run(as_structures(document)))
    except TemplateRunError as error:
        raise TemplateRunError(f"template parsing error: {error.message}", hint=error.hint) from error
