"""Retention of what jobs output, in the service's registry: what no run has any more goes, and what is out of date.

The rows of ``artifacts`` say what is wanted. They go with their run, which retention removes, or with its project.
Whoever sends something pushes first and writes the row then, so what was pushed lately is not looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import select
from sqlalchemy.engine import Connection

from core.cancellation import check
from pipelines.database import Database
from pipelines.runs.artifacts import is_wanted, output_tag, run_of_tag
from pipelines.schema import artifacts, jobs, runs

if TYPE_CHECKING:
    from registry.server.registry import Registry

GRACE_S: Final = 3600.0
"""How old what is collected is at least."""


def collect_outputs(database: Database, registry: Registry, now: float) -> int:
    """Remove what is wanted no more. Returns how many artifacts went.

    The registry's next collection frees their space. Raises DatabaseUnreachableError, StorageFullError.
    """
    from registry.server import owned

    gone, before = 0, now - GRACE_S
    for repository, name in owned.repositories(registry):
        for digests in owned.manifests(registry, repository, before):
            check()
            with database.read() as connection:
                wanted = _wanted(connection, name, digests, now)
            left = [digest for digest in digests if digest not in wanted]
            if left:
                gone += owned.remove(registry, repository, left, (), before)
        for tags in owned.tags(registry, repository, before):
            check()
            with database.read() as connection:
                known = _wanted_tags(connection, name, tags, now)
            old = [tag for tag in tags if tag not in known]
            if old:
                owned.remove(registry, repository, (), old, before)
    return gone


def _wanted(connection: Connection, repository: str, digests: list[str], now: float) -> set[str]:
    found = (
        select(artifacts.c.manifest)
        .join(jobs, jobs.c.number == artifacts.c.job)
        .join(runs, runs.c.number == jobs.c.run)
        .where(artifacts.c.repository == repository, artifacts.c.manifest.in_(digests), is_wanted(now))
    )
    return set(connection.execute(found).scalars())


def _wanted_tags(connection: Connection, repository: str, tags: list[str], now: float) -> set[str]:
    numbers = {number for tag in tags if (number := run_of_tag(tag)) is not None}
    found = (
        select(jobs.c.run, jobs.c.place, artifacts.c.name, artifacts.c.repository)
        .join(artifacts, jobs.c.number == artifacts.c.job)
        .join(runs, runs.c.number == jobs.c.run)
        .where(jobs.c.run.in_(numbers), artifacts.c.kind == "output", is_wanted(now))
    )
    # Asked for by the query, SQLite would read all rows of the repository for each few tags.
    rows = (row for row in connection.execute(found) if row.repository == repository)
    return {output_tag(row.run, row.place, row.name) for row in rows}
