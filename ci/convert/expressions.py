"""GitHub's expressions, as far as they are facts: what ``${{ }}`` is called here, and what an ``if`` means."""

from __future__ import annotations

import re
from typing import Final

from ci.convert import conditions
from ci.convert.conditions import Condition

FACTS: Final = {
    "github.sha": "SHIPLAP_COMMIT",
    "github.head_ref": "SHIPLAP_BRANCH",
    "github.base_ref": "SHIPLAP_TARGET",
    "github.run_id": "SHIPLAP_RUN",
    "github.run_number": "SHIPLAP_RUN",
    "github.job": "SHIPLAP_JOB",
    "github.actor": "SHIPLAP_AUTHOR",
    "github.triggering_actor": "SHIPLAP_AUTHOR",
    "github.event.number": "SHIPLAP_PULL_REQUEST",
    "github.event.pull_request.number": "SHIPLAP_PULL_REQUEST",
    "github.event.pull_request.title": "SHIPLAP_TITLE",
    "github.event.pull_request.head.ref": "SHIPLAP_BRANCH",
    "github.event.pull_request.head.sha": "SHIPLAP_COMMIT",
    "github.event.pull_request.base.ref": "SHIPLAP_TARGET",
    "github.event.pull_request.user.login": "SHIPLAP_AUTHOR",
    "github.event.after": "SHIPLAP_COMMIT",
}
"""Expressions that are always what one of our variables is."""

NEARLY: Final = {
    "github.ref_name": ("SHIPLAP_BRANCH", "of a tag, github.ref_name was the tag; here the branch is empty then"),
    "github.event.head_commit.message": ("SHIPLAP_TITLE", "of the commit's message, only the first line is there"),
    "github.event.repository.name": ("SHIPLAP_PROJECT", "the name of the repository is that of the project here"),
}

_EVENTS: Final = {
    "push": ("push", "tag"), "pull_request": ("pull_request",), "schedule": ("cron",),
    "workflow_dispatch": ("manual",),
}  # fmt: skip
_COMPARED: Final = re.compile(r"([\w.-]+)\s*(==|!=)\s*'((?:[^']|'')*)'|'((?:[^']|'')*)'\s*(==|!=)\s*([\w.-]+)")
_STARTS: Final = re.compile(r"startsWith\(\s*(github\.ref|github\.ref_name)\s*,\s*'([^']*)'\s*\)", re.IGNORECASE)
_STATUS: Final = {"always()": "always", "!cancelled()": "always", "failure()": "failure", "success()": "success"}
_MOST: Final = 2000


def inside(text: str) -> str:
    """An expression without its ``${{ }}``."""
    text = text.strip()
    return text[3:-2].strip() if text.startswith("${{") and text.endswith("}}") and text.count("${{") == 1 else text


def condition(text: str) -> tuple[Condition, str]:
    """What an ``if`` means, and after which end of what is needed: ``success``, ``failure`` or ``always``."""
    text = inside(text)
    after = "success"
    if len(text) > _MOST:
        return conditions.UNKNOWN, after
    parts = split_at(text, "&&")
    rest = []
    for part in parts:
        bare = re.sub(r"\s+", "", unwrapped(part))
        if bare in _STATUS:
            after = _STATUS[bare]
        else:
            rest.append(part)
    found: Condition = conditions.ALWAYS
    for part in rest:
        found = conditions.both(found, _means(part, 0))
    return found, after


def _means(text: str, depth: int) -> Condition:
    text = unwrapped(text)
    if depth > 20:
        return conditions.UNKNOWN
    if len(parts := split_at(text, "||")) > 1:
        return conditions.any_of(_means(part, depth + 1) for part in parts)
    if len(parts := split_at(text, "&&")) > 1:
        found: Condition = conditions.ALWAYS
        for part in parts:
            found = conditions.both(found, _means(part, depth + 1))
        return found
    if text.startswith("!") and not text.startswith("!="):
        return conditions.opposite(_means(text[1:], depth + 1))
    if text == "true":
        return conditions.ALWAYS
    if text == "false":
        return conditions.NEVER
    if match := _STARTS.fullmatch(text):
        return _starts(match[1].lower(), match[2])
    if match := _COMPARED.fullmatch(text):
        name, sign, value = (match[1], match[2], match[3]) if match[1] else (match[6], match[5], match[4])
        found = _equals(name.lower(), value)
        return found if sign == "==" else _differs(name.lower(), value)
    return conditions.UNKNOWN


