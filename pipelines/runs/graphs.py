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

from ci.graph import (
    ENDED,
    JobNode,
    Stop,
    advance,
    jobs_before,
    outcome,
    to_be_ended,
    with_those_after,
)
from ci.model import Param, WhenBusy
from ci.reasons import why_skipped
from pipelines.model import FINAL_STATES, FIRST_PLACE, AnyRunState, JobState
from pipelines.runs.gaterows import content_of, open_gates, take_over
from pipelines.schema import jobs, runs

_NOT_WELL: Final = ("cancelled", "error", "failed")
node_documents: Final = msgspec.json.Decoder(JobNode)
"""Reads what ``node_document`` writes."""


class RunPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """What all jobs of a pipeline's run have in common, kept with the run.

    file: the path of the pipeline's file in the repository.
    ref: the branch's or the tag's full name; empty where there is none.
    facts: the values of ``ci.facts.FACTS`` that it was planned with, and those of parameters.
    params: those that the pipeline has.
    history, submodules, lfs: as of ``ci.model.SourceOptions``.
    timeout_s: of the run.
    statuses: which marks its commit gets.
    left_out: by the names of jobs that are not in the run, why.
    reason: why the run has no jobs; empty where it has some.
    is_run_otherwise: it has none because another event runs the pipeline with this commit, and marks it.
    group, group_limit, when_busy: of the whole run, as of ``ci.model.Concurrency``; an empty group: none.
    secrets: names of those that any of its jobs asks for; null: a plan of before they were noted, and it may be any.
    secret_jobs: names of the jobs that may output some, as of ``ci.model.Job``; null: as above.
    is_partial: it repeats a part of another run: its success says nothing of the jobs that are left out.
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
    is_run_otherwise: bool = False
    is_partial: bool = False
    group: str = ""
    group_limit: int = 1
    when_busy: WhenBusy = "wait"
    params: dict[str, Param] = {}
    secrets: tuple[str, ...] | None = None
    secret_jobs: tuple[str, ...] | None = None


class GraphRow(NamedTuple):
    """A job of a pipeline, as its row has it.

    number: among all jobs.
    place: in its run.
    node: with its state.
    reason: why it is to end, or ended as it did.
    failures: attempts that failed by themselves.
    """

    number: int
    place: int
    node: JobNode
    reason: str
    failures: int

    @property
    def is_flaky(self) -> bool:
        return self.node.state == "succeeded" and self.failures > 0


class Moved(NamedTuple):
    """What became of a pipeline's run. is_news: the run's state is another one now."""

    is_news: bool
    plan: RunPlan
    graph: list[GraphRow]


plans: Final = msgspec.json.Decoder(RunPlan)


def node_document(node: JobNode) -> str:
    """A node as a job's row keeps it: the rest of the row knows its state."""
    return msgspec.json.encode(msgspec.structs.replace(node, state="waiting", has_run=False), enc_hook=str).decode()


def graph_of(connection: Connection, run: int) -> list[GraphRow]:
    """The jobs of a run's pipeline, in the order of the file; none of a build alone."""
    columns = (
        jobs.c.number, jobs.c.place, jobs.c.node, jobs.c.state, jobs.c.attempt, jobs.c.stop, jobs.c.reason,
        jobs.c.failures,
    )  # fmt: skip
    wanted = select(*columns).where(jobs.c.run == run, jobs.c.place > FIRST_PLACE).order_by(jobs.c.place)
    found = []
    for row in connection.execute(wanted):
        known = {"state": row.state, "has_run": row.attempt > 0, "stop": row.stop}
        node = msgspec.structs.replace(node_documents.decode(row.node), **known)
        found.append(GraphRow(row.number, row.place, node, row.reason, row.failures))
    return found


