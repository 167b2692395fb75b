"""The rules by which jobs of a run move each other on, one job at a time: what ``ci.graph`` is compared with.

As simple as the rules are, and as slow. Nothing of ``ci.graph`` is used but its words.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from ci.graph import ENDED, STARTED, JobNode, State, Stop


def settled(jobs: Sequence[JobNode], *, stop: Stop = "", stop_on_failure: bool = False) -> dict[str, State]:
    """The states of all jobs once nothing changes any more."""
    states: dict[str, State] = {one.name: one.state for one in jobs}
    while True:
        before = dict(states)
        for one in jobs:
            if states[one.name] not in ("waiting", "queued", "blocked"):
                continue
            if _is_to_end(one, jobs, stop, stop_on_failure):
                states[one.name] = "cancelled"
            elif states[one.name] == "waiting" and all(states[up.name] in ENDED for up in above(one, jobs)):
                if not _starts(one, jobs, states):
                    states[one.name] = "skipped"
                elif _has_room(one, jobs, states):
                    states[one.name] = "queued"
        if states == before:
            return states


def signalled(jobs: Sequence[JobNode], *, stop: Stop = "", stop_on_failure: bool = False) -> set[str]:
    """Names of the running jobs that have to be told to end."""
    return {one.name for one in jobs if one.state == "running" and _is_to_end(one, jobs, stop, stop_on_failure)}


def state_of_run(jobs: Sequence[JobNode], flaky: frozenset[str] = frozenset()) -> str:
    """The state of a run that has been planned. flaky: jobs that succeeded after they had failed."""
    states = [one.state for one in jobs]
    if any(state not in ENDED for state in states):
        return "running"
    for state in ("cancelled", "error"):
        if state in states:
            return state
    failures = [one for one in jobs if one.state == "failed"]
    if any(not one.may_fail for one in failures):
        return "failed"
    return "warnings" if failures or flaky else "succeeded"


def above(job: JobNode, jobs: Sequence[JobNode]) -> list[JobNode]:
    """All that comes before a job: what it needs, what that needs, and so on."""
    direct = [other for other in jobs if other.name in job.needs]
    return [*direct, *(up for need in direct for up in above(need, jobs))]


def random_graph(chance: random.Random) -> list[JobNode]:
    """Jobs that need some of those before them; some are of a matrix, whose jobs need the same."""
    found: list[JobNode] = []
    for place in range(chance.randint(1, 7)):
        needs = tuple(other.name for other in found if chance.random() < 0.4)
        after = chance.choice(("success", "success", "always", "failure")) if needs else "success"
        common = {"needs": needs, "after": after, "may_fail": chance.random() < 0.2}
        if chance.random() < 0.8:
            found.append(JobNode(f"j{place}", **common))  # type: ignore[arg-type]
            continue
        common |= {
            "matrix": f"j{place}",
            "max_parallel": chance.choice((None, 1, 2)),
            "fail_fast": chance.random() < 0.4,
        }
        found += [JobNode(f"j{place} ({value})", **common) for value in range(chance.randint(1, 3))]  # type: ignore[arg-type]
    return found


def _is_to_end(job: JobNode, jobs: Sequence[JobNode], stop: Stop, stop_on_failure: bool) -> bool:
    wrong = [one for one in jobs if one.state in ("failed", "error") and not one.may_fail]
    if stop == "now" or job.stop in ("term", "now"):
        return True
    if job.matrix and any(one.matrix == job.matrix and one.fail_fast for one in wrong):
        return True
    if stop or job.stop or (stop_on_failure and wrong):
        needs = [one for one in jobs if one.name in job.needs]
        return not (job.after == "always" and any(one.has_run or one.state in STARTED for one in needs))
    return False


def _starts(job: JobNode, jobs: Sequence[JobNode], states: Mapping[str, State]) -> bool:
    before = above(job, jobs)
    if job.after == "always":
        return True
    if job.after == "failure":
        return any(states[one.name] in ("failed", "error") and not one.may_fail for one in before)
    return all(
        states[one.name] in ("succeeded", "reused") or (states[one.name] == "failed" and one.may_fail) for one in before
    )


def _has_room(job: JobNode, jobs: Sequence[JobNode], states: Mapping[str, State]) -> bool:
    going = [one for one in jobs if one.matrix == job.matrix and states[one.name] in ("queued", "running")]
    return not job.matrix or job.max_parallel is None or len(going) < job.max_parallel
