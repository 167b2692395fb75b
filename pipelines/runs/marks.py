"""The marks of a pipeline's run at its commit: one for the run, and one for each job where the pipeline wants these.

A mark's name is the same for every event, so one required name fits branches, forks and tags, and several runs of a
commit share it. One that has nothing to do says so only where no other run has marked the commit, and never where
another event runs the pipeline: a failure must not become a success, nor a success come before what was not tried.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from pipelines.endings import repeated
from pipelines.forges.events import StatusState
from pipelines.model import FIRST_PLACE, JobState, Run
from pipelines.runs.graphs import GraphRow, Moved, culprit
from pipelines.runs.previews import HAVE_OUTCOME, previews_of
from pipelines.schema import jobs, statuses
from pipelines.statuses.outbox import add_status, failed_line, state_of
from pipelines.statuses.wording import cut, one_line, preview_words, with_line

_LONGEST: Final = 255
_DIGITS: Final = 8
_PREVIEW: Final = '"preview":true'
_OF_JOBS: Final[Mapping[JobState, StatusState]] = {
    "waiting": "pending", "blocked": "pending", "queued": "pending", "running": "running", "succeeded": "success",
    "reused": "success", "failed": "failure", "skipped": "cancelled", "left out": "success", "cancelled": "cancelled",
    "error": "error",
}  # fmt: skip
_WORDS: Final[Mapping[JobState, str]] = {
    "waiting": "waits for other jobs", "blocked": "waits for people, or for its group", "queued": "waits for a worker",
    "running": "runs", "reused": "reused: nothing that it sees has changed",
}  # fmt: skip


class _Mark(NamedTuple):
    """A mark as it is to be. job: the place of the job that it links to; 0: it links to the run."""

    context: str
    state: StatusState
    description: str
    job: int = 0


def note_pipeline(connection: Connection, run: Run, moved: Moved, now: float) -> None:
    """Have the commit marked with what changed in this transaction."""
    if not run.trigger.commit or not run.trigger.context or moved.plan.is_run_otherwise:
        return
    if moved.is_news:
        _note_run(connection, run, moved, now)
    if moved.plan.statuses == "jobs":
        _note_jobs(connection, run, moved, now)
    _note_previews(connection, run, moved, now)


def of_job(pipeline: str, job: str) -> str:
    """The name of a job's mark. Of one that is too long, digits of its hash tell it from others. pipeline: its mark."""
    name = f"{pipeline}/{one_line(job)}"
    if len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]
    return f"{name[: _LONGEST - _DIGITS - 1]}~{digest}"


def _note_previews(connection: Connection, run: Run, moved: Moved, now: float) -> None:
    """Have the commit marked with what jobs want to be opened, as soon as it is there.

    Where jobs have marks of their own, an output that is called like one is told from it: no job's name ends so.
    """
    ended = (jobs.c.run == run.number, jobs.c.kind == "job", jobs.c.state.in_(HAVE_OUTCOME))
    wanted = select(jobs.c.place, jobs.c.result).where(*ended, jobs.c.result.contains(_PREVIEW, autoescape=True))
    found = connection.execute(wanted.order_by(jobs.c.place)).all()
    known = _last_states(connection, run) if found else {}
    names = {each.node.name for each in moved.graph} | moved.plan.left_out.keys()
    of_jobs = names if moved.plan.statuses == "jobs" else frozenset()
    for row in found:
        for name in previews_of(row.result):
            context = of_job(run.trigger.context, f"{name} preview" if name in of_jobs else name)
            if context not in known:
                known[context] = "success"
                add_status(connection, run, context, "success", preview_words(name), now, job=row.place)


def _note_run(connection: Connection, run: Run, moved: Moved, now: float) -> None:
    context = run.trigger.context
    wrong = culprit(moved.graph, run.state)
    is_unplanned = run.state == "failed" and not moved.graph
    has_nothing_to_do = not moved.graph and not is_unplanned
    if has_nothing_to_do and context in _marked_by_others(connection, run):
        return
    line = failed_line(connection, wrong.number) if wrong is not None and run.state == "failed" else ""
    job = wrong.place if wrong is not None else FIRST_PLACE if is_unplanned else 0
    told = _told(run, moved.graph, line, moved.plan.group)
    add_status(connection, run, context, state_of(run.state), told, now, job=job)


