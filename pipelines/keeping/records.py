"""Which backups were made, by whom and where they went: for whoever asks when the last one was."""

from __future__ import annotations

import contextlib
from typing import Any, Final

import msgspec
from sqlalchemy import delete, func, insert, select
from sqlalchemy.engine import Row

from core.settings import ServiceSettings
from pipelines.database import Database
from pipelines.errors import PipelineError
from pipelines.schema import backups

_KEPT: Final = 100
_LONGEST: Final = 500


class MadeBackup(msgspec.Struct, frozen=True):
    """A backup that was made, or one that failed.

    at: when it was begun, in seconds since the epoch. took_s: how long it took.
    by: a user's or a token's name; "" for the command on a host.
    place: where it went, for people: a path, and the host that has it.
    images: whether the registry's images are in it.
    error: why it failed; "" for one that is whole.
    """

    at: float
    took_s: float
    by: str
    place: str
    size_bytes: int
    images: bool
    error: str = ""


def note_backup(settings: ServiceSettings, made: MadeBackup) -> None:
    """Keep this; a database that does not take it does not make the backup worse."""
    values = msgspec.structs.asdict(made)
    values |= {name: values[name][:_LONGEST] for name in ("place", "error")} | {"by": made.by[:200]}
    with (
        contextlib.suppress(PipelineError),
        contextlib.closing(Database.open(settings)) as database,
        database.write() as connection,
    ):
        connection.execute(insert(backups).values(values))
        newest = connection.execute(select(func.max(backups.c.id))).scalar_one()
        connection.execute(delete(backups).where(backups.c.id <= newest - _KEPT))


def made_backups(database: Database, limit: int = 10) -> list[MadeBackup]:
    """The newest first, those that failed, too."""
    with database.read() as connection:
        rows = connection.execute(select(backups).order_by(backups.c.id.desc()).limit(limit)).all()
    return [_from_row(row) for row in rows]


def last_whole(database: Database) -> MadeBackup | None:
    """The newest one that is whole; None: there is none."""
    wanted = select(backups).where(backups.c.error == "").order_by(backups.c.id.desc()).limit(1)
    with database.read() as connection:
        row = connection.execute(wanted).first()
    return None if row is None else _from_row(row)


def _from_row(row: Row[Any]) -> MadeBackup:
    return MadeBackup(row.at, row.took_s, row.by, row.place, row.size_bytes, row.images, row.error)
