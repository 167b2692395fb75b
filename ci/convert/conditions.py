"""Conditions as data: alternatives of which one has to fit, each a map of facts that all have to.

A condition that cannot be said in facts is ``UNKNOWN``, and stays so whatever it is joined with. A job with such a
condition is left for runs by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from ci.convert.draft import Value

Facts: TypeAlias = Mapping[str, tuple[str, ...]]
Condition: TypeAlias = "tuple[Facts, ...] | None"
"""(): never. None: it cannot be said."""

ALWAYS: Final[tuple[Facts, ...]] = ({},)
NEVER: Final[tuple[Facts, ...]] = ()
UNKNOWN: Final = None
EVENTS: Final = ("push", "tag", "pull_request", "manual", "cron")
_MOST: Final = 50
"""Alternatives of a job's ``when``."""


def fact(name: str, *values: str) -> tuple[Facts, ...]:
    """One fact, with its values or patterns."""
    return ({name: values},)


def both(one: Condition, other: Condition) -> Condition:
    """Where both hold. What holds never, holds never with something unknown, too."""
    if one == NEVER or other == NEVER:
        return NEVER
    if one is None or other is None:
        return UNKNOWN
    found: list[Facts] = []
    for first in one:
        for second in other:
            joined = _joined(first, second)
            if joined is None:
                return UNKNOWN
            if all(joined.values()):
                found.append(joined)
    return _bounded(found)


def either(one: Condition, other: Condition) -> Condition:
    """Where at least one holds."""
    if one is None or other is None:
        return UNKNOWN
    if ALWAYS[0] in one or ALWAYS[0] in other:
        return ALWAYS
    return _bounded([*one, *other])


def opposite(condition: Condition) -> Condition:
    """Where it does not hold, as far as single facts say it."""
    if condition is None:
        return UNKNOWN
    found: Condition = ALWAYS
    for facts in condition:
        without: Condition = NEVER
        for name, values in facts.items():
            without = either(without, _without(name, values))
        found = both(found, without)
    return found


def any_of(conditions: Iterable[Condition]) -> Condition:
    found: Condition = NEVER
    for condition in conditions:
        found = either(found, condition)
    return found


def as_when(condition: tuple[Facts, ...]) -> Value:
    """What a job's ``when`` says; the condition is neither always nor never."""
    maps: list[Value] = [{name: _one_or_all(values) for name, values in facts.items()} for facts in condition]
    return maps[0] if len(maps) == 1 else maps


def events_of(condition: Condition) -> set[str]:
    """The events in which it may hold."""
    if condition is None:
        return set(EVENTS)
    found: set[str] = set()
    for facts in condition:
        named = set(facts.get("event", EVENTS))
        if "tag" in facts:
            named &= {"tag", "manual"}
        if "target" in facts:
            named &= {"pull_request"}
        found |= named
    return found


def patterns(globs: Iterable[str], *, excluded: bool = False) -> tuple[str, ...] | None:
    """Globs of branches, tags or files, where ``*`` stays within a part of a path. None: they cannot be said here.

    Here a pattern means what is below a directory that it fits, too, so one that ends with ``*`` says that it does not.
    """
    found: list[str] = []
    for glob in globs:
        if not glob.strip() or any(character in glob for character in "[]{}+()|\\$\n"):
            return None
        if "?" in glob:
            return None
        sign = "!" if glob.startswith("!") != excluded else ""
        bare = glob.removeprefix("!").removeprefix("./").strip("/")
        if not bare:
            return None
        found.append(sign + bare)
        if bare.rpartition("/")[2].count("*") and not bare.endswith("**"):
            found.append(f"{'' if sign else '!'}{bare}/**")
    if excluded and found:
        return ("**", *found)
    return tuple(found)


def of_references(texts: Iterable[str]) -> Condition:
    """Git's references, with globs."""
    found: Condition = NEVER
    for text in texts:
        for start, name, event in (("refs/tags/", "tag", "tag"), ("refs/heads/", "branch", "push")):
            if text.startswith(start):
                globs = patterns([text.removeprefix(start)])
                one: Condition = None if globs is None else ({"event": (event,), name: globs},)
                found = either(found, one)
                break
        else:
            if text.startswith("refs/pull/") and "*" in text:
                found = either(found, fact("event", "pull_request"))
            else:
                return UNKNOWN
    return found


def _joined(first: Facts, second: Facts) -> Facts | None:
    joined = dict(first)
    for name, values in second.items():
        if name not in joined or joined[name] == values:
            joined[name] = values
        elif _are_literal(joined[name]) and _are_literal(values):
            joined[name] = tuple(value for value in joined[name] if value in values)
        elif _are_exclusions(values) and (name != "paths"):
            # The last pattern that fits decides, so what is left out by the one is left out of the other.
            joined[name] = (*joined[name], *(value for value in values if value != "**"))
        elif _are_exclusions(joined[name]) and (name != "paths"):
            joined[name] = (*values, *(value for value in joined[name] if value != "**"))
        else:
            return None
    return joined


def _without(name: str, values: tuple[str, ...]) -> Condition:
    if name == "event":
        return fact("event", *(event for event in EVENTS if event not in values))
    if name in ("branch", "tag", "target") and _are_literal(values):
        # A run that has no such fact does not fit either, and a pattern fits only where there is one.
        others = {"branch": ("tag",), "tag": ("push", "pull_request", "cron"), "target": ("push", "tag", "cron")}[name]
        return (
            {name: ("**", *(f"!{value}" for value in values))},
            {"event": tuple(others)},
        )
    return UNKNOWN


def _are_literal(values: tuple[str, ...]) -> bool:
    return not any(character in value for value in values for character in "*!?[")


def _are_exclusions(values: tuple[str, ...]) -> bool:
    return all(value == "**" if at == 0 else value.startswith("!") for at, value in enumerate(values)) and bool(values)


def _one_or_all(values: tuple[str, ...]) -> Value:
    return values[0] if len(values) == 1 else list(values)


def _bounded(found: list[Facts]) -> Condition:
    unique: list[Facts] = []
    for facts in found:
        if facts not in unique:
            unique.append(facts)
    return tuple(unique) if len(unique) <= _MOST else UNKNOWN
