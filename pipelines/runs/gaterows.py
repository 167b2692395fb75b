"""The rows of gates, within the transactions of those who move a run on. Who may answer is ``pipelines.runs.gates``'.

A gate's row is made with its job. It is opened when its turn has come, and decided once: by people, by its time-out,
or because the run that this one repeats was approved with the very same content.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec.structs import replace
from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from ci.ends import JobOutcome
from ci.gates import question
from ci.model import Gate
from ci.planning import PlannedJob
from ci.reports.packing import unpacked
from pipelines.logs.lines import Kind, LogLine, encode_line, text_size
from pipelines.logs.store import store_lines
from pipelines.model import FIRST_PLACE, Trigger
from pipelines.schema import gates, job_reports, jobs, runs

Decision: TypeAlias = Literal["", "approved", "refused", "late"]

_triggers: Final = msgspec.json.Decoder(Trigger)
_MAX_SUMMARIES: Final = 256 << 10  # characters, of all jobs before a gate
_HAS_RESULT: Final = ("succeeded", "reused", "failed")


class CommitTold(msgspec.Struct, frozen=True):
    """A commit that an approver sees. author: as git has it, whom the committer chose."""

    id: str
    author: str
    title: str


class Changes(msgspec.Struct, frozen=True, omit_defaults=True):
    """What changed since the run that was approved last at this gate, as it was when this run was planned.

    run, commit: that was approved.
    commits: the newest first; of many the first ones.
    count: of all commits.
    files: how many differ.
    is_known: False: the two commits cannot be compared.
    """

    run: int
    commit: str
    commits: tuple[CommitTold, ...] = ()
    count: int = 0
    files: int = 0
    is_known: bool = True


class SummaryTold(msgspec.Struct, frozen=True):
    """What a job before the gate says of itself."""

    job: str
    text: str


class GateTerms(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a gate asks, of whom, and what it shows them.

    message: its ``${NAME}`` are replaced.
    is_open: but for exports of jobs before it, until its turn has come.
    by, not_author, timeout_s: as of ``ci.model.Gate``.
    changes: None: no run was approved here before.
    summaries: of jobs before it, once its turn has come.
    missing: secrets that jobs after it will not get, as it was when this run was planned; a sentence for each.
    """

    message: str
    is_open: bool = False
    by: tuple[str, ...] = ()
    not_author: bool = False
    timeout_s: float = Gate("").timeout_s
    changes: Changes | None = None
    summaries: tuple[SummaryTold, ...] = ()
    missing: tuple[str, ...] = ()


terms_of: Final = msgspec.json.Decoder(GateTerms)


def add_gate(connection: Connection, run: int, name: str, terms: GateTerms, taken_from: int) -> None:
    """Make the row of a gate. taken_from: the run whose approval its job has; 0: none."""
    number = connection.execute(select(jobs.c.number).where(jobs.c.run == run, jobs.c.name == name)).scalar_one()
    values: dict[str, object] = {"job": number, "terms": msgspec.json.encode(terms).decode()}
    if taken_from:
        columns = (gates.c.decision, gates.c.decided_by, gates.c.decided_at, gates.c.comment, gates.c.content)
        its = select(*columns, gates.c.taken_from).join(jobs, jobs.c.number == gates.c.job)
        row = connection.execute(its.where(jobs.c.run == taken_from, jobs.c.name == name)).first()
        if row is not None:  # else that run was removed in the meantime
            values |= {**row._mapping, "taken_from": row.taken_from or taken_from}
    connection.execute(insert(gates).values(values))


