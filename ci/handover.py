"""What a job gets from the jobs before it: layers, exports and images. Pure; every run fills in ``Given`` here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from ci.ends import JobOutcome
from ci.graph import JobNode
from ci.model import Concurrency
from ci.outcome import Given
from ci.planning import PlannedJob

_GOOD: Final = ("succeeded", "reused")


def nodes_of(jobs: Sequence[PlannedJob], group: str = "") -> list[JobNode]:
    """The jobs of a plan as ``ci.graph`` looks at them, none begun.

    group: of the whole run; a job in the same one has its place by that.
    """
    return [_node(planned, group) for planned in jobs]


def given_to(
    name: str, before: Mapping[str, frozenset[str]], outcomes: Mapping[str, JobOutcome], common: Given
) -> Given:
    """What one job gets. Of jobs that failed it gets nothing, allowed or not.

    before: of ``ci.graph.jobs_before``, in the order of the file.
    outcomes: of the jobs that ended.
    common: what all jobs of the run get.
    """
    ended = [(other, outcomes[other]) for other in before if other in before[name] and other in outcomes]
    good = [(other, outcome) for other, outcome in ended if outcome.state in _GOOD]
    outputs = tuple((other, outcome.outputs) for other, outcome in good if outcome.outputs is not None)
    return replace(
        common,
        outputs=outputs,
        before={other: before[other] for other, _ in outputs},
        exports={other: outcome.exports for other, outcome in good if outcome.exports},
        images={other: outcome.image for other, outcome in good if outcome.image},
        may_hold_secrets=common.secret_jobs is None or not common.secret_jobs.isdisjoint(before[name]),
    )


def _node(planned: PlannedJob, of_run: str) -> JobNode:
    job, matrix = planned.job, planned.job.matrix
    group = job.concurrency if job.concurrency is not None and job.concurrency.group != of_run else Concurrency("")
    return JobNode(
        planned.name,
        needs=planned.needs,
        after=job.after,
        may_fail=job.may_fail,
        matrix=planned.base if matrix is not None else "",
        max_parallel=matrix.max_parallel if matrix is not None else None,
        fail_fast=matrix is not None and matrix.fail_fast,
        is_gate=job.approve is not None,
        group=group.group,
        limit=group.limit,
        when_busy=group.when_busy,
    )
