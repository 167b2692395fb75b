"""Faults of machines: pauses between attempts, other workers first, and workers that are sick.

A job that failed by a machine's fault waits before it is tried again, longer each time. Then another worker has it
first. A worker is *sick* when SICK_AFTER different jobs in a row failed there by such a fault, unless others fail so,
too: a job that failed at another worker as well says nothing about this one. A sick worker takes nothing. After a
pause, longer each time, it takes one job as a trial. The first job that goes well makes the worker well, whether the
job's steps succeed or fail.

Times are wall-clock times. A time that lies further ahead than any pause comes from a clock that was set: it holds
nobody up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, update
from sqlalchemy.engine import Connection

from pipelines.schema import jobs, worker_faults, workers

Blame: TypeAlias = Literal["worker", "elsewhere"]
"""Whose fault it may be that an attempt failed: its worker's, or that of a server which it needs."""

SICK_AFTER: Final = 3
_PAUSE_S: Final = 3.0
_LONGEST_PAUSE_S: Final = 300.0
_OTHERS_FIRST_S: Final = 60.0
_TRIAL_AFTER_S: Final = 20.0
_ALIVE_S: Final = 60.0  # since its last beat, by any clock: others wait no longer for a worker that may be dead
_WHY_LENGTH: Final = 300
_names: Final = msgspec.json.Decoder(tuple[str, ...])


class Sickness(NamedTuple):
    """Why a worker takes nothing, for people; and from when on it may take one job as a trial."""

    why: str
    trial_at: float


class Colleague(NamedTuple):
    """Another worker that is alive and well."""

    name: str
    labels: frozenset[str]


def pause_s(attempt: int) -> float:
    """How long a job waits after an attempt that failed by a machine's fault. attempt: from 1."""
    return float(min(_PAUSE_S * 4.0 ** min(attempt - 1, 9), _LONGEST_PAUSE_S))


def is_due(now: float) -> ColumnElement[bool]:
    """Whether the next attempt at a job may begin."""
    return or_(jobs.c.not_before <= now, jobs.c.not_before > now + _LONGEST_PAUSE_S)


def note_fault(connection: Connection, job: int, worker: str, why: str, blame: Blame, now: float) -> None:
    """Note that a machine's fault ended the attempt at ``job``: the next one is later, and for another worker."""
    row = connection.execute(select(jobs.c.attempt, jobs.c.failed_on).where(jobs.c.number == job)).one()
    failed_on = sorted({*_names.decode(row.failed_on), worker})
    connection.execute(
        update(jobs)
        .where(jobs.c.number == job)
        .values(failed_on=msgspec.json.encode(failed_on).decode(), not_before=now + pause_s(row.attempt))
    )
    if blame == "worker":
        this = (worker_faults.c.worker == worker, worker_faults.c.job == job)
        values = {"at": now, "why": why[:_WHY_LENGTH]}
        again = update(worker_faults).where(*this).values(times=worker_faults.c.times + 1, **values)
        if not connection.execute(again).rowcount:
            connection.execute(insert(worker_faults).values(worker=worker, job=job, times=1, **values))


def note_well(connection: Connection, worker: str) -> None:
    """Note that the worker has done a job to its end."""
    connection.execute(delete(worker_faults).where(worker_faults.c.worker == worker))


def sicknesses(connection: Connection, *which: ColumnElement[bool]) -> dict[str, Sickness]:
    """The sick workers by name. which: conditions on ``worker_faults``, to look at fewer."""
    rows = connection.execute(
        select(worker_faults, jobs.c.failed_on, jobs.c.run)
        .join(jobs, jobs.c.number == worker_faults.c.job)
        .where(*which)
        .order_by(worker_faults.c.at)
    ).all()
    own: dict[str, list[Any]] = {}
    for row in rows:
        if set(_names.decode(row.failed_on)) <= {row.worker}:
            own.setdefault(row.worker, []).append(row)
    return {name: _sickness(faults) for name, faults in own.items() if len(faults) >= SICK_AFTER}


def sickness(connection: Connection, worker: str) -> Sickness | None:
    """Why this worker is sick; None for one that is well."""
    return sicknesses(connection, worker_faults.c.worker == worker).get(worker)


def has_a_trial(connection: Connection, worker: str) -> bool:
    """Whether the worker has a job that began after the worker's last fault."""
    last = select(func.max(worker_faults.c.at)).where(worker_faults.c.worker == worker).scalar_subquery()
    trial = select(jobs.c.number).where(jobs.c.state == "running", jobs.c.worker == worker, jobs.c.started_at >= last)
    return connection.execute(trial.limit(1)).first() is not None


def may_try(found: Sickness, now: float) -> bool:
    """Whether it is time for a trial."""
    return now >= found.trial_at or found.trial_at > now + _LONGEST_PAUSE_S


def colleagues(connection: Connection, worker: str, now: float) -> list[Colleague]:
    """The other workers that could have a job."""
    beat = and_(workers.c.heartbeat_at > now - _ALIVE_S, workers.c.draining.is_(False), workers.c.name != worker)
    alive = connection.execute(select(workers.c.name, workers.c.labels).where(beat)).all()
    sick = sicknesses(connection, worker_faults.c.worker != worker)
    return [Colleague(row.name, frozenset(_names.decode(row.labels))) for row in alive if row.name not in sick]


def is_others(
    worker: str, labels: frozenset[str], failed_on: str, not_before: float, others: Iterable[Colleague], now: float
) -> bool:
    """Whether a colleague who has not tried the job should have it, after it failed here.

    True only for a while, for all colleagues may be busy.
    labels, failed_on, not_before: of the job.
    """
    tried = _names.decode(failed_on)
    if worker not in tried or now >= not_before + _OTHERS_FIRST_S:
        return False
    return any(other.name not in tried and labels <= other.labels for other in others)


def later(waiting: Mapping[int, float], run: int, now: float) -> float:
    """How many seconds the run still has to wait before its next attempt. waiting: ``not_before`` by number."""
    left = waiting.get(run, 0.0) - now
    return left if 0 < left <= _LONGEST_PAUSE_S else 0.0


def _sickness(faults: Sequence[Any]) -> Sickness:
    """faults: rows, the last one at the end."""
    last = faults[-1]
    times = sum(fault.times for fault in faults)
    pause = min(_TRIAL_AFTER_S * 2.0 ** min(times - SICK_AFTER, 9), _LONGEST_PAUSE_S)
    told = f"{len(faults)} runs in a row failed by the machine's fault, the last, run {last.run}: {last.why}"
    return Sickness(told, last.at + pause)
