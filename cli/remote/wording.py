"""Runs, as people read them."""

from __future__ import annotations

from typing import Any


def outcome(run: dict[str, Any]) -> str:
    """The state, and for a run that waits, why."""
    if run["state"] == "queued" and run["reason"]:
        return f"queued: {run['reason']}"
    if run["state"] == "running" and run["cancel_requested"]:
        return "running, being cancelled"
    return str(run["state"])


def took(run: dict[str, Any], now: float) -> str:
    """How long it has run; "" before it does. now: seconds since the epoch."""
    if run["started_at"] is None:
        return ""
    return f"{(run['finished_at'] or now) - run['started_at']:.1f}s"


def source_text(run: dict[str, Any]) -> str:
    """The names that the image gets, and where its files come from."""
    source = run["source"]
    names = ", ".join(run["options"].get("tags", ()))
    if source["type"] == "git":
        place = source["url"] + (f"#{source['ref']}" if source.get("ref") else "")
    else:
        place = f"context {source['context'].removeprefix('sha256:')[:12]}"
    return f"{names} ({place})" if names else place


def title_text(run: dict[str, Any]) -> str:
    """What a list calls it: the commit's title and where it is, else ``source_text``.

    Titles come from whoever pushes: what is not printable, such as what steers terminals, is left out.
    """
    trigger = run["trigger"]
    title = "".join(letter for letter in trigger.get("title", "") if letter.isprintable())
    if not title:
        return source_text(run)
    pull = trigger.get("pull_request")
    where = f"pull request {pull}" if pull else trigger.get("branch") or trigger.get("tag") or ""
    place = " ".join(filter(None, (where, trigger.get("commit", "")[:12])))
    return f"{title} ({''.join(letter for letter in place if letter.isprintable())})" if place else title
