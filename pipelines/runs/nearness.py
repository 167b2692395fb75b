"""Which jobs a worker should leave to the workers of another host: those whose layers or caches are there.

What a job needs may be on one host alone, because the registry was away when it was made. Such a job waits for that
host, as long as anything is heard of it. What is on two hosts, each alone, no host has: such a job waits a while for
them to send it, and then begins, to say what is missing. Any other job can be done anywhere. For a moment after it was
queued it is left to a host that has its layers or caches and a free place, and of several jobs of a run a worker takes
the nearest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import and_, func, select
from sqlalchemy.engine import Connection

from ci.graph import JobNode, jobs_before
from pipelines.model import FIRST_PLACE
from pipelines.runs.artifacts import ALIVE_S, has_several_hosts
from pipelines.runs.graphs import node_documents
from pipelines.schema import jobs, runs, workers

PATIENCE_S: Final = 1.0
"""How long a job is left to the host that has what it needs."""

SENT_WITHIN_S: Final = 300.0
"""So long a job waits for hosts to send what each of them alone has."""

_FREE_S: Final = 30.0  # since its last beat, by any clock
_LOOKED_BACK: Final = 1000
"""In so many runs, of all projects, it is looked for where a job ran last: nobody waits for a look at all of them."""


class _Known(NamedTuple):
    """A job of a run. has_layers: later jobs get something of it. keeps: it may have caches."""

    node: JobNode
    host: str
    left_at: str
    has_layers: bool
    keeps: bool


class Nearness:
    """For one worker, one look for a job. host: of the worker; empty: every job is as near as any other."""

    def __init__(self, connection: Connection, host: str, now: float) -> None:
        self._connection = connection
        self._host = host
        self._now = now
        self._runs: dict[int, dict[str, _Known]] = {}
        self._needs: dict[int, dict[str, frozenset[str]]] = {}
        self._counted: dict[int, Counter[str]] = {}
        self._matters: bool | None = None

    def is_bound_elsewhere(self, row: Any) -> bool:
        """Whether what the job needs is on another host alone, which is to be waited for."""
        if not self._may_matter(row):
            return False
        known = self._run(row.run)
        places = {known[name].left_at for name in self._before(row)} - {""}
        others = places - {self._host}
        if len(places) > 1 and self._now - row.queued_at >= SENT_WITHIN_S:
            return False
        return bool(others) and self._is_heard_of(others)

    def is_better_elsewhere(self, row: Any) -> bool:
        """Whether the job should be left to another host for now, which has a free place for it."""
        if not self._may_matter(row) or not 0 <= self._now - row.queued_at < PATIENCE_S:
            return False
        votes = self._votes(row)
        best = max(votes, key=lambda host: votes[host], default="")
        return bool(best) and votes[best] > votes[self._host] and self._has_room(best)

    def nearest(self, row: Any, equals: Sequence[Any]) -> Any:
        """Of jobs of one run, the one that has most of what it needs here; the first of several."""
        if not self._may_matter(row) or len(equals) < 2:
            return row
        return max(equals, key=lambda each: self._votes(each)[self._host])

    def _may_matter(self, row: Any) -> bool:
        if not self._host or row.kind != "job":
            return False
        if self._matters is None:
            self._matters = has_several_hosts(self._connection, self._now)
        return self._matters

    def _votes(self, row: Any) -> Counter[str]:
        """By host, of how many of the job's needs it has the layers, and whether it has the job's caches."""
        if row.number not in self._counted:
            known = self._run(row.run)
            votes = Counter(known[name].host for name in self._before(row) if known[name].has_layers)
            if row.name in known and known[row.name].keeps:
                votes[self._last_host(row)] += 1
            del votes[""]
            self._counted[row.number] = votes
        return self._counted[row.number]

    def _run(self, run: int) -> dict[str, _Known]:
        if run not in self._runs:
            columns = (jobs.c.name, jobs.c.node, jobs.c.host, jobs.c.left_at, jobs.c.result, jobs.c.state, jobs.c.spec)
            wanted = select(*columns).where(jobs.c.run == run, jobs.c.place > FIRST_PLACE)
            self._runs[run] = {
                row.name: _Known(
                    node_documents.decode(row.node),
                    row.host,
                    row.left_at,
                    '"outputs":' in (row.result or "") or '"image":' in (row.result or ""),
                    row.state == "queued" and '"caches":[' in row.spec,
                )
                for row in self._connection.execute(wanted)
            }
        return self._runs[run]

    def _before(self, row: Any) -> frozenset[str]:
        if row.run not in self._needs:
            self._needs[row.run] = jobs_before([each.node for each in self._run(row.run).values()])
        return self._needs[row.run].get(row.name, frozenset())

    def _last_host(self, row: Any) -> str:
        """Where a job of this name of the pipeline ran last; empty: not lately."""
        this = select(runs.c.project, runs.c.pipeline).where(runs.c.number == row.run).subquery()
        wanted = (
            select(jobs.c.host)
            .join(runs, runs.c.number == jobs.c.run)
            .join(this, and_(this.c.project == runs.c.project, this.c.pipeline == runs.c.pipeline))
            .where(runs.c.number.between(row.run - _LOOKED_BACK, row.run - 1))
            .where(jobs.c.name == row.name, jobs.c.state == "succeeded", jobs.c.host != "")
            .order_by(runs.c.number.desc())
            .limit(1)
        )
        return str(self._connection.execute(wanted).scalar() or "")

    def _is_heard_of(self, hosts: set[str]) -> bool:
        heard = select(workers.c.name).where(workers.c.host.in_(hosts), workers.c.heartbeat_at > self._now - ALIVE_S)
        return self._connection.execute(heard.limit(1)).first() is not None

    def _has_room(self, host: str) -> bool:
        """Whether a worker of the host could take a job now."""
        going = select(jobs.c.worker, func.count().label("count")).where(jobs.c.state == "running")
        going_by = going.group_by(jobs.c.worker).subquery()
        free = (
            select(workers.c.name)
            .outerjoin(going_by, going_by.c.worker == workers.c.name)
            .where(
                workers.c.host == host,
                workers.c.draining.is_(False),
                workers.c.heartbeat_at > self._now - _FREE_S,
                func.coalesce(going_by.c.count, 0) < workers.c.concurrency,
            )
        )
        return self._connection.execute(free.limit(1)).first() is not None
