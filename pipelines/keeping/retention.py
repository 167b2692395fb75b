"""Retention: runs are kept by the rules of their project, contexts as long as somebody may want them."""

from __future__ import annotations

from typing import Final

import msgspec
from sqlalchemy import select

from pipelines.counters import remove_runs
from pipelines.model import FINAL_STATES, ContextSource
from pipelines.runs.rows import run_from_row, select_runs
from pipelines.schema import runs
from pipelines.service import Service

_DAY_S: Final = 86400.0
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
        ended = select(runs.c.number).where(runs.c.project == project.name, runs.c.state.in_(FINAL_STATES))
        with service.database.write() as connection:
            newest = ended.order_by(runs.c.number.desc()).limit(project.keep_runs)
            kept = [row.number for row in connection.execute(newest)]
            if len(kept) < project.keep_runs:
                continue
            beyond = (
                runs.c.project == project.name,
                runs.c.state.in_(FINAL_STATES),
                runs.c.number < kept[-1],
                runs.c.finished_at < now - project.keep_days * _DAY_S,
            )
            removed += remove_runs(connection, *beyond)
    for swept in (
        service.tokens, service.sessions, service.sign_ins, service.throttle, service.audit, service.naming,
        service.output_tokens,
    ):  # fmt: skip
        swept.sweep()
    return Swept(removed, service.contexts.sweep(CONTEXTS_KEPT_S, _wanted(service)))


def _wanted(service: Service) -> frozenset[str]:
    """The contexts of runs that have not ended."""
    with service.database.read() as connection:
        going = connection.execute(select_runs().where(runs.c.state.in_(("queued", "running"))))
        sources = [run_from_row(row).source for row in going]
    return frozenset(source.context for source in sources if isinstance(source, ContextSource))
