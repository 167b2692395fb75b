"""Policies: which runs a secret is for. The service decides it by what it knows of a run; no file of a commit does.

A policy is kept with a secret, and with a grant of one of the service's secrets, where it counts in place of the
secret's own. A policy that says nothing means protected branches and tags. A fork's run gets no secret, whatever the
policy says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

import msgspec

from ci.patterns import MOST, fault, means
from core.trust import Domain
from pipelines.errors import InvalidRequestError

PolicyEvent: TypeAlias = Literal["push", "tag", "pull_request", "manual", "cron", "sent"]
"""The events of pipelines, and ``sent``: of domain ``by USER``, which is no branch's and no tag's of the project."""

EVENTS: Final[tuple[PolicyEvent, ...]] = get_args(PolicyEvent)
_OF_BRANCHES: Final = frozenset(("push", "pull_request", "manual", "cron"))


class Policy(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which runs a secret is for. All that a policy says has to fit; by itself it says nothing.

    branches: patterns of the branches whose runs get it, of a pull request the one that it comes from. None: protected
    branches and tags. A tag is of no branch: unless the patterns mean everything, or everything else (``!main``),
    ``events`` has to name it.
    events: that runs may be of. None: all but ``sent``, which is what people send: contexts, commits that are no
    branch's, arguments of their own.
    pipelines: patterns of the pipelines whose runs get it. None: all, and builds of a Dockerfile.
    """

    branches: tuple[str, ...] = ()
    events: tuple[PolicyEvent, ...] = ()
    pipelines: tuple[str, ...] = ()


SILENT: Final = Policy()


class RunAsks(NamedTuple):
    """A run, as policies look at it.

    branch: that it is of, as its server or a signed payload says; empty: none.
    tag: likewise.
    pipeline: empty: it is a build of a Dockerfile, or not known yet.
    """

    domain: Domain
    event: str
    branch: str = ""
    tag: str = ""
    pipeline: str = ""


def refusal(policy: Policy, run: RunAsks) -> str:
    """Why a secret with this policy is not for the run, for people; empty: it is for it."""
    if run.domain.is_fork:
        return "no run of a fork gets secrets"
    if _has_event(policy, run) and _has_branch(policy, run) and _has_pipeline(policy, run):
        return ""
    return f"it is for {told(policy)}; this run is {_told_run(run)}"


def _has_event(policy: Policy, run: RunAsks) -> bool:
    if run.domain.lane == "by":
        return "sent" in policy.events
    return not policy.events or run.event in policy.events


def _has_branch(policy: Policy, run: RunAsks) -> bool:
    if run.domain.lane == "by":
        return True
    if not policy.branches:
        return run.domain.lane == "protected"
    return means(policy.branches, run.branch) or bool(run.tag and "tag" in policy.events)


def _has_pipeline(policy: Policy, run: RunAsks) -> bool:
    return not policy.pipelines or bool(run.pipeline and means(policy.pipelines, run.pipeline))


def told(policy: Policy) -> str:
    """A policy for people, in a line."""
    if policy == SILENT:
        return "protected branches and tags"
    said = []
    if policy.branches:
        said.append(f"branches {' '.join(policy.branches)}")
    elif policy.events != ("sent",):
        said.append("protected branches and tags")
    if policy.events:
        said.append(f"events {', '.join(policy.events)}")
    if policy.pipelines:
        said.append(f"pipelines {' '.join(policy.pipelines)}")
    return "; ".join(said)


def check_policy(policy: Policy) -> None:
    """Raises InvalidRequestError for a policy that is wrong, or that says something which can never count."""
    for what, patterns in (("branches", policy.branches), ("pipelines", policy.pipelines)):
        _check_patterns(what, patterns)
    if len(set(policy.events)) != len(policy.events):
        raise InvalidRequestError("the policy names an event twice")
    events = frozenset(policy.events)
    if events and policy.branches and not events & _OF_BRANCHES:
        raise InvalidRequestError(
            f"the policy has branches, and events that are of none: {', '.join(policy.events)}",
            hint="leave the branches out, or name push, pull_request, manual or cron, too",
        )
    if "pull_request" in events and not policy.branches:
        raise InvalidRequestError(
            "the policy has pull requests, which never come from the default branch, and no branches",
            hint="--branches says from which they may come; '**' is all of the repository's own",
        )


def decoded(document: str) -> Policy:
    """A policy as tables have it. Empty: it says nothing."""
    return _decode(document) if document else SILENT


def encoded(policy: Policy) -> str:
    return "" if policy == SILENT else msgspec.json.encode(policy).decode()


_decode: Final[Callable[[str], Policy]] = msgspec.json.Decoder(Policy).decode


def _check_patterns(what: str, patterns: Sequence[str]) -> None:
    if len(patterns) > MOST:
        raise InvalidRequestError(f"a policy has at most {MOST} {what}")
    for pattern in patterns:
        if (wrong := fault(pattern)) is not None:
            raise InvalidRequestError(f"{what} of the policy, {pattern[:100]!r}: {wrong}")


def _told_run(run: RunAsks) -> str:
    event = run.event.replace("_", " ")
    if run.domain.lane == "by":
        what = f"of what {run.domain.name} sent"
    elif run.tag:
        what = f"of tag {run.tag} (event {event})"
    else:
        what = f"of {f'branch {run.branch}' if run.branch else 'no branch'} (event {event})"
    return f"{what}, {f'pipeline {run.pipeline}' if run.pipeline else 'without a pipeline'}"
