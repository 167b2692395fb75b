"""Rehearsal of a restore: what it would do, without doing it (``shiplap restore --dry-run``).

All of the backup is read. Its tables go through the migrations into a database of their own, beside the service's.
Every file is hashed; keys and lists are decoded. The service is only read: nothing of it is made or changed.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import Table, func, select

from core.cancellation import check
from core.settings import ServiceSettings
from pipelines.database import Database
from pipelines.errors import BackupError, SchemaError
from pipelines.keeping.format import TABLES, opened
from pipelines.keeping.images import LIST as IMAGE_LIST
from pipelines.keeping.images import check_images
from pipelines.keeping.oldbackups import migrated_rows
from pipelines.keeping.repositories import MEMBERS as GIT_MEMBERS
from pipelines.keeping.repositories import member_refs, refs_of
from pipelines.keeping.restore import Saved, is_key
from pipelines.keys.keyring import check_content
from pipelines.sources.contexts import ContextEntry
from pipelines.sources.git import repositories

_HEX: Final = re.compile(r"[0-9a-f]{64}")
_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Exchange:
    """How many rows of a table a restore would replace, and by how many.

    before: None: the service has no such table yet, or none that this version can read.
    """

    table: str
    before: int | None
    after: int


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The outcome of a rehearsal.

    tables: each table that has rows before or after.
    new, same, other: repositories that do not exist yet; those with the same branches and tags; and those with others,
    which would be moved aside.
    images: how many manifests the registry would get; None: the backup has no images.
    """

    tables: tuple[Exchange, ...]
    new: tuple[str, ...]
    same: tuple[str, ...]
    other: tuple[str, ...]
    images: int | None


def rehearse(settings: ServiceSettings, saved: Saved) -> Rehearsal:
    """Rehearse a restore. Raises BackupError for anything that the restore would fail on."""
    after = _tables(saved)
    _check_files(saved.archive)
    before = _counts(settings)
    told = tuple(
        Exchange(table.name, None if before is None else before[table.name], after[table.name])
        for table in TABLES
        if after[table.name] or (before is not None and before[table.name])
    )
    new: list[str] = []
    same: list[str] = []
    other: list[str] = []
    top = repositories(settings)
    for name, refs in sorted(member_refs(saved.archive).items()):
        place = top / name
        if not place.exists() and not place.is_symlink():
            new.append(name)
        else:
            (same if refs_of(place) == refs else other).append(name)
    images = check_images(saved.archive) if IMAGE_LIST in saved.names else None
    return Rehearsal(told, tuple(new), tuple(same), tuple(other), images)


def _tables(saved: Saved) -> dict[str, int]:
    """Rows of each table after their migration. Today's tables go through it, too: that shows that they fit."""
    with (
        tempfile.TemporaryDirectory(prefix="shiplap-rehearsal-") as directory,
        migrated_rows(saved.archive, saved.header.schema, Path(directory)) as rows,
    ):
        return {table.name: sum(1 for _ in _asking(rows(table))) for table in TABLES}


def _asking(rows: Iterator[object]) -> Iterator[object]:
    for row in rows:
        check()
        yield row


def _check_files(archive: tarfile.TarFile) -> None:
    for member in archive:
        check()
        kind, _, name = member.name.partition("/")
        if kind == "blobs":
            if not _HEX.fullmatch(name) or _digest(archive, member) != name:
                raise BackupError(f"{member.name} in the backup is damaged: its content has another digest")
        elif kind == "manifests":
            msgspec.json.decode(opened(archive, member).read(), type=list[ContextEntry])
        elif is_key(kind):
            check_content(opened(archive, member).read(), f"{member.name} in the backup")
        elif kind == GIT_MEMBERS.rstrip("/") and not (member.isdir() or member.isreg() or member.issym()):
            raise BackupError(f"{member.name} in the backup is neither file, directory nor link")


def _digest(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    hashed, stream = hashlib.sha256(), opened(archive, member)
    while piece := stream.read(_PIECE_BYTES):
        check()
        hashed.update(piece)
    return hashed.hexdigest()


def _counts(settings: ServiceSettings) -> dict[str, int] | None:
    """Rows of the service's tables; None where there are none yet, or where they are of another version."""
    try:
        database = Database.open(settings)
    except SchemaError:
        return None
    try:
        with database.read() as connection:

            def count(table: Table) -> int:
                return int(connection.execute(select(func.count()).select_from(table)).scalar_one())

            return {table.name: count(table) for table in TABLES}
    finally:
        database.close()