def move_on(connection: Connection, run: int, now: float) -> Moved:
    """Let a pipeline's jobs go on, one of which has changed in this transaction; give the run the state that it has.

    The caller holds the run.
    """
    columns = (runs.c.state, runs.c.stop, runs.c.reason, runs.c.plan, runs.c.late_at, runs.c.blocked_at)
    row = connection.execute(select(*columns, runs.c.group_state).where(runs.c.number == run)).one()
    plan, is_held = plans.decode(row.plan), row.group_state == "waiting"
    before = graph_of(connection, run)
    graph = _moved(connection, before, row.stop, row.reason, plan, now, is_held=is_held)
    while _are_open_already(connection, run, plan.commit, before, graph, now):
        before = graph_of(connection, run)
        graph = _moved(connection, before, row.stop, row.reason, plan, now, is_held=is_held)
    state = _state(connection, run, graph)
    if is_held and state not in FINAL_STATES:
        state = "blocked"
    if state == row.state:
        return Moved(False, plan, graph)
    changes: dict[str, object] = {"state": state, "blocked_at": now if state == "blocked" else None}
    if row.blocked_at is not None and row.late_at is not None:  # its time stood still meanwhile
        changes["late_at"] = row.late_at + max(0.0, now - row.blocked_at)
    if state in FINAL_STATES:
        changes["finished_at"] = now
        changes["group_state"] = ""
        changes["reason"] = _reason(graph, state, row.reason)
    connection.execute(update(runs).where(runs.c.number == run).values(changes))
    return Moved(True, plan, graph)


def culprit(graph: Sequence[GraphRow], state: AnyRunState) -> GraphRow | None:
    """The first job that made the run's state ``failed`` or ``error``; None: none did, or it is neither."""
    if state not in ("failed", "error"):
        return None
    return next(iter(_wrong(graph, state)), None)


def _state(connection: Connection, run: int, graph: Sequence[GraphRow]) -> AnyRunState:
    """The state of the run. A pipeline that was planned is no longer queued: its first job was taken."""
    if _has_failed_to_plan(connection, run):
        return "failed"
    found = outcome([each.node for each in graph])
    if found.state == "succeeded" and _warnings(graph):
        return "warnings"
    return "running" if found.state == "queued" else found.state


def _warnings(graph: Sequence[GraphRow]) -> list[str]:
    """What a run that succeeded says of jobs that did not, or not at once."""
    failed = [each.node.name for each in graph if each.node.state == "failed"]
    flaky = [each.node.name for each in graph if each.is_flaky]
    told = [f"{', '.join(failed)} failed, which is allowed"] if failed else []
    return told + ([f"{', '.join(flaky)} succeeded only when tried again"] if flaky else [])


def _moved(
    connection: Connection,
    graph: Sequence[GraphRow],
    stop: Stop,
    told: str,
    plan: RunPlan,
    now: float,
    *,
    is_held: bool,
) -> list[GraphRow]:
    """Write down what ``ci.graph`` says; returns the jobs as they are then."""
    nodes = [each.node for each in graph]
    numbers = {each.node.name: each.number for each in graph}
    why = _why(graph, stop, told)
    for name in to_be_ended(nodes, stop=stop, stop_on_failure=plan.stop_on_failure):
        asked = (jobs.c.number == numbers[name]) & jobs.c.cancel_requested.is_(False)
        connection.execute(update(jobs).where(asked).values(cancel_requested=True, reason=why[name]))
    changes = advance(nodes, stop=stop, stop_on_failure=plan.stop_on_failure, is_held=is_held)
    if not changes:
        return list(graph)
    moved = [
        each._replace(node=msgspec.structs.replace(each.node, state=changes.get(each.node.name, each.node.state)))
        for each in graph
    ]
    reasons = _reasons(moved, changes, why)
    for going in ("queued", "blocked"):
        found = [numbers[name] for name, state in changes.items() if state == going]
        if found:
            connection.execute(update(jobs).where(jobs.c.number.in_(found)).values(state=going, queued_at=now))
        if found and going == "blocked":
            before = jobs_before(nodes)
            opened = {
                numbers[name]: [numbers[other] for other in before if other in before[name]]
                for name, state in changes.items()
                if state == "blocked"
            }
            open_gates(connection, opened, plan.facts, now)
    if reasons:
        ended = update(jobs).where(jobs.c.number == bindparam("this"))
        connection.execute(
            ended.values(state=bindparam("ends"), reason=bindparam("because"), finished_at=now, result="{}"),
            [{"this": numbers[name], "ends": changes[name], "because": because} for name, because in reasons.items()],
        )
    return [each._replace(reason=reasons.get(each.node.name, each.reason)) for each in moved]


