"""The state of a run follows its jobs', in the transaction that changes that; and who takes which row first.

Where a transaction takes rows of both tables, it takes the run's row before those of its jobs. All do it in this order,
so no two of them wait for each other for ever. Whoever takes jobs alone, to renew a lease or to store lines of a log,
needs no run. On SQLite a transaction that writes is alone anyway.
"""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from pipelines.model import FIRST_PLACE, Run
from pipelines.runs.graphs import move_on
from pipelines.runs.marks import note_pipeline
from pipelines.runs.rollups import note_end
from pipelines.runs.rows import run_from_row, select_runs
from pipelines.schema import jobs, runs
from pipelines.sealing.vault import forget_secrets_of_run
from pipelines.statuses.outbox import note_state


def hold_run(connection: Connection, run: int) -> None:
    """Hold a run for this transaction, before it takes any of the run's jobs."""
    connection.execute(select(runs.c.number).where(runs.c.number == run).with_for_update(key_share=True))


def hold_run_of(connection: Connection, job: int) -> None:
    """``hold_run`` by the number of a job."""
    its = select(jobs.c.run).where(jobs.c.number == job).scalar_subquery()
    connection.execute(select(runs.c.number).where(runs.c.number == its).with_for_update(key_share=True))


def follow_job(connection: Connection, run: int, now: float) -> Run:
    """Give the run the state that its jobs make now that one of them has changed, and have its commit marked with that.

    In a pipeline the jobs go on whose turn it is then. Returns the run as it is now.
    """
    its = {
        name: select(jobs.c[name]).where(jobs.c.run == run, jobs.c.place == FIRST_PLACE).scalar_subquery()
        for name in ("state", "finished_at")
    }
    alone = update(runs).where(runs.c.number == run, runs.c.pipeline == "").values(its)
    moved = None if connection.execute(alone).rowcount == 1 else move_on(connection, run, now)
    found = run_from_row(connection.execute(select_runs().where(runs.c.number == run)).one())
    if found.is_final:
        forget_secrets_of_run(connection, run)
    if moved is None:
        note_state(connection, found, now)
    else:
        note_pipeline(connection, found, moved, now)
    if found.is_final:  # last, for whoever ends another run waits from here on
        note_end(connection, found)
    return found
