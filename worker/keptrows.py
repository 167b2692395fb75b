"""How long a worker's host keeps what the jobs of runs made: until the run has ended, and a while more.

A job's row says it from before the transaction that tells of the job. The end of the run is not known then, and the row
is kept for as long as the run may take. Whoever ends it, a worker on another host, the reaper or somebody who cancels
it, has no store here. So each host looks now and then which of its runs have ended.
"""

from __future__ import annotations

import time
from typing import Final

from sqlalchemy import select

from images.kept import Kept
from pipelines.database import Database
from pipelines.model import FINAL_STATES
from pipelines.schema import runs

KEPT_S: Final = 7 * 86400.0
"""How long what a run's jobs made stays after the run has ended: for retries."""

_ENDING_S: Final = 86400.0  # more than what cleans up may take after the run's time is over
_PREFIX: Final = "run/"
_AT_ONCE: Final = 500


def kept_name(run: int, job: str) -> str:
    """The row of the store that keeps what a job of a run made."""
    return f"{_PREFIX}{run}/{job}"


def kept_until(late_at: float) -> float:
    """Until when to keep what a run's jobs make while it goes on. late_at: when its time is over.

    However long nothing runs, by then it has ended. Its real end shortens that.
    """
    return max(time.time(), late_at) + _ENDING_S + KEPT_S


def settle_kept(database: Database, kept: Kept) -> None:
    """Keep what ended runs made for KEPT_S from their end. A run that is not known keeps what it had.

    The database may have been restored as it was before the run. Raises DatabaseUnreachableError.
    """
    rows: dict[int, list[str]] = {}
    for name in kept.names(_PREFIX):
        rows.setdefault(int(name.split("/")[1]), []).append(name)
    numbers = list(rows)
    for start in range(0, len(numbers), _AT_ONCE):
        some = numbers[start : start + _AT_ONCE]
        ended = select(runs.c.number, runs.c.finished_at).where(runs.c.number.in_(some))
        with database.read() as connection:
            found = connection.execute(ended.where(runs.c.state.in_(FINAL_STATES))).all()
        for run in found:
            kept.shorten(rows[run.number], run.finished_at + KEPT_S)