def _are_open_already(
    connection: Connection, run: int, commit: str, before: Sequence[GraphRow], graph: Sequence[GraphRow], now: float
) -> bool:
    """Approve the gates whose turn has come that the run which this one repeats was approved at, with this content.

    before: as the jobs were. Returns whether there was one.
    """
    waited = {each.number for each in before if each.node.state == "blocked"}
    opened = [
        each for each in graph if each.node.is_gate and each.node.state == "blocked" and each.number not in waited
    ]
    needed = jobs_before([each.node for each in graph]) if opened else {}
    found = False
    for each in opened:
        name = each.node.name
        content = content_of(connection, run, commit, [other for other in needed if other in needed[name]])
        found |= take_over(connection, run, each.number, name, content, now)
    return found


def _why(graph: Sequence[GraphRow], stop: Stop, told: str) -> dict[str, str]:
    """By job, why it is ended if it is. told: why the run is."""
    common = told if stop else "another job had failed"
    return {each.node.name: each.reason if each.node.stop and not stop else common for each in graph}


def _reasons(moved: Sequence[GraphRow], changes: Mapping[str, JobState], why: Mapping[str, str]) -> dict[str, str]:
    """Why those jobs ended that no worker ended."""
    nodes = [each.node for each in moved]
    before = jobs_before(nodes)
    found = {}
    for node in nodes:
        state = changes.get(node.name)
        if state == "skipped":
            found[node.name] = why_skipped(node, [other for other in nodes if other.name in before[node.name]])
        elif state in ENDED:
            found[node.name] = why[node.name]
    return found


def stop_pipeline(connection: Connection, run: int, why: str) -> None:
    """Let a pipeline's run end: what runs gets SIGTERM, what cleans up is still done; the second time nothing is.

    The caller holds the run, and calls ``follow_job`` then.
    """
    stop = connection.execute(select(runs.c.stop).where(runs.c.number == run)).scalar_one()
    changes = {"stop": "now"} if stop else {"stop": "ending", "reason": why}
    connection.execute(update(runs).where(runs.c.number == run).values(changes))


def stop_jobs(connection: Connection, run: int, names: Sequence[str], why: str) -> bool:
    """Let jobs of a pipeline end, and what needs them; what cleans up after them is still done. A second time nothing
    is, and they are killed.

    The caller holds the run, and calls ``follow_job`` then. Returns whether there was anything left to end.
    """
    graph = graph_of(connection, run)
    wanted = with_those_after([each.node for each in graph], names)
    left = [each for each in graph if each.node.name in wanted and each.node.state not in ENDED]
    is_second = any(each.node.stop in ("term", "now") for each in graph if each.node.name in names)
    for each in left:
        stop = "now" if is_second else "term" if each.node.name in names else each.node.stop or "with"
        connection.execute(update(jobs).where(jobs.c.number == each.number).values(stop=stop))
    nodes = [each.node for each in graph_of(connection, run)]
    ending = {*to_be_ended(nodes), *advance(nodes)}
    told = [each.number for each in left if each.node.name in ending]
    is_new = jobs.c.number.in_(told) & jobs.c.cancel_requested.is_(False)
    connection.execute(update(jobs).where(is_new).values(reason=why))
    return bool(left)


def _has_failed_to_plan(connection: Connection, run: int) -> bool:
    wanted = select(jobs.c.number).where(jobs.c.run == run, jobs.c.place == FIRST_PLACE, jobs.c.state == "failed")
    return connection.execute(wanted).first() is not None


def _reason(graph: Sequence[GraphRow], state: AnyRunState, told: str) -> str:
    """Why the run ended as it did. told: what is known already: why it was ended, or has nothing to do."""
    if told or state == "succeeded":
        return told
    if state == "warnings":
        return "; ".join(_warnings(graph))
    wrong = _wrong(graph, state) if state in _NOT_WELL else []
    if not wrong:
        return told
    first, more = wrong[0], len(wrong) - 1
    line = first.reason.partition("\n")[0]
    others = f" (and {more} more)" if more else ""
    return f"{first.node.name}{others}: {line}" if line else f"{first.node.name}{others}"


def _wrong(graph: Sequence[GraphRow], state: AnyRunState) -> list[GraphRow]:
    """The jobs because of which the run failed, or has an error."""
    return [each for each in graph if each.node.state == state and not (each.node.may_fail and state == "failed")]
