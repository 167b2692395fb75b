"""What a host's store keeps for people, by project: outputs, and what failed jobs left for a shell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from sqlalchemy import select

from images.kept import Kept
from pipelines.database import Database
from pipelines.schema import runs

PUBLISHED: Final = "output/"
"""How the names of the store's rows begin that keep outputs for people; then come the run, the job and the output."""

FAILED: Final = "failed/"
"""How the names of rows begin that keep what failed jobs left; then come the run and the job."""

_AT_ONCE: Final = 500


def taken_by_project(database: Database, kept: Kept) -> Mapping[str, int]:
    """Bytes of what is kept here for people, by project; of runs that are not known any more, under an empty name.

    Raises DatabaseUnreachableError.
    """
    sizes: dict[int, int] = {}
    for prefix in (PUBLISHED, FAILED):
        for name, size in kept.sizes(prefix).items():
            number = int(name.split("/")[1])
            sizes[number] = sizes.get(number, 0) + size
    projects = projects_of(database, sizes)
    found: dict[str, int] = {}
    for number, size in sizes.items():
        project = projects.get(number, "")
        found[project] = found.get(project, 0) + size
    return found


def projects_of(database: Database, numbers: Iterable[int]) -> dict[int, str]:
    """By run, the project of those that are known. Raises DatabaseUnreachableError."""
    wanted = list(numbers)
    found: dict[int, str] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        some = select(runs.c.number, runs.c.project).where(runs.c.number.in_(wanted[start : start + _AT_ONCE]))
        with database.read() as connection:
            found.update({row.number: row.project for row in connection.execute(some)})
    return found
