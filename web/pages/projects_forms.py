"""The forms of projects: from what they send to settings, and from settings to what they show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from pipelines.errors import InvalidRequestError, NotFoundError
from pipelines.model import HookSettings, Project
from pipelines.owning.policies import EVENTS, Policy
from pipelines.shapes import explain

_LISTS: Final = ("branches", "tags", "paths")
_TEXTS: Final = (
    "repository", "forge", "pull_requests", "context", "target", "ssh_key", "known_hosts", "api_url", "status_context",
)  # fmt: skip
_NUMBERS: Final = ("concurrency", "weight", "keep_runs", "keep_days")
_SWITCHES: Final = ("cancel_superseded", "public_badge")


class Section(NamedTuple):
    """A part of a project's settings, which has an address and a form of its own. members: what its form sends."""

    name: str
    title: str
    members: tuple[str, ...] = ()


SECTIONS: Final = (
    Section("general", "General", ("repository", "forge", "ssh_key", "known_hosts", "public_badge")),
    Section(
        "builds", "Builds",
        ("branches", "tags", "paths", "pull_requests", "cancel_superseded", "context", "file", "target", "build_args",
         "concurrency", "weight"),
    ),
    Section("tags", "Tags", ("tag_template",)),
    Section("webhook", "Webhook", ("status_context", "api_url")),
    Section("secrets", "Secrets"),
    Section("access", "Access"),
    Section("retention", "Retention", ("keep_runs", "keep_days", "keep_failed")),
    Section("danger", "Danger zone"),
)  # fmt: skip


def section_of(name: str) -> Section:
    """The section at an address. Raises NotFoundError."""
    for section in SECTIONS:
        if section.name == name:
            return section
    raise NotFoundError(f"settings have no section {name[:40]!r}", hint=", ".join(each.name for each in SECTIONS))


def with_section(project: Project, section: Section, form: Mapping[str, str]) -> Project:
    """The settings with those of a section from its form. What is not the section's stays as it is, whatever was sent.

    A switch that was not sent is off: so browsers say it. Raises InvalidRequestError.
    """
    switches = {*_SWITCHES, "keep_failed"} & {*section.members}
    changed = {member for member in section.members if member in form} | switches
    usual = {name: value for name, value in shown(Project(project.name)).items() if value is not False}
    blank: dict[str, Any] = {name: value for name, value in usual.items() if name not in changed}
    read = project_of(project.name, {**blank, **{name: form[name] for name in changed if name in form}})
    of_hook = changed & {*HookSettings.__struct_fields__}
    hook = msgspec.structs.replace(project.hook, **{name: getattr(read.hook, name) for name in of_hook})
    own = {name: getattr(read, name) for name in changed - of_hook}
    return msgspec.structs.replace(project, hook=hook, **own)


def project_of(name: str, form: Mapping[str, str]) -> Project:
    """All settings. Raises InvalidRequestError for a text that is no number, or no choice of its list."""
    hook: dict[str, Any] = {member: form.get(member, "").strip() for member in _TEXTS}
    hook |= {member: tuple(form.get(member, "").split()) for member in _LISTS}
    hook |= {member: member in form for member in _SWITCHES}
    hook["file"] = form.get("file", "").strip() or None
    hook["build_args"] = _pairs(form.get("build_args", ""))
    try:
        return Project(
            name,
            concurrency=_number("concurrency", form),
            tag_template=form.get("tag_template", "").strip(),
            keep_runs=_number("keep_runs", form),
            keep_days=_number("keep_days", form),
            weight=_number("weight", form, empty=1),
            keep_failed="keep_failed" in form,
            hook=msgspec.convert(hook, HookSettings),
        )
    except msgspec.ValidationError as error:
        raise InvalidRequestError(explain(error, HookSettings, "the form")) from error


def policy_of(form: Mapping[str, str]) -> Policy:
    """The policy of a secret. Raises InvalidRequestError for an event that there is not."""
    members = {member: tuple(form.get(member, "").split()) for member in Policy.__struct_fields__}
    try:
        return msgspec.convert(members, Policy)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(
            f"a policy has no event {' '.join(members['events'])[:100]!r}", hint=f"there are {', '.join(EVENTS)}"
        ) from error


def shown(project: Project) -> dict[str, Any]:
    """The members of the form, as texts."""
    hook = project.hook
    members: dict[str, Any] = {member: getattr(hook, member) for member in (*_TEXTS, *_SWITCHES)}
    members |= {member: "\n".join(getattr(hook, member)) for member in _LISTS}
    members |= {member: str(getattr(project, member)) for member in _NUMBERS}
    members["file"] = hook.file or ""
    members["build_args"] = "\n".join(f"{name}={value}" for name, value in hook.build_args.items())
    members["tag_template"] = project.tag_template
    members["keep_failed"] = project.keep_failed
    return members


def as_given(project: Project, section: Section, form: Mapping[str, str]) -> dict[str, Any]:
    """The section's form as it was sent, for the person to correct; all else as the project has it."""
    switches = (*_SWITCHES, "keep_failed")
    sent = {name: name in form if name in switches else form.get(name, "") for name in section.members}
    return {**shown(project), **sent}


def _pairs(text: str) -> dict[str, str]:
    """``NAME=VALUE`` lines."""
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, equals, value = line.partition("=")
        if not equals:
            raise InvalidRequestError(
                f"build argument {line[:100]!r} has no value", hint="write NAME=VALUE, a line each"
            )
        found[name.strip()] = value
    return found


def _number(member: str, form: Mapping[str, str], empty: int = 0) -> int:
    text = form.get(member, "").strip() or str(empty)
    if not (text.isascii() and text.isdigit() and len(text) < 8):
        raise InvalidRequestError(f"{member.replace('_', ' ')} is {text[:40]!r}", hint="it is a number, 0 or more")
    return int(text)
