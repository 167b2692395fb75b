"""Whether a pipeline listens to an event, and whether a job's ``when`` fits it; if not, why not, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from ci.matrix import Combination
from ci.model import EventName, Fits, Pipeline
from ci.patterns import means, means_any

SKIP: Final = "[skip ci]"
"""In a commit's title: its push and its pull request are not run."""


class Event(Struct, frozen=True):
    """What a run is of, as far as a pipeline can ask.

    branch: that is run; of a pull request, its own.
    target: where a pull request is to go. Empty: there is none.
    facts: the values of ``ci.facts.FACTS``.
    changed: the files that changed; None: that cannot be said, and then every pattern fits.
    directories: the names of the commit's directories that fit a pattern, sorted.
    title: of the commit; empty where ``[skip ci]`` in it is not to count.
    params: values that somebody gave; of a job's ``when``, all that the pipeline has.
    runs_pushes: whether the project runs pushes of this branch, if the pipeline listens to them.
    """

    name: EventName
    branch: str = ""
    target: str = ""
    tag: str = ""
    is_fork: bool = False
    facts: Mapping[str, str] = {}
    changed: Callable[[], Sequence[str] | None] = lambda: None
    directories: Callable[[str], tuple[str, ...]] = lambda _: ()
    title: str = ""
    runs_pushes: bool = True
    params: Mapping[str, str] = {}


def why_not_listening(pipeline: Pipeline, event: Event) -> str | None:
    """Why a pipeline has nothing to do for an event; None: it has. ``ci run`` without an event always has."""
    if event.name == "local":
        return None
    reason = _why_not_meant(pipeline, event)
    if reason is not None:
        return reason
    refs = pipeline.on[event.name]
    if event.name in ("push", "pull_request") and SKIP in event.title.lower():
        return f"{SKIP} is in the commit's title"
    if refs.paths is not None and not _has_changed(refs.paths, event):
        return "no file that the pipeline is about has changed"
    return None


def is_run_otherwise(pipeline: Pipeline, event: Event) -> bool:
    """Whether another event runs the pipeline with the same commit, so that this one has nothing to say of it.

    A mark that said success meanwhile could let somebody merge what was not tried yet.
    """
    if event.name == "local" or _why_not_meant(pipeline, event) is None:
        return False
    if event.name == "pull_request":
        return _is_pushed(pipeline, event)
    return "pull_request" in pipeline.on or (event.name == "tag" and "push" in pipeline.on)


def _why_not_meant(pipeline: Pipeline, event: Event) -> str | None:
    refs = pipeline.on.get(event.name)
    if refs is None:
        return f"the pipeline does not listen to {event.name}"
    branch = event.target if event.name == "pull_request" else event.branch
    if refs.branches is not None and not means(refs.branches, branch):
        return f"the pipeline is not for branch {branch}"
    if refs.tags is not None and not means(refs.tags, event.tag):
        return f"the pipeline is not for tag {event.tag}"
    if event.name == "pull_request" and _is_pushed(pipeline, event):
        return "the push of its branch runs it"
    return None


def _is_pushed(pipeline: Pipeline, event: Event) -> bool:
    """Whether the push of a pull request's branch runs the pipeline."""
    return not event.is_fork and event.runs_pushes and _hears_pushes(pipeline, event.branch)


def _hears_pushes(pipeline: Pipeline, branch: str) -> bool:
    """A commit of an own pull request is pushed, too: it is run once."""
    refs = pipeline.on.get("push")
    return refs is not None and (refs.branches is None or means(refs.branches, branch))


def why_left_out(when: Sequence[Fits], event: Event, combination: Combination) -> str | None:
    """Why a job with these conditions has no place in a run; None: it has. Of several maps, the first one's reason."""
    reasons = [_why_unfit(fits, event, combination) for fits in when]
    return None if not reasons or None in reasons else reasons[0]


def _why_unfit(fits: Fits, event: Event, combination: Combination) -> str | None:
    if fits.event is not None and event.name not in fits.event:
        return f"it is not for {event.name}"
    for patterns, name, what in (
        (fits.branch, event.branch, "branch"), (fits.target, event.target, "target"), (fits.tag, event.tag, "tag"),
    ):  # fmt: skip
        if patterns is not None and (not name or not means(patterns, name)):
            return f"it is not for {what} {name}" if name else f"there is no {what}"
    if fits.fork is not None and fits.fork != event.is_fork:
        return "it is not for forks" if event.is_fork else "it is for forks only"
    for name, values in (fits.matrix or {}).items():
        if combination.get(name) not in values:
            return f"it is not for {name}={combination.get(name, '')}"
    for name, values in (fits.params or {}).items():
        if event.params.get(name) not in values:
            return f"it is not for {name}={event.params.get(name, '')}"
    if fits.paths is not None and not _has_changed(fits.paths, event):
        return "no file that it is about has changed"
    return None


def _has_changed(patterns: Sequence[str], event: Event) -> bool:
    changed = event.changed()
    return changed is None or means_any(patterns, changed)
