"""Projects: what runs belong to, with their limits, names of images, retention, and what their webhooks build."""

from __future__ import annotations

import re
import secrets as randomness
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from pipelines.changes import Change, compared
from pipelines.counters import remove_runs
from pipelines.database import Database
from pipelines.errors import ArchivedError, ConflictError, InvalidRequestError, NotFoundError
from pipelines.model import FINAL_STATES, HookSettings, Project
from pipelines.owning.grants import forget_grants
from pipelines.projects.borders import Borders
from pipelines.projects.checking import check_hook
from pipelines.projects.repositories import known_forge
from pipelines.projects.tags import check_template
from pipelines.schema import image_tags, job_times, projects, runs, secrets, test_histories
from pipelines.sealing.vault import Secrets

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,98}[a-z0-9])?")
_MIN_SECRET: Final = 16
_MAX_SECRET: Final = 500
MAX_WEIGHT: Final = 1000
TAKES_NOTHING: Final = "it takes no pushes, no images and no runs"
"""What that a project is archived means, for people."""
_hooks = msgspec.json.Decoder(HookSettings)


class Projects:
    """All projects. Thread-safe.

    vault: encrypts the secrets of webhooks, and the tokens for statuses.
    local: the directory whose repositories file URLs may name.
    borders: says which of these repositories are the project's.
    """

    def __init__(
        self,
        database: Database,
        vault: Secrets,
        borders: Borders,
        local: Path | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._database = database
        self._borders = borders
        self._local = local
        self._vault = vault

    def get(self, name: str) -> Project:
        """Raises NotFoundError."""
        return _from_row(self._row(name))

    def current(self) -> list[Project]:
        """Those that are not archived: what lists show."""
        return [project for project in self.list() if project.archived_at is None]

    def list(self) -> list[Project]:
        """All, archived ones too."""
        with self._database.read() as connection:
            return [_from_row(row) for row in connection.execute(select(projects).order_by(projects.c.name))]

    def archive(self, name: str) -> None:
        """Take nothing new for a project, and have it in no list of projects; its runs and images stay.

        May be done again.

        Raises NotFoundError, and ConflictError while one of its runs has not ended.
        """
        with self._database.write() as connection:
            this = projects.c.name == name
            # Whoever inserts a run holds this row by the run's foreign key until that is committed.
            row = connection.execute(select(projects).where(this).with_for_update()).first()
            if row is None:
                raise _unknown(name)
            _check_ended(connection, name)
            if row.archived_at is None:
                connection.execute(update(projects).where(this).values(archived_at=self._clock()))

    def unarchive(self, name: str) -> None:
        """Make an archived project one like others again. May be done again. Raises NotFoundError."""
        with self._database.write() as connection:
            this = update(projects).where(projects.c.name == name)
            if not connection.execute(this.values(archived_at=None)).rowcount:
                raise _unknown(name)

    def put(self, project: Project, *, seen: Project | None = None) -> tuple[Change, ...]:
        """Make the project or change its settings. Without a forge in them, the repository's well-known host decides.

        seen: the settings as they were when these were made of them; None: they count whatever is there.

        Returns what that changed; of a new project, what differs from a project without settings.

        Raises InvalidRequestError, DeniedError where they name another project's bare repository, and ConflictError
        where somebody has changed what was seen.
        """
        if project.hook.repository and not project.hook.forge:
            hook = msgspec.structs.replace(project.hook, forge=known_forge(project.hook.repository) or "")
            project = msgspec.structs.replace(project, hook=hook)
        if min(project.concurrency, project.keep_runs, project.keep_days) < 0:
            raise InvalidRequestError("concurrency, keep_runs and keep_days are 0 or more")
        if not 1 <= project.weight <= MAX_WEIGHT:
            raise InvalidRequestError(f"weight {project.weight} is not within 1 … {MAX_WEIGHT}")
        check_template(project.tag_template)
        check_hook(project.hook, self._local)
        with self._database.write() as connection:
            ensure_project(connection, project.name)
            self._borders.check_bare(connection, project.name, project.hook.repository)
            this = projects.c.name == project.name
            before = _from_row(connection.execute(select(projects).where(this).with_for_update()).one())
            if seen is not None and before != seen:
                raise ConflictError("somebody else changed these settings at the same moment", hint="save once more")
            connection.execute(update(projects).where(this).values(_values(project)))
            return compared(before, _from_row(connection.execute(select(projects).where(this)).one()))

    def remove(self, name: str) -> None:
        """Remove the project with its runs, their logs, its deliveries and secrets.

        Raises NotFoundError, and ConflictError while one of its runs has not ended.
        """
        with self._database.write() as connection:
            if connection.execute(select(projects.c.name).where(projects.c.name == name)).first() is None:
                raise _unknown(name)
            _check_ended(connection, name)
            remove_runs(connection, runs.c.project == name)
            connection.execute(delete(secrets).where(secrets.c.project == name))
            connection.execute(delete(image_tags).where(image_tags.c.project == name))
            connection.execute(delete(job_times).where(job_times.c.project == name))
            connection.execute(delete(test_histories).where(test_histories.c.project == name))
            forget_grants(connection, name)
            connection.execute(delete(projects).where(projects.c.name == name))

    def webhook_secret(self, name: str) -> bytes | None:
        """The secret that the forge signs with; None: it takes no webhooks. Raises NotFoundError, SecretError."""
        sealed = self._row(name).webhook_secret
        return None if sealed is None else self._vault.unseal(_webhook(name), bytes(sealed))

    def set_webhook_secret(self, name: str, secret: str = "") -> str:
        """Store a secret, a new random one if it is empty, and return it: it cannot be had again.

        Raises NotFoundError and InvalidRequestError.
        """
        text = secret or randomness.token_hex(24)
        if not _MIN_SECRET <= len(text) <= _MAX_SECRET or not text.isascii() or not text.isprintable():
            raise InvalidRequestError(
                f"a webhook's secret has {_MIN_SECRET} to {_MAX_SECRET} printable ASCII characters",
                hint="leave it out, and a random one is made",
            )
        self._store(name, webhook_secret=self._vault.seal(_webhook(name), text.encode()))
        return text

    def status_token(self, name: str) -> str:
        """The token by which commits are marked at the forge; empty for none. Raises NotFoundError, SecretError."""
        sealed = self._row(name).status_token
        return "" if sealed is None else self._vault.unseal(_status(name), bytes(sealed)).decode()

    def set_status_token(self, name: str, token: str) -> None:
        """Store a token; an empty one forgets the stored one. Raises NotFoundError and InvalidRequestError."""
        if len(token) > _MAX_SECRET or not token.isascii() or not token.isprintable():
            raise InvalidRequestError(f"a token has at most {_MAX_SECRET} printable ASCII characters")
        self._store(name, status_token=self._vault.seal(_status(name), token.encode()) if token else None)

    def _store(self, name: str, **values: bytes | None) -> None:
        with self._database.write() as connection:
            if not connection.execute(update(projects).where(projects.c.name == name).values(values)).rowcount:
                raise _unknown(name)

    def _row(self, name: str) -> Row[Any]:
        with self._database.read() as connection:
            row = connection.execute(select(projects).where(projects.c.name == name)).first()
        if row is None:
            raise _unknown(name)
        return row


def ensure_project(connection: Connection, name: str) -> None:
    """Make a project with default settings if it is new. Raises InvalidRequestError."""
    if not _NAME.fullmatch(name):
        raise InvalidRequestError(
            f"invalid project name {name[:100]!r}", hint="lower-case letters, digits, '.', '_' and '-', at most 100"
        )
    if connection.execute(select(projects.c.name).where(projects.c.name == name)).first() is None:
        try:
            with connection.begin_nested():
                connection.execute(insert(projects).values(_values(Project(name))))
        except IntegrityError:
            return  # somebody else was quicker


def check_takes_runs(connection: Connection, name: str) -> None:
    """Raises ArchivedError."""
    archived = select(projects.c.name).where(projects.c.name == name, projects.c.archived_at.is_not(None))
    if connection.execute(archived).first() is not None:
        raise ArchivedError(
            f"project {name} is archived: {TAKES_NOTHING}",
            hint=f"who maintains it can change that: shiplap project unarchive {name}",
        )


def _check_ended(connection: Connection, name: str) -> None:
    going = select(runs.c.number).where(runs.c.project == name, runs.c.state.not_in(FINAL_STATES))
    number = connection.execute(going.limit(1)).scalar()
    if number is not None:
        raise ConflictError(f"run {number} of project {name} has not ended", hint="cancel it first")


def _values(project: Project) -> dict[str, object]:
    return {
        "name": project.name,
        "concurrency": project.concurrency,
        "weight": project.weight,
        "tag_template": project.tag_template,
        "keep_runs": project.keep_runs,
        "keep_days": project.keep_days,
        "hook": msgspec.json.encode(project.hook).decode(),
        "keep_failed": project.keep_failed,
    }


def _from_row(row: Row[Any]) -> Project:
    return Project(
        row.name, row.concurrency, row.tag_template, row.keep_runs, row.keep_days, _hooks.decode(row.hook),
        row.webhook_secret is not None, row.status_token is not None, row.weight, row.keep_failed,
        row.archived_at,
    )  # fmt: skip


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(f"there is no project {name}")


def _webhook(name: str) -> str:
    return f"webhook of {name}"


def _status(name: str) -> str:
    return f"status token of {name}"
