"""The jobs of a pipeline's run as ``ci.graph`` looks at them, and what it says of them, written down.

Whoever changes a job's state calls ``move_on`` in the same transaction, which holds the run's row. So one of them at a
time looks at a run's jobs, and there is no coordinator that could be away. What became queued is announced after the
commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import bindparam, select, update
from sqlalchemy.engine import Connection

from ci.graph import ENDED, JobNode, RunOutcome, Stop, advance, jobs_before, outcome, to_be_ended
from ci.reasons import why_skipped
from pipelines.model import FINAL_STATES, FIRST_PLACE, JobState
from pipelines.schema import jobs, runs

_WENT_WRONG: Final[tuple[JobState, ...]] = ("error", "failed")
_nodes: Final = msgspec.json.Decoder(JobNode)


class RunPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """What all jobs of a pipeline's run have in common, kept with the run.

    file: the path of the pipeline's file in the repository.
    ref: the branch's or the tag's full name; empty where there is none.
    facts: the values of ``ci.facts.FACTS`` that it was planned with.
    history, submodules, lfs: as of ``ci.model.SourceOptions``.
    timeout_s: of the run.
    statuses: which marks its commit gets.
    left_out: by the names of jobs that are not in the run, why.
    reason: why the run has no jobs; empty where it has some.
    """

    file: str
    commit: str
    ref: str = ""
    facts: dict[str, str] = {}
    history: int | None = None
    submodules: bool = False
    lfs: bool = False
    stop_on_failure: bool = False
    timeout_s: float = 0.0
    statuses: str = "run"
    left_out: dict[str, str] = {}
    reason: str = ""


class GraphRow(NamedTuple):
    """A job of a pipeline, as its row has it. number: among all jobs. node: with its state."""

    number: int
    node: JobNode
    reason: str


plans: Final = msgspec.json.Decoder(RunPlan)


def node_document(node: JobNode) -> str:
    """A node as a job's row keeps it: the rest of the row knows its state."""
    return msgspec.json.encode(msgspec.structs.replace(node, state="waiting", has_run=False), enc_hook=str).decode()


def graph_of(connection: Connection, run: int) -> list[GraphRow]:
    """The jobs of a run's pipeline, in the order of the file; none of a build alone."""
    columns = (jobs.c.number, jobs.c.node, jobs.c.state, jobs.c.attempt, jobs.c.reason)
    wanted = select(*columns).where(jobs.c.run == run, jobs.c.place > FIRST_PLACE).order_by(jobs.c.place)
    found = []
    for row in connection.execute(wanted):
        node = msgspec.structs.replace(_nodes.decode(row.node), state=row.state, has_run=row.attempt > 0)
        found.append(GraphRow(row.number, node, row.reason))
    return found


def move_on(connection: Connection, run: int, now: float) -> bool:
    """Let a pipeline's jobs go on, one of which has changed in this transaction; give the run the state that it has.

    The caller holds the run. Returns whether the run's state is another one now.
    """
    columns = (runs.c.state, runs.c.stop, runs.c.reason, runs.c.plan)
    row = connection.execute(select(*columns).where(runs.c.number == run)).one()
    stops_on_failure = plans.decode(row.plan).stop_on_failure
    graph = _moved(connection, graph_of(connection, run), row.stop, row.reason, stops_on_failure, now)
    found = outcome([each.node for each in graph])
    if _has_failed_to_plan(connection, run):
        found = RunOutcome("failed")
    elif found.state == "queued":
        found = RunOutcome("running")  # its first job was taken
    if found.state == row.state:
        return False
    changes: dict[str, object] = {"state": found.state}
    if found.state in FINAL_STATES:
        changes["finished_at"] = now
        changes["reason"] = _reason(graph, found, row.reason)
    connection.execute(update(runs).where(runs.c.number == run).values(changes))
    return True


def _moved(
    connection: Connection, graph: Sequence[GraphRow], stop: Stop, told: str, stops_on_failure: bool, now: float
) -> list[GraphRow]:
    """Write down what ``ci.graph`` says; returns the jobs as they are then."""
    nodes = [each.node for each in graph]
    numbers = {each.node.name: each.number for each in graph}
    why = told if stop else "another job had failed"
    ending = to_be_ended(nodes, stop=stop, stop_on_failure=stops_on_failure)
    if ending:
        asked = jobs.c.number.in_([numbers[name] for name in ending]) & jobs.c.cancel_requested.is_(False)
        connection.execute(update(jobs).where(asked).values(cancel_requested=True, reason=why))
    changes = advance(nodes, stop=stop, stop_on_failure=stops_on_failure)
    if not changes:
        return list(graph)
    moved = [
        each._replace(node=msgspec.structs.replace(each.node, state=changes.get(each.node.name, each.node.state)))
        for each in graph
    ]
    reasons = _reasons(moved, changes, why)
    queued = [numbers[name] for name, state in changes.items() if state == "queued"]
    if queued:
        connection.execute(update(jobs).where(jobs.c.number.in_(queued)).values(state="queued", queued_at=now))
    if reasons:
        ended = update(jobs).where(jobs.c.number == bindparam("this"))
        connection.execute(
            ended.values(state=bindparam("ends"), reason=bindparam("because"), finished_at=now, result="{}"),
            [{"this": numbers[name], "ends": changes[name], "because": because} for name, because in reasons.items()],
        )
    return [each._replace(reason=reasons.get(each.node.name, each.reason)) for each in moved]


def _reasons(moved: Sequence[GraphRow], changes: Mapping[str, JobState], why: str) -> dict[str, str]:
    """Why those jobs ended that no worker ended."""
    nodes = [each.node for each in moved]
    before = jobs_before(nodes)
    found = {}
    for node in nodes:
        state = changes.get(node.name)
        if state == "skipped":
            found[node.name] = why_skipped(node, [other for other in nodes if other.name in before[node.name]])
        elif state in ENDED:
            found[node.name] = why
    return found


def stop_pipeline(connection: Connection, run: int, why: str) -> None:
    """Let a pipeline's run end: what runs gets SIGTERM, what cleans up is still done; the second time nothing is.

    The caller holds the run, and calls ``follow_job`` then.
    """
    stop = connection.execute(select(runs.c.stop).where(runs.c.number == run)).scalar_one()
    changes = {"stop": "now"} if stop else {"stop": "ending", "reason": why}
    connection.execute(update(runs).where(runs.c.number == run).values(changes))


def _has_failed_to_plan(connection: Connection, run: int) -> bool:
    wanted = select(jobs.c.number).where(jobs.c.run == run, jobs.c.place == FIRST_PLACE, jobs.c.state == "failed")
    return connection.execute(wanted).first() is not None


def _reason(graph: Sequence[GraphRow], found: RunOutcome, told: str) -> str:
    """Why the run ended as it did. told: what is known already: why it was ended, or has nothing to do."""
    if told or found.state == "succeeded":
        return told
    wrong = [
        each
        for each in graph
        if each.node.state == found.state and not (each.node.may_fail and found.state == "failed")
    ]
    if not wrong or found.state not in _WENT_WRONG:
        return told
    first, more = wrong[0], len(wrong) - 1
    line = first.reason.partition("\n")[0]
    others = f" (and {more} more)" if more else ""
    return f"{first.node.name}{others}: {line}" if line else f"{first.node.name}{others}"
