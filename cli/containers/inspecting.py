"""``--format`` of ``inspect``: a Go template over the whole document.

docker's command line has the document as Go's structures and names them so: ``.ID`` where the JSON has ``Id``. So a
name that the document lacks is looked for without regard to case. A map that is there for its names, as Labels, has
nothing for the others; all else is a mistake in the template.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cli.gotemplate import Template, TemplateRunError
from cli.gotemplate.running import NO_VALUE

_OWN_NAMES: Final = frozenset({
    "Id", "Image", "Name", "State", "Config", "HostConfig", "Path", "Driver", "NetworkSettings", "Status", "Env", "Cmd",
    "Ports", "Memory", "NetworkMode", "IPAddress", "Type", "Source", "HostIp",
})  # fmt: skip
"""Members that structures have, and maps that are there for their names hardly."""


def inspected(template: str, document: Mapping[str, Any]) -> str:
    """What a template makes of a document. ``json`` is the whole of it. Raises TemplateError."""
    text = "{{json .}}" if template == "json" else template
    return Template(text, missing=_missing).run(document)


def _missing(data: Mapping[str, Any], name: str, place: str) -> Any:
    alike = [member for member in data if member.lower() == name.lower()]
    if len(alike) == 1:
        return data[alike[0]]
    if data and not _OWN_NAMES.isdisjoint(data):
        raise TemplateRunError(f'template: :{place}: map has no entry for key "{name}"')
    return NO_VALUE