def open_gates(
    connection: Connection, opened: Mapping[int, Sequence[int]], facts: Mapping[str, str], now: float
) -> None:
    """Let these jobs' gates wait for people from now on. What they ask is settled by that, and is in their logs.

    opened: by the numbers of the gates' jobs, those of the jobs before each.
    facts: of the run.
    """
    columns = (gates.c.job, gates.c.terms, jobs.c.run, jobs.c.name, jobs.c.spec)
    wanted = select(*columns).join(jobs, jobs.c.number == gates.c.job)
    for row in connection.execute(wanted.where(gates.c.job.in_(opened))).all():
        terms = replace(terms_of.decode(row.terms), summaries=_summaries(connection, opened[row.job]))
        if terms.is_open:
            terms = replace(terms, message=_question(connection, row.run, row.spec, facts), is_open=False)
        due_at = now + terms.timeout_s
        values = {"terms": msgspec.json.encode(terms).decode(), "opened_at": now, "due_at": due_at}
        connection.execute(update(gates).where(gates.c.job == row.job).values(values))
        until = datetime.fromtimestamp(due_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        how = f"shiplap runs approve {row.run} {shlex.quote(row.name)}, or runs refuse, or the run's page"
        missing = [f"warning: when the run was planned, {each}" for each in terms.missing]
        told = [*terms.message.splitlines(), *missing, f"waits for an answer until {until}: {how}"]
        _log(connection, row.job, "output", told, now)


def _summaries(connection: Connection, before: Sequence[int]) -> tuple[SummaryTold, ...]:
    """What these jobs say of themselves, as far as there is room."""
    wanted = select(job_reports.c.name, job_reports.c.document).where(job_reports.c.job.in_(before))
    texts: dict[str, str] = {}
    for row in connection.execute(wanted.order_by(job_reports.c.job, job_reports.c.attempt)):
        reports = unpacked(row.document)
        if reports is not None and reports.summary:
            texts[row.name] = reports.summary
    found, left = [], _MAX_SUMMARIES
    for name, text in texts.items():
        left -= len(text)
        if left >= 0:
            found.append(SummaryTold(name, text))
    return tuple(found)


def _question(connection: Connection, run: int, spec: str, facts: Mapping[str, str]) -> str:
    """What a gate asks, with what jobs before it have exported."""
    ended = select(jobs.c.name, jobs.c.result).where(jobs.c.run == run, jobs.c.state.in_(("succeeded", "reused")))
    ended = ended.where(jobs.c.place > FIRST_PLACE)
    exports = {each.name: JobOutcome.from_json(each.result).exports for each in connection.execute(ended)}
    return question(PlannedJob.from_data(msgspec.json.decode(spec), facts), facts, exports)


def _log(connection: Connection, job: int, kind: Kind, texts: Sequence[str], now: float) -> None:
    """Append to the log of a gate, to which no worker writes."""
    first = connection.execute(select(jobs.c.lines).where(jobs.c.number == job)).scalar_one() + 1
    lines = [LogLine(n, kind, text, now) for n, text in enumerate(texts, first)]
    data = [(line.n, encode_line(line)) for line in lines]
    store_lines(connection, job, 0, data, [text_size(line.text) for line in lines])


def content_of(connection: Connection, run: int, commit: str, before: Sequence[str]) -> str:
    """A hash of what an approval is for: the commit, and what the jobs before the gate made.

    before: their names, in the order of the file.
    """
    wanted = select(jobs.c.name, jobs.c.state, jobs.c.result).where(jobs.c.run == run, jobs.c.name.in_(before))
    results = {row.name: row.result for row in connection.execute(wanted) if row.state in _HAS_RESULT}
    made = []
    for name in before:
        outcome = JobOutcome.from_json(results[name]) if name in results else JobOutcome("failed")
        made.append([name, str(outcome.outputs or ""), outcome.image, sorted(outcome.exports.items())])
    return hashlib.sha256(msgspec.json.encode([commit, made])).hexdigest()


def decide(
    connection: Connection,
    job: int,
    decision: Decision,
    told: str,
    now: float,
    *,
    by: str = "",
    comment: str = "",
    content: str = "",
) -> None:
    """End a gate's job. The caller holds the run, and calls ``follow_job`` then. told: why, for people."""
    decided = {"decision": decision, "decided_by": by, "decided_at": now, "comment": comment, "content": content}
    connection.execute(update(gates).where(gates.c.job == job).values(decided))
    end_job(connection, job, told, now, is_yes=decision == "approved")


def end_job(connection: Connection, job: int, told: str, now: float, *, is_yes: bool) -> None:
    """Write the end of a gate's job down."""
    outcome = JobOutcome("succeeded" if is_yes else "failed", told)
    values = {"state": outcome.state, "reason": told, "result": outcome.to_json(), "finished_at": now}
    _log(connection, job, "status", [told], now)
    connection.execute(update(jobs).where(jobs.c.number == job).values(values))


def take_over(connection: Connection, run: int, job: int, name: str, content: str, now: float) -> bool:
    """Approve a gate that was approved in the run that this one repeats, with the same content, not too long ago.

    The time of the approval stays: a run that repeats this one does not prolong it.
    """
    trigger = _triggers.decode(connection.execute(select(runs.c.trigger).where(runs.c.number == run)).scalar_one())
    if not trigger.retry_of:
        return False
    timeout_s = terms_of.decode(
        connection.execute(select(gates.c.terms).where(gates.c.job == job)).scalar_one()
    ).timeout_s
    before = select(gates).join(jobs, jobs.c.number == gates.c.job)
    before = before.where(jobs.c.run == trigger.retry_of, jobs.c.name == name, gates.c.decision == "approved")
    row = connection.execute(before.where(gates.c.content == content)).first()
    if row is None or row.decided_at + timeout_s <= now:
        return False
    origin = row.taken_from or trigger.retry_of
    its = {"decision": "approved", "decided_by": row.decided_by, "decided_at": row.decided_at, "comment": row.comment}
    this = update(gates).where(gates.c.job == job)
    connection.execute(this.values(**its, content=content, taken_from=origin))
    end_job(connection, job, approved_in(row.decided_by, origin), now, is_yes=True)
    return True


def approved_in(by: str, run: int) -> str:
    """Why a gate is open that was approved in another run."""
    return f"approved by {by} in run {run}, with the same content"
