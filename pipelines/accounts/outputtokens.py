"""Tokens by which workers send what jobs output to the service's registry, and fetch it from there.

A worker makes one when it sends or fetches something: the job itself never sees it, and it is good for an hour at most.
It opens one repository, that of the run's domain, so that a fork's pull request reaches what it made itself and nothing
else. It outlives the attempt: what could not be sent when the job ended is sent later. It goes with the run.
"""

from __future__ import annotations

import hashlib
import re
import secrets as randomness
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy.engine import Row
from sqlalchemy.exc import IntegrityError

from core.trust import Domain
from pipelines.database import Database
from pipelines.errors import StaleAttemptError
from pipelines.owning.ownership import COMMONS, is_outputs, outputs_of, owner_of
from pipelines.schema import output_tokens

GOOD_FOR_S: Final = 3600.0
_KNOWN_BY: Final = 20  # hexadecimal digits
_TOKEN: Final = re.compile(r"shp_out_[A-Za-z0-9_-]{43}")


class OutputRights(msgspec.Struct, frozen=True):
    """The rights of a token.

    known: a short name of the token, which opens nothing.
    repository: may be read and written.
    project: whose images may be read, too, so that the registry mounts their layers. Empty: of none, as for forks, and
    for ``default``, whose images are whatever no other project has.
    """

    known: str
    repository: str
    project: str = ""

    def covers(self, repository: str, action: str) -> bool:
        """Whether its bearer may ``pull`` from or ``push`` to the repository; it may ``delete`` nowhere."""
        if repository == self.repository:
            return action in ("pull", "push")
        if action != "pull" or not self.project or is_outputs(repository):
            return False
        return owner_of(repository, self.project.__eq__) == self.project


class OutputTokens:
    """All of these tokens. Thread-safe. clock: seconds since the epoch."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def create(self, job: int, domain: Domain) -> str:
        """A token for what jobs of this domain output. job: the number of the one for which it is needed.

        Raises DatabaseUnreachableError, and StaleAttemptError for a job that was removed.
        """
        text = f"shp_out_{randomness.token_urlsafe(32)}"
        values = {
            "hash": _hash(text),
            "job": job,
            "repository": outputs_of(domain),
            "project": "" if domain.is_fork or domain.project == COMMONS else domain.project,
            "expires_at": self._clock() + GOOD_FOR_S,
        }
        try:
            with self._database.write() as connection:
                connection.execute(insert(output_tokens).values(values))
        except IntegrityError:
            raise StaleAttemptError(f"job {job} is gone: it was removed with its run, or with its project") from None
        return text

    def forget(self, text: str) -> None:
        """Let a token open nothing any more. Raises DatabaseUnreachableError."""
        with self._database.write() as connection:
            connection.execute(delete(output_tokens).where(output_tokens.c.hash == _hash(text)))

    def log_in(self, text: str) -> OutputRights | None:
        """The rights of a token; None for a text that is none (any more)."""
        if not _TOKEN.fullmatch(text):
            return None
        return self._rights(output_tokens.c.hash == _hash(text))

    def standing(self, known: str) -> OutputRights | None:
        """The rights of the token with this short name; None once it opens nothing."""
        if len(known) != _KNOWN_BY or not known.isascii() or not known.isalnum():
            return None
        return self._rights(output_tokens.c.hash.startswith(known))

    def sweep(self) -> None:
        """Forget tokens whose time is over."""
        with self._database.write() as connection:
            connection.execute(delete(output_tokens).where(output_tokens.c.expires_at < self._clock()))

    def _rights(self, which: Any) -> OutputRights | None:
        wanted = select(output_tokens).where(which, output_tokens.c.expires_at > self._clock())
        with self._database.read() as connection:
            row: Row[Any] | None = connection.execute(wanted).first()
        return None if row is None else OutputRights(row.hash[:_KNOWN_BY], row.repository, row.project)


def _hash(text: str) -> str:
    """Tokens have 256 random bits, so a plain hash is as good as a slow one."""
    return hashlib.sha256(text.encode()).hexdigest()
