"""The format of a backup: a tar with a header, tables as JSON lines, contexts, repositories, images, and an end mark.

shiplap-backup.json     Header; the first member
secret.key, …-N         the keys of secrets, the current one first
tables/NAME.jsonl       a row a line, bytes as {"base64": …}; of one moment
manifests/…, blobs/…    contexts
git/…                   repositories (``pipelines.keeping.repositories``)
registry.json, images/  the built-in registry's (``pipelines.keeping.images``)
shiplap-backup.end      the last member: a file without it was cut off. Since 0.2.0
"""

from __future__ import annotations

import base64
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, Final

import msgspec
from sqlalchemy import Table, insert
from sqlalchemy.engine import Connection

from core.release import VERSION
from pipelines.errors import BackupError
from pipelines.schema import (
    approvals,
    audit,
    contexts,
    counters,
    deliveries,
    gates,
    grants,
    heads,
    image_tags,
    job_reports,
    job_times,
    jobs,
    log_chunks,
    made_images,
    metadata,
    project_day_times,
    project_days,
    project_roles,
    projects,
    registry_logins,
    run_images,
    run_secrets,
    run_texts,
    runs,
    schedules,
    secrets,
    shells,
    statuses,
    steps,
    test_failures,
    test_histories,
    tokens,
    user_settings,
    users,
)

TABLES: Final = (  # each after those that it refers to
    projects, runs, jobs, gates, run_images, job_reports, test_failures, run_secrets, steps, log_chunks, users, tokens,
    secrets, contexts, counters, audit, deliveries, approvals, statuses, registry_logins, grants, project_roles,
    image_tags, schedules, shells, heads, project_days, project_day_times, user_settings, job_times,
    made_images, test_histories, run_texts,
)  # fmt: skip
BATCH_ROWS: Final = 200
HEADER: Final = "shiplap-backup.json"
END: Final = "shiplap-backup.end"
KEY: Final = "secret.key"
TABLE_MEMBERS: Final = "tables/"
TABLE_ENDING: Final = ".jsonl"
FORMAT: Final = 1

LEFT_OUT: Final = (
    "users and access tokens of the registry alone (shiplap registry user)",
    "who is signed in",
    "the build cache, and the images in workers' stores",
    "Redis",
)
"""The tables that no backup has. All but the first can be made again, or make themselves."""
NO_IMAGES: Final = "the images of the built-in registry (shiplap backup --images)"

_MAX_LINE_BYTES: Final = 128 << 20


class Header(msgspec.Struct, frozen=True):
    """The first member of a backup.

    schema: the migration that the tables fit.
    release: the Shiplap that wrote it; "" before 0.2.0.
    commit: the one that this Shiplap was built from; "" where nobody knew.
    at: the time of the backup, in seconds since the epoch; 0: unknown.
    """

    schema: str
    format: int = 1
    release: str = ""
    commit: str = ""
    at: float = 0.0

    @property
    def by(self) -> str:
        """Who wrote it, for people."""
        return f"Shiplap {self.release}" if self.release else "a Shiplap before 0.2.0"


def read_header(archive: tarfile.TarFile, known: list[str]) -> Header:
    """The header of a backup that this version can restore. known: the schemas that it can migrate from.

    Raises BackupError for one of a newer version, and for one that was cut off.
    """
    header = msgspec.json.decode(opened(archive, HEADER).read(), type=Header)
    if header.format != FORMAT or header.schema not in known:
        raise BackupError(
            f"the backup was made by {header.by} (schema {header.schema}), "
            f"this is Shiplap {VERSION} (schema {known[-1]})",
            hint=f"restore it with {f'Shiplap {header.release}' if header.release else 'the version that made it'}, "
            "or a newer one",
        )
    if header.release and END not in archive.getnames():
        raise BackupError("the backup was cut off: its end is missing", hint="take another copy of it, or another one")
    return header


def opened(archive: tarfile.TarFile, name: str | tarfile.TarInfo) -> IO[bytes]:
    """A member's content. Raises KeyError, BackupError."""
    file = archive.extractfile(name)
    if file is None:
        raise BackupError(f"{name} in the backup is no file")
    return file


def table_name(member: str) -> str | None:
    """The table whose rows a member has; None for other members."""
    inside = member.startswith(TABLE_MEMBERS) and member.endswith(TABLE_ENDING)
    return member.removeprefix(TABLE_MEMBERS).removesuffix(TABLE_ENDING) if inside else None


def rows_of(archive: tarfile.TarFile, table: str) -> Iterator[dict[str, object]]:
    """The rows of a table as the backup has them. Raises KeyError where it has no such table."""
    stream = opened(archive, f"{TABLE_MEMBERS}{table}{TABLE_ENDING}")
    while line := stream.readline(_MAX_LINE_BYTES):
        yield from_json(line)


def insert_rows(connection: Connection, table: Table, rows: Iterable[Mapping[str, object]]) -> None:
    """Insert rows, some at a time: a log has millions."""
    batch = []
    for row in rows:
        batch.append(dict(row))
        if len(batch) >= BATCH_ROWS:
            connection.execute(insert(table), batch)
            batch = []
    if batch:
        connection.execute(insert(table), batch)


def to_json(row: Any) -> dict[str, object]:
    """A row of the database as JSON can hold it."""
    return {
        name: {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes | memoryview) else value
        for name, value in row.items()
    }


def from_json(line: bytes) -> dict[str, object]:
    """The reverse of ``to_json``, from a line."""
    row = msgspec.json.decode(line, type=dict[str, Any])
    return {
        name: base64.b64decode(value["base64"]) if isinstance(value, dict) else value for name, value in row.items()
    }


# Not in it: who works, who is signed in, what passes by itself, as what failed jobs left; who sent which files, for
# these are sent again; what the registry has of outputs, for it may be lost; the key's number, for the key itself is;
# how full disks were, and which backups were made.
_PASSING: Final = {
    "key_numbers", "senders", "workers", "worker_faults", "sessions", "sign_in_links", "oidc_sign_ins", "throttle",
    "artifacts", "output_tokens", "failed_files", "disk_samples", "backups",
}  # fmt: skip
assert {table.name for table in TABLES} == metadata.tables.keys() - _PASSING
