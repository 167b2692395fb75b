"""Tokens of runs: by one, a run's worker uses the service's registry. Each attempt has its own, good only during it.

A token is made when a worker claims a job of the run. The job's row keeps its hash, and the next claim replaces that.
So the token is fenced by the attempt and ends with it; there is nothing to revoke. Runs of strangers' code get none.

One thing outlives the attempt: a run that succeeded may still have its part of the build cache to write. Until its
worker has done that (``forget``), but for CACHE_S at most, its token writes the project's cache, and reads the
project's images, whose layers the cache shares. It opens nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets as randomness
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import and_, or_, select, update
from sqlalchemy.engine import Connection, Row

from pipelines.database import Database
from pipelines.owning.grants import Grant, covers, has_grant, images_of
from pipelines.owning.ownership import COMMONS, is_cache, is_outputs, owner_of
from pipelines.schema import jobs, projects, runs

CACHE_S: Final = 600.0
"""How long a token may write the cache after its run's end."""

_KNOWN_BY: Final = 20  # hexadecimal digits
_TOKEN: Final = re.compile(r"shp_run_(\d{1,18})_[A-Za-z0-9_-]{43}")


class RunRights(msgspec.Struct, frozen=True):
    """The rights of a running attempt in the service's registry, as of now.

    job: the number of the attempt's job.
    known: a short name of the token, which opens nothing.
    projects: names of the run's own project, and of all others while it has what belongs to nobody.
    given: image repositories that are not the project's own.
    ended: the run has succeeded, and only its part of the build cache is left to be written.
    """

    job: int
    known: str
    project: str
    projects: frozenset[str]
    given: tuple[Grant, ...]
    ended: bool = False

    def covers(self, repository: str, action: str) -> bool:
        """Whether the attempt may ``pull`` from or ``push`` to the repository; it may ``delete`` nowhere.

        What jobs output is no image: workers reach it by ``pipelines.accounts.outputtokens``, and no build ever does.
        Nor is the local store's content, which has no name: all projects' builds left it there.
        """
        if action not in ("pull", "push") or not repository or is_outputs(repository):
            return False
        if owner_of(repository, self.projects.__contains__) == self.project:
            return not self.ended or action == "pull" or is_cache(repository)
        if self.ended:
            return False
        return covers(self.given, repository, push=action == "push")


class SourceRights(NamedTuple):
    """The rights of a running attempt to one project's bare repositories: fetch, or nothing. run: its number."""

    run: int
    may_read: bool


class RunTokens:
    """The tokens of all runs. Thread-safe. clock: seconds since the epoch."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def log_in(self, text: str) -> RunRights | None:
        """The rights of this token's attempt; None for a text that is no token (any more)."""
        match = _TOKEN.fullmatch(text)
        if match is None:
            return None
        with self._row(int(match[1])) as (connection, row):
            if row is None or not hmac.compare_digest(row.token, _hash(text)):
                return None
            return _rights(connection, row)

    def source(self, text: str, project: str) -> SourceRights | None:
        """What this token's attempt may do with a project's bare repositories; None: it is no token (any more)."""
        match = _TOKEN.fullmatch(text)
        if match is None:
            return None
        with self._row(int(match[1])) as (connection, row):
            if row is None or row.state != "running" or not hmac.compare_digest(row.token, _hash(text)):
                return None
            may_read = row.project == project or has_grant(connection, row.project, "bare", project)
            return SourceRights(row.run, may_read)

    def standing(self, job: int, known: str) -> RunRights | None:
        """The rights of the attempt whose token has this short name; None once the attempt has ended."""
        with self._row(job) as (connection, row):
            return _rights(connection, row) if row is not None and _known(row.token) == known else None

    def forget(self, job: int, attempt: int) -> None:
        """Let the token of a job that has ended open nothing any more. Raises DatabaseUnreachableError."""
        with self._database.write() as connection:
            forget_token(connection, job, attempt)

    @contextmanager
    def _row(self, job: int) -> Iterator[tuple[Connection, Any]]:
        writes_cache = and_(jobs.c.state == "succeeded", jobs.c.finished_at > self._clock() - CACHE_S)
        wanted = select(jobs.c.number, jobs.c.run, runs.c.project, jobs.c.token, jobs.c.state).where(
            jobs.c.number == job, jobs.c.token != "", or_(jobs.c.state == "running", writes_cache)
        )
        wanted = wanted.join_from(jobs, runs, runs.c.number == jobs.c.run)
        with self._database.read() as connection:
            yield connection, connection.execute(wanted).first()


def new_token(job: int) -> tuple[str, str]:
    """A token, and the hash by which the job's row knows it."""
    text = f"shp_run_{job}_{randomness.token_urlsafe(32)}"
    return text, _hash(text)


def forget_token(connection: Connection, job: int, attempt: int) -> None:
    """``RunTokens.forget`` in the caller's transaction."""
    connection.execute(update(jobs).where(jobs.c.number == job, jobs.c.attempt == attempt).values(token=""))


def _rights(connection: Connection, row: Row[Any]) -> RunRights:
    names = connection.execute(select(projects.c.name)).scalars() if row.project == COMMONS else (row.project,)
    given = tuple(images_of(connection, row.project))
    ended = row.state != "running"
    return RunRights(row.number, _known(row.token), row.project, frozenset(names), given, ended)


def _known(token_hash: str) -> str:
    return token_hash[:_KNOWN_BY]


def _hash(text: str) -> str:
    """Tokens have 256 random bits, so a plain hash is as good as a slow one."""
    return hashlib.sha256(text.encode()).hexdigest()
