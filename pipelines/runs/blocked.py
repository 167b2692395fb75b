"""Why jobs and runs are blocked, in words: by a question to people, or by a group that is full."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.engine import Connection

from pipelines.runs.gates import questions
from pipelines.runs.groups import why_waiting
from pipelines.schema import jobs, runs


def why_blocked(connection: Connection, numbers: Sequence[int]) -> dict[int, str]:
    """By the numbers of the blocked jobs of these runs, why each waits."""
    found = questions(connection, numbers)
    columns = (jobs.c.number, jobs.c.run, jobs.c.place, jobs.c.group_name, runs.c.project)
    wanted = select(*columns).join(runs, runs.c.number == jobs.c.run)
    wanted = wanted.where(jobs.c.run.in_(numbers), jobs.c.state == "blocked", jobs.c.group_name != "")
    for row in connection.execute(wanted).all():
        found[row.number] = why_waiting(connection, row.project, row.group_name, row.run, row.place)
    return found


def why_runs_are_blocked(connection: Connection, numbers: Sequence[int]) -> dict[int, str]:
    """By run that is blocked, what it waits for."""
    found: dict[int, str] = {}
    held = select(runs.c.number, runs.c.project, runs.c.group_name)
    for row in connection.execute(held.where(runs.c.number.in_(numbers), runs.c.group_state == "waiting")).all():
        found[row.number] = why_waiting(connection, row.project, row.group_name, row.number, 0)
    reasons = why_blocked(connection, [number for number in numbers if number not in found])
    told: dict[int, list[str]] = {}
    named = select(jobs.c.number, jobs.c.run, jobs.c.name).where(jobs.c.number.in_(reasons))
    for row in connection.execute(named.order_by(jobs.c.run, jobs.c.place)):
        told.setdefault(row.run, []).append(f"{row.name} {reasons[row.number]}")
    for run, texts in told.items():
        found[run] = texts[0] + (f", and {len(texts) - 1} more wait" if len(texts) > 1 else "")
    return found