def _what_blocks(graph: Sequence[GraphRow], group: str) -> str:
    """Of a run that is blocked, by what. group: of the whole run."""
    blocked = [each.node for each in graph if each.node.state == "blocked"]
    asked = [node.name for node in blocked if node.is_gate]
    if asked:
        return f"waits for an answer: {', '.join(asked)}"
    groups = dict.fromkeys(node.group for node in blocked) or {group: None}
    return f"waits for {'group' if len(groups) == 1 else 'groups'} {', '.join(groups)}"


def _told(run: Run, graph: Sequence[GraphRow], line: str, group: str) -> str:
    if run.is_final and run.reason:
        return cut(one_line(with_line(run.reason.partition("\n")[0], line)))
    if run.state == "blocked":
        return cut(one_line(_what_blocks(graph, group)))
    count = f"{len(graph)} {'job' if len(graph) == 1 else 'jobs'}"
    told = f"{count} run" if not run.is_final else f"{run.state}: {count}"
    again = repeated(run.trigger.retry_of, run.trigger.by)
    return cut(one_line(f"{told} ({again})" if again else told))


def _note_jobs(connection: Connection, run: Run, moved: Moved, now: float) -> None:
    last = _last_states(connection, run)
    others = _marked_by_others(connection, run) if moved.is_news and moved.plan.left_out else frozenset()
    for mark in _marks_of_jobs(connection, run.trigger.context, moved, last, others):
        add_status(connection, run, mark.context, mark.state, mark.description, now, job=mark.job)


def _marks_of_jobs(
    connection: Connection, context: str, moved: Moved, last: Mapping[str, str], others: frozenset[str]
) -> Iterator[_Mark]:
    """Those that are not as they were. last: by name, the states that they have. others: names that other runs use."""
    for each in moved.graph:
        name, state = of_job(context, each.node.name), _state_of_job(each)
        if last.get(name) != state:
            yield _Mark(name, state, _told_of_job(connection, each), each.place)
    for job, reason in moved.plan.left_out.items() if moved.is_news else ():
        name = of_job(context, job)
        if name not in last and name not in others:
            yield _Mark(name, "success", cut(one_line(f"left out: {reason}")))


def _state_of_job(row: GraphRow) -> StatusState:
    node = row.node
    is_fine = (node.state == "failed" and node.may_fail) or (node.state == "skipped" and node.after == "failure")
    return "success" if is_fine else _OF_JOBS[node.state]


def _told_of_job(connection: Connection, row: GraphRow) -> str:
    node, reason = row.node, row.reason.partition("\n")[0]
    if node.state == "failed":
        told = with_line(reason or "failed", failed_line(connection, row.number))
        return cut(one_line(f"failed, which is allowed: {told}" if node.may_fail else told))
    if row.is_flaky:
        return "succeeded when it was tried again"
    words = _WORDS.get(node.state, str(node.state))
    return cut(one_line(f"{node.state}: {reason}" if reason and node.state not in _WORDS else words))


def _last_states(connection: Connection, run: Run) -> dict[str, str]:
    """By name, the newest states of the run's marks."""
    newest = select(func.max(statuses.c.id)).where(statuses.c.run == run.number).group_by(statuses.c.context)
    wanted = select(statuses.c.context, statuses.c.state).where(statuses.c.id.in_(newest))
    return {row.context: row.state for row in connection.execute(wanted)}


def _marked_by_others(connection: Connection, run: Run) -> frozenset[str]:
    """The names of the marks that other runs set at the commit."""
    of_commit = (statuses.c.project == run.project, statuses.c.commit == run.trigger.commit)
    wanted = select(statuses.c.context).where(*of_commit, statuses.c.run != run.number).distinct()
    return frozenset(connection.execute(wanted).scalars())
