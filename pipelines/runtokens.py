"""The credential by which a run's worker uses the service's registry: one for each attempt, and good only during it.

A token is made when a worker claims the run, and kept as a hash in the run's row, where the next claim replaces it. So
it is fenced by the attempt and ends with it; there is nothing to revoke. Runs of what strangers wrote get none.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets as randomness
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import select
from sqlalchemy.engine import Connection, Row

from pipelines.database import Database
from pipelines.grants import Grant, covers, has_grant, images_of
from pipelines.ownership import COMMONS, owner_of
from pipelines.schema import projects, runs

_KNOWN_BY: Final = 20  # hexadecimal digits
_TOKEN: Final = re.compile(r"shp_run_(\d{1,18})_[A-Za-z0-9_-]{43}")


class RunRights(msgspec.Struct, frozen=True):
    """What a running attempt may do in the service's registry, as of now.

    known: by what the token is known, which opens nothing.
    projects: names of projects: of the run's own, and of all others where it has what is no other's.
    given: image repositories that are not its own.
    """

    run: int
    known: str
    project: str
    projects: frozenset[str]
    given: tuple[Grant, ...]

    def covers(self, repository: str, action: str) -> bool:
        """Whether it may ``pull`` from or ``push`` to the repository; ``delete`` nowhere."""
        if action not in ("pull", "push"):
            return False
        if owner_of(repository, self.projects.__contains__) == self.project:
            return True
        return covers(self.given, repository, push=action == "push")


class SourceRights(NamedTuple):
    """What a running attempt may do with one project's bare repositories: fetch, or nothing."""

    run: int
    may_read: bool


class RunTokens:
    """Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def log_in(self, text: str) -> RunRights | None:
        """Whose token it is; None for what is none, or none any more."""
        match = _TOKEN.fullmatch(text)
        if match is None:
            return None
        with self._row(int(match[1])) as (connection, row):
            if row is None or not hmac.compare_digest(row.token, _hash(text)):
                return None
            return _rights(connection, row)

    def source(self, text: str, project: str) -> SourceRights | None:
        """What whose token it is may do with a project's bare repositories; None for what is no token (any more)."""
        match = _TOKEN.fullmatch(text)
        if match is None:
            return None
        with self._row(int(match[1])) as (connection, row):
            if row is None or not hmac.compare_digest(row.token, _hash(text)):
                return None
            may_read = row.project == project or has_grant(connection, row.project, "bare", project)
            return SourceRights(row.number, may_read)

    def standing(self, run: int, known: str) -> RunRights | None:
        """The rights of the attempt whose token is known so; None once it has ended."""
        with self._row(run) as (connection, row):
            return _rights(connection, row) if row is not None and _known(row.token) == known else None

    @contextmanager
    def _row(self, run: int) -> Iterator[tuple[Connection, Any]]:
        wanted = select(runs.c.number, runs.c.project, runs.c.token).where(
            runs.c.number == run, runs.c.state == "running", runs.c.token != ""
        )
        with self._database.read() as connection:
            yield connection, connection.execute(wanted).first()


def new_token(run: int) -> tuple[str, str]:
    """A token, and the hash by which the run's row knows it."""
    text = f"shp_run_{run}_{randomness.token_urlsafe(32)}"
    return text, _hash(text)


def _rights(connection: Connection, row: Row[Any]) -> RunRights:
    names = connection.execute(select(projects.c.name)).scalars() if row.project == COMMONS else (row.project,)
    given = tuple(images_of(connection, row.project))
    return RunRights(row.number, _known(row.token), row.project, frozenset(names), given)


def _known(token_hash: str) -> str:
    return token_hash[:_KNOWN_BY]


def _hash(text: str) -> str:
    """Tokens have 256 random bits, so a plain hash is as good as a slow one."""
    return hashlib.sha256(text.encode()).hexdigest()
