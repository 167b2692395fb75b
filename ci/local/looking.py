"""Why jobs would run, or whose results they have: asked of what is known, without running any."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

from ci.ends import JobOutcome
from ci.graph import jobs_before
from ci.handover import given_to
from ci.local.runner import ToolsFor
from ci.outcome import Earlier, Given, JobTools
from ci.planning import PlannedJob
from core.cancellation import check
from core.events import MissReason


class Look(Protocol):
    """What a run would find of a job before it runs it; None: such a job always runs.

    Raises CiErrors for what the file got wrong, and ShiplapErrors and OSErrors for what the machine did.
    """

    def __call__(self, planned: PlannedJob, given: Given, tools: JobTools) -> Earlier | None: ...


Always: TypeAlias = Literal["", "gate", "build", "inputs", "reuse"]
"""It asks people, builds an image, has no ``inputs``, or says ``reuse: false``."""


class Answer(Struct, frozen=True):
    """Whether a job would run.

    outcome: the result that it would have without running.
    changes: what differs from the last time.
    always: why it runs each time; empty: it does not.
    waits_for: a job that would run before it, and whose results it gets: nobody knows them yet.
    """

    job: str
    outcome: JobOutcome | None = None
    changes: tuple[MissReason, ...] = ()
    always: Always = ""
    waits_for: str = ""


def ask(jobs: Sequence[PlannedJob], common: Given, tools: ToolsFor, look: Look) -> list[Answer]:
    """An answer for each of these jobs; all that they need has to be among them. In an order in which needs come first.

    common: what all jobs of a run get. look: asks of one. Raises what it raises, and what ``check`` raises.
    """
    before, by_name = jobs_before(jobs), {planned.name: planned for planned in jobs}
    outcomes: dict[str, JobOutcome] = {}
    answers = []
    for name in sorted(by_name, key=lambda each: len(before[each])):
        check()
        planned = by_name[name]
        unknown = [other for other in before if other in before[name] and _matters(by_name[other], outcomes)]
        if always := why_always(planned):
            answers.append(Answer(name, always=always))
        elif unknown:
            answers.append(Answer(name, waits_for=unknown[0]))
        else:
            found = look(planned, given_to(name, before, outcomes, common), tools(threading.Event()))
            assert found is not None, "results of such jobs are taken over"
            if found.outcome is not None:
                outcomes[name] = found.outcome
            answers.append(Answer(name, found.outcome, found.changes))
    return answers


def why_always(planned: PlannedJob) -> Always:
    """Why a job runs each time; empty: it does not."""
    job = planned.job
    if job.approve is not None:
        return "gate"
    if job.build is not None:
        return "build"
    if job.inputs is None:
        return "inputs"
    return "reuse" if job.reuse is False else ""


def _matters(planned: PlannedJob, outcomes: dict[str, JobOutcome]) -> bool:
    """Whether a job would leave something that nobody knows yet."""
    job = planned.job
    return planned.name not in outcomes and (bool(job.outputs) or bool(job.exports) or job.build is not None)
