"""Retention: runs are kept by the rules of their project, contexts as long as somebody may want them."""

from __future__ import annotations

from typing import Final

import msgspec
from sqlalchemy import select

from pipelines.counters import remove_runs
from pipelines.database import Database
from pipelines.model import FINAL_STATES, ContextSource, Project
from pipelines.runs.rows import run_from_row, select_runs
from pipelines.schema import runs
from pipelines.service import Service

_DAY_S: Final = 86400.0
_AT_ONCE: Final = 200  # runs that a transaction removes
CONTEXTS_KEPT_S: Final = 7 * _DAY_S
"""How long an uploaded context is kept after its last use, for retries and for uploads of what changed."""


class Swept(msgspec.Struct, frozen=True):
    """How many runs and contexts were removed."""

    runs: int
    contexts: int


def sweep(service: Service, now: float) -> Swept:
    """Remove what is out of date.

    That is: runs beyond both limits of their project, unless that is archived, with steps and logs; contexts out of
    use; and old rows of every other table that grows.
    """
    removed = 0
    for project in service.projects.list():
        if not project.keep_runs or not project.keep_days or project.archived_at is not None:
            continue
        removed += _remove_old(service.database, project, now)
    for swept in (
        service.tokens, service.sessions, service.sign_ins, service.throttle, service.audit, service.naming,
        service.output_tokens,
    ):  # fmt: skip
        swept.sweep()
    return Swept(removed, service.contexts.sweep(CONTEXTS_KEPT_S, _wanted(service)))


def _remove_old(database: Database, project: Project, now: float) -> int:
    """Remove a project's runs that are beyond both limits, the oldest first. Returns how many.

    Some at a time: whoever else writes waits for each transaction, on SQLite to anything, else to the totals.
    """
    ended = select(runs.c.number).where(runs.c.project == project.name, runs.c.state.in_(FINAL_STATES))
    with database.read() as connection:
        newest = ended.order_by(runs.c.number.desc()).offset(project.keep_runs - 1).limit(1)
        last_kept = connection.execute(newest).scalar()
    if last_kept is None:
        return 0
    old = ended.where(runs.c.number < last_kept, runs.c.finished_at < now - project.keep_days * _DAY_S)
    removed = 0
    while True:
        with database.write() as connection:
            numbers = connection.scalars(old.order_by(runs.c.number).limit(_AT_ONCE)).all()
            removed += remove_runs(connection, runs.c.number.in_(numbers)) if numbers else 0
        if len(numbers) < _AT_ONCE:
            return removed


def _wanted(service: Service) -> frozenset[str]:
    """The contexts of runs that have not ended."""
    with service.database.read() as connection:
        going = connection.execute(select_runs().where(runs.c.state.in_(("queued", "running"))))
        sources = [run_from_row(row).source for row in going]
    return frozenset(source.context for source in sources if isinstance(source, ContextSource))
