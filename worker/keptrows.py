"""How long a worker's host keeps what the jobs of runs made: until the run has ended, and a while more.

A job's row says it from before the transaction that tells of the job. The end of the run is not known then, and the row
is kept for as long as the run may take. A run that waits for people takes longer than that: as long as it has not
ended, its rows' time is moved on. Whoever ends it, a worker on another host, the reaper or somebody who cancels
it, has no store here. So each host looks now and then which of its runs have ended, and which are gone: those that
retention removed, and those of a removed project.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import select

from images.kept import Kept
from pipelines.database import Database
from pipelines.model import FINAL_STATES
from pipelines.runs.artifacts import KEPT_S
from pipelines.runs.keptoutputs import FAILED, PUBLISHED, projects_of
from pipelines.runs.numbers import newest_run
from pipelines.schema import runs

_ENDING_S: Final = 86400.0  # more than what cleans up may take after the run's time is over
_PREFIX: Final = "run/"
_BASE: Final = "below-failed/"
_AT_ONCE: Final = 500


def kept_name(run: int, job: str) -> str:
    """The row of the store that keeps what a job of a run made."""
    return f"{_PREFIX}{run}/{job}"


def published_name(run: int, job: str, output: str) -> str:
    """The row of the store that keeps an output for people: as long as its file says, whatever becomes of the run."""
    return f"{PUBLISHED}{run}/{job}/{output}"


def failed_name(run: int, job: str) -> str:
    """The row of the store that keeps what a failed job itself wrote, for a shell in it."""
    return f"{FAILED}{run}/{job}"


def failed_base_name(run: int, job: str) -> str:
    """The row that keeps what that lies on: images and files that others have, too, and that no quota counts."""
    return f"{_BASE}{run}/{job}"


def drop_failed(database: Database, kept: Kept, project: str) -> None:
    """Keep no longer what failed jobs of a project left for shells. Raises DatabaseUnreachableError."""
    numbers = _by_run(kept.names(FAILED))
    for run, of in projects_of(database, numbers).items():
        if of == project:
            kept.drop([*kept.names(f"{FAILED}{run}/"), *kept.names(f"{_BASE}{run}/")])


def kept_until(late_at: float, now: float) -> float:
    """Until when to keep what a run's jobs make while it goes on. late_at: when its time is over.

    Its real end shortens that.
    """
    return max(now, late_at) + _ENDING_S + KEPT_S


def settle_kept(database: Database, kept: Kept, now: float) -> None:
    """Keep what ended runs made for KEPT_S from their end, and what others made until long after now.

    What removed runs made is kept no longer, outputs for people neither. A run that is newer than all that the database
    knows of keeps what it had: the database may have been restored as it was before the run.
    Raises DatabaseUnreachableError.
    """
    rows = _by_run(kept.names(_PREFIX))
    others = [*kept.names(PUBLISHED), *kept.names(FAILED)]
    _drop_of_removed(database, kept, {**rows, **_by_run(others)})
    numbers = list(rows)
    for start in range(0, len(numbers), _AT_ONCE):
        some = numbers[start : start + _AT_ONCE]
        wanted = select(runs.c.number, runs.c.state, runs.c.finished_at, runs.c.late_at)
        with database.read() as connection:
            found = connection.execute(wanted.where(runs.c.number.in_(some))).all()
        for run in found:
            if run.state in FINAL_STATES:
                kept.shorten(rows[run.number], run.finished_at + KEPT_S)
            else:
                kept.prolong(rows[run.number], kept_until(run.late_at or 0.0, now))


def _by_run(names: Iterable[str]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for name in names:
        found.setdefault(int(name.split("/")[1]), []).append(name)
    return found


def _drop_of_removed(database: Database, kept: Kept, numbers: Iterable[int]) -> None:
    """Drop all rows of runs that are gone. The newest number is asked for first: a run that is added then is not."""
    newest, wanted = newest_run(database), sorted(numbers)
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        with database.read() as connection:
            known = set(connection.execute(select(runs.c.number).where(runs.c.number.in_(some))).scalars())
        for run in some:
            if run not in known and run <= newest:
                for prefix in (_PREFIX, PUBLISHED, FAILED, _BASE):
                    kept.drop(kept.names(f"{prefix}{run}/"))
