"""What an action changed, from what to what: settings before and after, compared for the audit trail.

``compared`` is the one place that decides how a value looks there. A secret's value never gets this far: it is "set",
and then "changed".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from core.masking import mask_user_information

MOST: Final = 100
"""The changes that one action notes; the last one then says how many more there were."""

LONGEST: Final = 500
_SET: Final = "set"
_CHANGED: Final = "changed"


class Change(msgspec.Struct, frozen=True):
    """One member of what was changed.

    what: its name, with dots where it is inside another: ``hook.branches``.
    before, after: its values as text; empty: none. Of secrets they are "set" and "changed".
    """

    what: str
    before: str
    after: str


def compared(before: object, after: object) -> tuple[Change, ...]:
    """The members that differ, in the order in which ``after`` has them, then those that only ``before`` has.

    before, after: structs, mappings by name, or None for what is not there. Members may be the same again.
    """
    old, new = dict(_members(before)), dict(_members(after))
    names = [*new, *(name for name in old if name not in new)]
    found = [_change(name, old.get(name), new.get(name)) for name in names if _differ(old.get(name), new.get(name))]
    if len(found) > MOST:
        found = [*found[: MOST - 1], Change(f"{len(found) - MOST + 1} more", "", "")]
    return tuple(found)


def of_secret(what: str, *, had: bool, has: bool) -> tuple[Change, ...]:
    """The change of a value that nobody may see, which was stored, replaced or forgotten."""
    if not had and not has:
        return ()
    return (Change(what, _SET if had else "", (_CHANGED if had else _SET) if has else ""),)


def in_words(change: Change) -> str:
    """A change in a line, for terminals: ``keep_runs: 200 → 50``."""
    if not change.before and not change.after:
        return change.what
    return f"{change.what}: {change.before or 'nothing'} → {change.after or 'nothing'}"


def _differ(one: object, other: object) -> bool:
    """Whether the values differ; an empty text or list is as good as none."""
    return one != other and bool(one or other or isinstance(one, int) or isinstance(other, int))


def _change(name: str, before: object, after: object) -> Change:
    """What differs only where it is cut, or in what is left out, is "changed"."""
    old, new = _text(before), _text(after)
    return Change(name, old, new if old != new else _CHANGED)


def _members(value: object, inside: str = "") -> list[tuple[str, Any]]:
    """Names and values, those of structs and mappings within by names with dots."""
    if value is None:
        return []
    given: Mapping[str, Any] = value if isinstance(value, Mapping) else msgspec.structs.asdict(value)  # type: ignore[arg-type]
    found: list[tuple[str, Any]] = []
    for name, member in given.items():
        if isinstance(member, Mapping | msgspec.Struct):
            found += _members(member, f"{inside}{name}.")
        else:
            found.append((f"{inside}{name}", member))
    return found


def _text(value: object) -> str:
    """A value for people: lists with commas, switches as words; cut where it is long, passwords in URLs left out."""
    if value is None:
        text = ""
    elif isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, list | tuple | set | frozenset):
        text = ", ".join(_text(each) for each in value)
    else:
        text = str(value)
    text = mask_user_information(" ".join(text.split()))
    return f"{text[: LONGEST - 1]}…" if len(text) > LONGEST else text
