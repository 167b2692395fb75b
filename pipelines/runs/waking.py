"""Waking workers for jobs that wait: whoever let a job wait says so after its commit, the reaper what got lost."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Final

import msgspec
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from pipelines.database import Database
from pipelines.errors import DatabaseUnreachableError, QueueUnreachableError
from pipelines.runs.faults import is_due
from pipelines.runs.queue import Queue
from pipelines.runs.shares import going_by_project, turns
from pipelines.schema import jobs, projects

_log: Final = logging.getLogger(__name__)


def wake(database: Database, queue: Queue) -> None:
    """Send the messages that are missing for jobs that wait. What cannot be sent now, the reaper sends."""
    try:
        queue.top_up(waiting(database))
    except (QueueUnreachableError, DatabaseUnreachableError) as error:
        _log.warning("the reaper has to wake the workers for what waits: %s", error)


def waiting(database: Database, now: float | None = None) -> dict[tuple[str, ...], list[int]]:
    """The runs of the queued jobs by the labels that those ask for, those to be claimed first at the front.

    Leaves out jobs that may not start yet, because of their project's concurrency or a pause after a fault. A message
    for such a job would be for nothing, and another one would have to follow each second.
    """
    moment = time.time() if now is None else now
    with database.read() as connection:
        due = select(jobs.c.number, jobs.c.worker_labels).where(jobs.c.state == "queued", is_due(moment))
        labels_of = {row.number: row.worker_labels for row in connection.execute(due)}
        in_order = turns(connection)
        room = _room_in_projects(connection)
    found: dict[tuple[str, ...], list[int]] = {}
    counted: Counter[tuple[str, str]] = Counter()  # for each set of labels: nobody knows whose worker comes first
    for number, run, project, _ in in_order:
        labels = labels_of.get(number)
        if labels is None:
            continue
        counted[project, labels] += 1
        if project not in room or counted[project, labels] <= room[project]:
            found.setdefault(msgspec.json.decode(labels, type=tuple[str, ...]), []).append(run)
    return found


def _room_in_projects(connection: Connection) -> dict[str, int]:
    """How many more jobs each project may have going; those without a limit are left out."""
    going = going_by_project()
    room = projects.c.concurrency - func.coalesce(going.c.count, 0)
    limited = select(projects.c.name, room).outerjoin(going, going.c.project == projects.c.name)
    return {row[0]: row[1] for row in connection.execute(limited.where(projects.c.concurrency > 0))}
