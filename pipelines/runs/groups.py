"""Groups of jobs and runs on a service: who waits, who has a place, and the hand-over to whoever comes next.

A hand-over is a transaction of its own, right after the one that freed a place; where that process was killed, it is
the reaper's. It holds the project, so that two of them never give one place twice, and then the run of whom it gives
the place to. Nobody who holds a run waits for a project. A place is free with the transaction that ends a job or a run,
whoever ends it: there is no list of places that could differ from what goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.engine import Connection

from ci.groups import Member, Turn, turn
from pipelines.database import Database
from pipelines.errors import DatabaseUnreachableError
from pipelines.runs.graphs import node_documents, plans, stop_jobs, stop_pipeline
from pipelines.runs.states import follow_job, hold_run
from pipelines.schema import jobs, projects, runs

_log = logging.getLogger(__name__)
_OF_A_GROUP: Final = ("blocked", "queued", "running")


class Group(NamedTuple):
    """A group of a project."""

    project: str
    name: str


class _Placed(NamedTuple):
    """A member, and what it is called. job: its number; 0: it is a whole run."""

    member: Member
    job: int
    name: str


def hand_over(database: Database, now: float, project: str | None = None) -> int:
    """Give free places to those who wait for them, and end what gives way to newer ones. Returns how often.

    project: the only one that is looked at.
    """
    with database.read() as connection:
        found = _waiting(connection, project)
    done = 0
    for group in found:
        while _one(database, group, now):
            done += 1
    return done


def hand_over_at_once(database: Database, now: float, project: str) -> None:
    """``hand_over`` after a transaction that may have freed a place. What it cannot do now, the reaper does."""
    try:
        hand_over(database, now, project)
    except DatabaseUnreachableError as error:
        _log.warning("groups of project %s are left to the reaper: %s", project, error)


def why_waiting(connection: Connection, project: str, name: str, run: int, place: int) -> str:
    """What a member of a group waits for, in words. place: of its job; 0: the whole run waits."""
    placed = _members(connection, Group(project, name))
    holding = [each for each in placed if not each.member.is_waiting]
    ahead = sum(each.member.is_waiting and each.member[:2] < (run, place) for each in placed)
    if not holding:
        return f"is about to get its place in group {name}"
    shown = ", ".join(_shown(each, run) for each in holding[:3])
    more = f" and {len(holding) - 3} more" if len(holding) > 3 else ""
    behind = f", behind {ahead} that {'waits' if ahead == 1 else 'wait'} longer" if ahead else ""
    return f"waits for group {name}, held by {shown}{more}{behind}"


def _shown(placed: _Placed, run: int) -> str:
    if placed.member.run == run:
        return placed.name or "this run"
    return f"{placed.name} of run {placed.member.run}" if placed.name else f"run {placed.member.run}"


def _waiting(connection: Connection, project: str | None) -> Sequence[Group]:
    """The groups in which somebody waits."""
    of_it: list[ColumnElement[bool]] = [] if project is None else [runs.c.project == project]
    of_jobs = select(runs.c.project, jobs.c.group_name).join(jobs, jobs.c.run == runs.c.number)
    of_jobs = of_jobs.where(jobs.c.state == "blocked", jobs.c.group_name != "", *of_it)
    of_runs = select(runs.c.project, runs.c.group_name).where(runs.c.group_state == "waiting", *of_it)
    return [Group(*row) for row in connection.execute(of_jobs.union(of_runs))]


def _one(database: Database, group: Group, now: float) -> bool:
    """Do one thing in a group. Returns whether there was one to do."""
    with database.write() as connection:
        held = select(projects.c.name).where(projects.c.name == group.project)
        connection.execute(held.with_for_update(key_share=True))
        placed = {each.member: each for each in _members(connection, group)}
        found = turn(placed)
        if found.next is not None:
            _give(connection, placed[found.next], now)
            return True
        gives_way = (*found.replaced, *found.ended)
        if gives_way:
            _end(connection, placed[gives_way[0]], group, found, now)
            return True
    return False


def _give(connection: Connection, placed: _Placed, now: float) -> None:
    """Let somebody begin who waits. Whoever ended or cancelled it in the meantime was first."""
    run = placed.member.run
    hold_run(connection, run)
    if placed.job:
        this = (jobs.c.number == placed.job, jobs.c.state == "blocked")
        changed = connection.execute(update(jobs).where(*this).values(state="queued", queued_at=now))
    else:
        its = (runs.c.number == run, runs.c.group_state == "waiting")
        changed = connection.execute(update(runs).where(*its).values(group_state="held"))
    if changed.rowcount:
        follow_job(connection, run, now)


def _end(connection: Connection, placed: _Placed, group: Group, found: Turn, now: float) -> None:
    """Let somebody give way to the newest of a group."""
    assert found.newest is not None, "because of it they give way"
    run = placed.member.run
    hold_run(connection, run)
    why = f"gave way to run {found.newest.run} in group {group.name}"
    if placed.job:
        stop_jobs(connection, run, [placed.name], why)
    else:
        stop_pipeline(connection, run, why)
    follow_job(connection, run, now)


def _members(connection: Connection, group: Group) -> list[_Placed]:
    """All who wait for a place, or have one, in the order of their turns."""
    columns = (jobs.c.number, jobs.c.run, jobs.c.place, jobs.c.name, jobs.c.state, jobs.c.node, jobs.c.stop)
    of_jobs = select(*columns, runs.c.stop.label("run_stop")).join(runs, runs.c.number == jobs.c.run)
    of_jobs = of_jobs.where(jobs.c.state.in_(_OF_A_GROUP), jobs.c.group_name == group.name)
    of_runs = select(runs.c.number, runs.c.group_state, runs.c.plan, runs.c.stop)
    of_runs = of_runs.where(runs.c.group_state != "", runs.c.group_name == group.name)
    found = [_of_job(row) for row in connection.execute(of_jobs.where(runs.c.project == group.project))]
    for row in connection.execute(of_runs.where(runs.c.project == group.project)):
        plan = plans.decode(row.plan)
        is_waiting = row.group_state == "waiting"
        member = Member(row.number, 0, is_waiting, bool(row.stop), plan.group_limit, plan.when_busy)
        found.append(_Placed(member, 0, ""))
    return sorted(found)


def _of_job(row: Any) -> _Placed:
    node = node_documents.decode(row.node)
    is_ending = bool(row.stop or row.run_stop)
    member = Member(row.run, row.place, row.state == "blocked", is_ending, node.limit, node.when_busy)
    return _Placed(member, row.number, row.name)
