"""Giving a project's default names to runs: decided when an image is pushed, and no name ever moves back.

A job takes its names in one transaction, and keeps others from taking them until it has ended. So when two runs push at
the same time, the newer one is the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import Connection, Row

from pipelines.database import Database
from pipelines.model import FINAL_STATES, Claim
from pipelines.projects.defaultnames import COMMIT_OWNER, Wanted, may_replace
from pipelines.runs.claims import fence
from pipelines.schema import image_tags, jobs, projects, runs

KEPT_COMMITS: Final = 10_000


class Taken(NamedTuple):
    """The names that a run took.

    tags: the run may push these now.
    left: names that a newer run has, or another thing, each with the number of the run that has it.
    """

    tags: tuple[str, ...]
    left: tuple[tuple[str, int], ...]


class Naming:
    """The default names of all projects. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def number_tag(self, project: str, number: int) -> str:
        """The run's own tag: its number, unless a version of the project has that name."""
        query = select(image_tags.c.run).where(image_tags.c.project == project, image_tags.c.tag == str(number))
        with self._database.read() as connection:
            return str(number) if connection.execute(query).first() is None else f"run-{number}"

    def take(self, claim: Claim, wanted: Sequence[Wanted]) -> Taken | None:
        """Give the run the names that it may have; None: another run is pushing one of them and has to end first.

        Raises StaleAttemptError.
        """
        project, number = claim.run.project, claim.run.number
        if not wanted:
            return Taken((), ())
        tags: list[Wanted] = []
        left: list[tuple[str, int]] = []
        with self._database.write() as connection:
            fence(connection, claim)
            this = projects.c.name == project
            connection.execute(update(projects).where(this).values(weight=projects.c.weight))  # one at a time
            rows = select(image_tags).where(
                image_tags.c.project == project, image_tags.c.tag.in_([each.tag for each in wanted])
            )
            held = {row.tag: row for row in connection.execute(rows)}
            for each in wanted:
                row = held.get(each.tag)
                if row is None or may_replace(each.owner, number, row.owner, row.run):
                    if row is not None and _is_pushing(connection, row, number):
                        return None
                    if each.tag.isdigit() and _is_going(connection, project, int(each.tag), number):
                        left.append((each.tag, int(each.tag)))
                    else:
                        tags.append(each)
                else:
                    left.append((each.tag, row.run))
            mine = [each.tag for each in tags]
            connection.execute(delete(image_tags).where(image_tags.c.project == project, image_tags.c.tag.in_(mine)))
            for each in tags:
                values = {"project": project, "tag": each.tag, "owner": each.owner}
                connection.execute(
                    insert(image_tags).values(**values, run=number, attempt=claim.attempt, job=claim.number)
                )
        return Taken(tuple(mine), tuple(left))

    def sweep(self) -> None:
        """Forget the oldest names of single commits: each run adds one of these, while all other names are few.

        As long as a commit is among the newest KEPT_COMMITS of a project, no other commit with the same digits gets its
        name.
        """
        with self._database.write() as connection:
            for project in connection.execute(select(projects.c.name)).scalars().all():
                of_commits = (image_tags.c.project == project) & image_tags.c.owner.startswith(COMMIT_OWNER)
                newest = select(image_tags.c.run, image_tags.c.tag).where(of_commits)
                newest = newest.order_by(image_tags.c.run.desc(), image_tags.c.tag)
                oldest = newest.offset(KEPT_COMMITS).limit(1)
                row = connection.execute(oldest).first()
                if row is not None:
                    connection.execute(delete(image_tags).where(of_commits, image_tags.c.run <= row.run))


def _is_pushing(connection: Connection, row: Row[Any], mine: int) -> bool:
    """Whether the job that has a name may still push it; the other jobs of its run are nobody's concern."""
    its = jobs.c.number == row.job if row.job else jobs.c.run == row.run
    here = select(jobs.c.number).where(its, jobs.c.attempt == row.attempt, jobs.c.state == "running")
    return row.run != mine and connection.execute(here).first() is not None


def _is_going(connection: Connection, project: str, number: int, mine: int) -> bool:
    """Whether the run with this number may still push under its number."""
    here = select(runs.c.number).where(
        runs.c.number == number, runs.c.project == project, runs.c.state.not_in(FINAL_STATES)
    )
    return number != mine and connection.execute(here).first() is not None
