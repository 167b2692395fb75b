"""Names of images from a template: ``{registry}/{project}:{branch}-{commit}``.

Members: registry, project, number (of the run), branch, tag (of git), commit (12 digits). A template may have several
names, separated by spaces or commas; one whose member is empty for a run (no branch, no registry) is left out.
``{defaults}`` alone is the number and what ``pipelines.projects.defaultnames`` adds to it.
"""

from __future__ import annotations

import re
import string
from typing import Final

import msgspec

from core.errors import InvalidReferenceError
from core.references import Reference
from pipelines.errors import InvalidRequestError

_MEMBERS: Final = ("registry", "project", "number", "branch", "tag", "commit")
DEFAULTS: Final = "{defaults}"
"""A part of a template: the default names, which projects have unless somebody chose others."""

_UNFIT: Final = re.compile(r"[^A-Za-z0-9_.-]+")


class TagFacts(msgspec.Struct, frozen=True):
    """Facts about a run; empty where they do not apply. own: the one default name that is this run's alone."""

    project: str
    number: int
    registry: str = ""
    branch: str = ""
    tag: str = ""
    commit: str = ""
    own: str = ""


def check_template(template: str) -> None:
    """Raises InvalidRequestError unless the template gives names."""
    facts = TagFacts("project", 1, "registry.example", "branch", "tag", "0123456789ab")
    if not image_names(template, facts):
        raise InvalidRequestError("the tag template is empty")


def image_names(template: str, facts: TagFacts) -> tuple[Reference, ...]:
    """The names that are the run's own; of the default names, only the number.

    Raises InvalidRequestError for a template with unknown members or impossible names.
    """
    values = {
        "registry": facts.registry,
        "project": facts.project,
        "number": str(facts.number),
        "branch": fit_for_tag(facts.branch),
        "tag": fit_for_tag(facts.tag),
        "commit": facts.commit[:12],
    }
    defaults = f"{{registry}}/{{project}}:{facts.own or facts.number}"
    found = []
    for written in re.split(r"[\s,]+", template.strip()):
        part = defaults if written == DEFAULTS else written
        if not part:
            continue
        if all(values[member] for member in _members(part)):
            try:
                found.append(Reference.parse(part.format_map(values)).with_default_tag())
            except InvalidReferenceError as error:
                raise InvalidRequestError(f"tag template {part!r}: {error.message}", hint=error.hint) from error
    return tuple(found)


def has_defaults(template: str) -> bool:
    """Whether the default names are among the template's."""
    return DEFAULTS in re.split(r"[\s,]+", template)


def _members(part: str) -> list[str]:
    try:
        fields = [(name, form, conversion) for _, name, form, conversion in string.Formatter().parse(part)]
    except ValueError as error:
        raise InvalidRequestError(f"tag template {part!r}: {error}") from error
    for name, form, conversion in fields:
        if name is not None and (name not in _MEMBERS or form or conversion):
            raise InvalidRequestError(
                f"tag template {part!r} has the unknown member {{{name}}}",
                hint=f"members: {', '.join(_MEMBERS)}; or {DEFAULTS}",
            )
    return [name for name, _, _ in fields if name is not None]


def fit_for_tag(name: str) -> str:
    """A branch's name as part of a tag: ``feature/x`` is ``feature-x``."""
    return _UNFIT.sub("-", name).strip("-.")[:100]
