"""The jobs of a plan that somebody names, with all that they need. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ci.checks import owner_of
from ci.errors import CiError
from ci.graph import jobs_before
from ci.planning import Plan
from core.suggestions import nearest


def selected(plan: Plan, names: Sequence[str]) -> Plan:
    """The plan with these jobs and all that they need, by ``?`` too; without names, the whole plan.

    names: of jobs; of a matrix or a part all of its jobs are meant. Raises CiError for one that is not in the run.
    """
    if not names:
        return plan
    before = jobs_before(plan.jobs)
    wanted: set[str] = set()
    for name in names:
        for job in named(plan, name):
            wanted |= {job, *before[job]}
    left_out = {name: reason for name, reason in plan.left_out.items() if name in names}
    return replace(plan, jobs=tuple(planned for planned in plan.jobs if planned.name in wanted), left_out=left_out)


def named(plan: Plan, name: str) -> list[str]:
    found = [planned.name for planned in plan.jobs if name in (planned.name, planned.base, owner_of(planned.base))]
    if found:
        return found
    reasons = {
        other: reason
        for other, reason in plan.left_out.items()
        if other == name or other.startswith((f"{name} (", f"{name}/"))
    }
    if reasons:
        reason = reasons.get(name) or next(iter(reasons.values()))
        raise CiError(f'"{name}" is left out: {reason}', hint="--event, --branch and --tag say what the run is of")
    known = dict.fromkeys(
        [each for planned in plan.jobs for each in (planned.base, planned.name)] + list(plan.left_out)
    )
    likely = nearest(name, known)
    hint = f'did you mean "{likely[0]}"?' if likely else f"there are {', '.join(known)}"
    raise CiError(f'there is no job "{name}"', hint=hint)
