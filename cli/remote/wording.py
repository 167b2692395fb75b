"""The words for runs, as people read them."""

from __future__ import annotations

from typing import Any, Final

from pipelines.endings import ended, repeated

_WITH_REASON: Final = ("queued", "blocked", "cancelled", "warnings")


def outcome(run: dict[str, Any]) -> str:
    """The state of a run; if it waits, was cancelled or has warnings, also why."""
    reason = printable(run["reason"])
    if run["state"] == "running" and run["cancel_requested"]:
        return f"running, being {ended('cancelled', reason)}"
    return (
        ended(run["state"], reason)
        if run["state"] in ("queued", "blocked", "cancelled", "warnings")
        else str(run["state"])
    )


def repeats(run: dict[str, Any]) -> str:
    """``retry of #1 by ana``; "" for a run that repeats none."""
    trigger = run["trigger"]
    return repeated(trigger.get("retry_of", 0), printable(trigger.get("by", "")))


def dockerfile_hint(run: dict[str, Any]) -> str:
    """What to do about a run that found no Dockerfile, here on the command line; "" for all others."""
    found = (run["result"] or {}).get("dockerfiles")
    if found is None:
        return ""
    path = printable(found[0]) if found else "PATH"
    if run["trigger"].get("kind", "manual") == "manual":
        return f"name it: shiplap build -f {path}"
    return f"name it in the project's settings: shiplap project set {run['project']} --file {path}"


def took(run: dict[str, Any], now: float) -> str:
    """How long the run has taken; "" before it starts. now: seconds since the epoch."""
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
    """The title of a run in a list: the commit's title and place, else ``source_text``; and what the run repeats.

    Titles come from whoever pushes. So unprintable characters, which could steer a terminal, are left out.
    """
    trigger = run["trigger"]
    title = printable(trigger.get("title", ""))
    again = repeats(run)
    if not title:
        return ", ".join(filter(None, (again, source_text(run))))
    pull = trigger.get("pull_request")
    where = f"pull request {pull}" if pull else trigger.get("branch") or trigger.get("tag") or ""
    place = " ".join(filter(None, (where, trigger.get("commit", "")[:12])))
    where = f" ({printable(place)})" if place else ""
    return f"{again}: {title}{where}" if again else f"{title}{where}"


def printable(text: str) -> str:
    """Text that others wrote, without what could steer a terminal."""
    return "".join(letter for letter in text if letter.isprintable())


def job_why(job: dict[str, Any]) -> str:
    """Why a job waits, runs or ended as it did, in a line; "" where its state says it."""
    told = printable(job["reason"].partition("\n")[0])
    if job["state"] == "waiting":
        return f"for {', '.join(job['needs'])}"
    if job["state"] == "running":
        return f"being {ended('cancelled', told)}" if told else _again(job)
    if job["state"] == "reused":
        return told or f"the result of run {printable(job['reused_from'])}"
    if job["is_flaky"]:
        return f"flaky: at attempt {job['attempt']}"
    allowed = "allowed to fail" if job["may_fail"] and job["state"] == "failed" else ""
    entered = "somebody had a shell in it" if job.get("was_entered") else ""
    return ": ".join(filter(None, (entered, allowed, told)))


def _again(job: dict[str, Any]) -> str:
    return f"attempt {job['attempt']}" if job["attempt"] > 1 else ""
