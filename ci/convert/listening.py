"""What starts a pipeline: ``on``, made of a condition for the whole of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ci.convert import conditions
from ci.convert.conditions import Condition, Facts
from ci.convert.draft import Draft, Entry, Value
from ci.convert.foreign import Foreign
from dockerfile_grammar.source import Span


def remark_times(foreign: Foreign, span: Span) -> None:
    """Say that a condition is about runs at certain times, which are not in the file."""
    foreign.remark(span, "at which times it runs is not in this file", hint="say it in `on`: `cron: [{at: …}]`")


def put_on(foreign: Foreign, draft: Draft, span: Span, when: Condition) -> Condition:
    """Say in ``on`` which events the pipeline listens to. Returns the condition that is still each job's to say.

    Times are in no file of Woodpecker's, Drone's or GitLab's, so there is no ``cron`` to listen to.
    """
    if when is None:
        foreign.remark(
            span, "what starts it is not converted: it is run by hand only", "say in `on` what it listens to"
        )
        draft.top["on"] = Entry("manual", span)
        return conditions.ALWAYS
    if conditions.ALWAYS[0] in when:
        return conditions.ALWAYS
    events = [event for event in conditions.EVENTS if event in conditions.events_of(when)]
    listened: list[Value] = [event for event in events if event != "cron"]
    if not listened:
        draft.top["on"] = Entry("manual", span)
        return conditions.ALWAYS
    if (narrowed := _narrowed(when)) is not None:
        draft.top["on"] = Entry(narrowed, span)
        return conditions.ALWAYS
    draft.top["on"] = Entry(listened, span)
    if all(set(facts) == {"event"} for facts in when):
        return conditions.ALWAYS
    return when


_KEYS: Final[Mapping[str, Mapping[str, str]]] = {
    "push": {"branch": "branches", "paths": "paths"},
    "pull_request": {"target": "branches", "paths": "paths"},
    "tag": {"tag": "tags"},
    "manual": {},
}
"""What ``on`` says of events, by the name of the fact."""


def _narrowed(when: tuple[Facts, ...]) -> Value | None:
    """The map for ``on`` that says all of a condition. None: some of it is for each job to say."""
    found: dict[str, Value] = {}
    for facts in when:
        rest = {name: values for name, values in facts.items() if name != "event"}
        for event in facts.get("event", ()):
            if event == "cron":
                continue
            keys = _KEYS[event]
            if event in found or not set(rest) <= set(keys):
                return None
            found[event] = {keys[name]: list(values) for name, values in rest.items()}
        if "event" not in facts:
            return None
    return found if any(found.values()) else None
