"""The reasons of a cache miss, in words for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core.events import MissReason

_NAMED: Final = 3


def in_words(changes: Sequence[MissReason]) -> str:
    """All changes in one line."""
    files = [change for change in changes if change.kind in ("added", "changed", "removed", "mode", "owner")]
    others = [describe(change) for change in changes if change not in files]
    named = [describe(change) for change in files[:_NAMED]]
    if len(files) > _NAMED:
        named.append(f"and {len(files) - _NAMED} more")
    return "; ".join([*others, ", ".join(named)] if named else others)


def describe(change: MissReason) -> str:
    """One change in words."""
    match change.kind:
        case "no-cache":
            return "the cache was not asked"
        case "never-built":
            return "not built before"
        case "never-succeeded":
            return "it has not succeeded before"
        case "version":
            return "another version of Shiplap"
        case "evicted":
            return "its result is no longer in the cache"
        case "audience":
            return f"for whom its result counts has changed: {change.old} → {change.new}"
        case "instruction":
            return f"changed: {change.old} → {change.new}"
        case "arg" | "env" | "option":
            label = change.name if change.kind == "option" else f"{change.kind.upper()} {change.name}"
            if change.old is None and change.new is None:
                return f"{label} changed"
            return f"{label} changed: {_value(change.old)} → {_value(change.new)}"
        case "added" | "removed" | "changed":
            return f"{change.name} {change.kind}" if not change.name.startswith("and ") else change.name
        case "mode" | "owner":
            return f"{change.kind} of {change.name} changed: {change.old} → {change.new}"
        case "base":
            name = change.name if change.name.startswith("the image of ") else f"the base {change.name}"  # as of jobs
            return f"{name} changed: {_short(change.old)} → {_short(change.new)}"
        case "parent":
            return f"{change.name} gave another result"
        case _:
            return f"{change.name} changed"


def _value(text: str | None) -> str:
    if text is None:
        return "not set"
    shown = text if len(text) <= 60 else text[:60] + "…"
    return f'"{shown}"'


def _short(digest: str | None) -> str:
    return digest.removeprefix("sha256:")[:12] if digest else "none"