def _equals(name: str, value: str) -> Condition:
    if any(character in value for character in "*!?[]\\"):
        return conditions.UNKNOWN
    match name:
        case "github.event_name":
            return conditions.fact("event", *_EVENTS[value]) if value in _EVENTS else conditions.NEVER
        case "github.ref" if value.startswith("refs/heads/"):
            return _on_branch(value.removeprefix("refs/heads/"))
        case "github.ref" if value.startswith("refs/tags/"):
            return ({"event": ("tag",), "tag": (value.removeprefix("refs/tags/"),)},)
        case "github.ref_name":
            return _on_branch(value)
        case "github.ref_type" if value == "tag":
            return conditions.fact("event", "tag")
        case "github.base_ref" if value:
            return ({"event": ("pull_request",), "target": (value,)},)
        case "github.head_ref" if value:
            return ({"event": ("pull_request",), "branch": (value,)},)
    return conditions.UNKNOWN


def _differs(name: str, value: str) -> Condition:
    if any(character in value for character in "*!?[]\\"):
        return conditions.UNKNOWN
    match name:
        case "github.event_name" if value in _EVENTS:
            return conditions.opposite(conditions.fact("event", *_EVENTS[value]))
        case "github.ref" if value.startswith("refs/heads/"):
            branch = value.removeprefix("refs/heads/")
            return (
                {"event": ("push", "manual", "cron"), "branch": ("**", f"!{branch}")},
                {"event": ("pull_request", "tag")},
            )
    return conditions.UNKNOWN


def _on_branch(branch: str) -> Condition:
    """A pull request's reference is its own, and no branch's."""
    return ({"event": ("push", "manual", "cron"), "branch": (branch,)},)


def _starts(name: str, start: str) -> Condition:
    if any(character in start for character in "*!?[]\\"):
        return conditions.UNKNOWN
    if name == "github.ref":
        for prefix, fact, events in (
            ("refs/tags/", "tag", ("tag",)),
            ("refs/heads/", "branch", ("push", "manual", "cron")),
        ):
            if start == prefix:
                return conditions.fact("event", *events)
            if start.startswith(prefix):
                return ({"event": events, fact: (f"{start.removeprefix(prefix)}**",)},)
        if start == "refs/pull/":
            return conditions.fact("event", "pull_request")
    return conditions.UNKNOWN


def unwrapped(text: str) -> str:
    """Without blanks, and without brackets around all of it."""
    text = text.strip()
    while text.startswith("(") and text.endswith(")") and closes_last(text):
        text = text[1:-1].strip()
    return text


def closes_last(text: str) -> bool:
    depth, quoted = 0, False
    for at, character in enumerate(text):
        if character == "'":
            quoted = not quoted
        elif not quoted and character in "()":
            depth += 1 if character == "(" else -1
            if depth == 0 and at < len(text) - 1:
                return False
    return depth == 0


def split_at(text: str, sign: str) -> list[str]:
    """At each sign that stands in no brackets and no quotes."""
    found, depth, quoted, start, at = [], 0, False, 0, 0
    while at < len(text):
        character = text[at]
        if character == "'":
            quoted = not quoted
        elif not quoted and character in "()":
            depth += 1 if character == "(" else -1
        elif not quoted and depth == 0 and text.startswith(sign, at):
            found.append(text[start:at])
            start = at + len(sign)
            at = start
            continue
        at += 1
    return [*found, text[start:]]
