"""Backups of every schema that there has been, of newer ones, cut-off and damaged ones; and what a restore would do."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, create_engine, insert, text
from sqlalchemy.types import Boolean, Float, Integer, LargeBinary

from core.release import VERSION
from core.settings import ServiceSettings
from pipelines.database import known_schemas, upgrade
from pipelines.errors import BackupError, SecretError
from pipelines.keeping.backup import backup, restore, stream_backup
from pipelines.keeping.format import TABLES, to_json
from pipelines.keeping.rehearsal import Exchange, Rehearsal, rehearse
from pipelines.keeping.restore import Saved
from pipelines.service import Service
from tests.toolkit.git import git
from tests.toolkit.service import upload

_PROJECT: dict[str, object] = {"name": "web", "tag_template": "{registry}/web:{number}"}
_RUN: dict[str, object] = {
    "project": "web", "state": "succeeded", "source": '{"type":"git","url":"https://git.example/x"}', "options": "{}",
    "worker_labels": "[]", "max_attempts": 3, "attempt": 1, "result": None,
}  # fmt: skip
_JOB: dict[str, object] = {
    "run": 1, "place": 1, "kind": "build", "state": "succeeded", "spec": "{}", "worker_labels": "[]", "result": None,
}  # fmt: skip
_DEFAULTS: dict[str, dict[str, object]] = {
    "runs": _RUN, "jobs": _JOB,
    "projects": _PROJECT, "tokens": {"scopes": "build"}, "secrets": {"project": "", "name": "key"},
    "users": {"role": "admin"}, "steps": {"run": 1}, "log_chunks": {"run": 1, "data": b"\0", "line_count": 0},
    "run_secrets": {"run": 1}, "approvals": {"project": "web"}, "deliveries": {"project": "web"},
    "statuses": {"run": 1, "project": "web"}, "contexts": {"digest": f"sha256:{'0' * 64}"},
    "project_roles": {"project": "web"}, "schedules": {"project": "web"}, "image_tags": {"project": "web", "run": 1},
    "project_days": {"project": "web"}, "project_day_times": {"project": "web"}, "user_settings": {"user": "name"},
}  # fmt: skip
_OLD = known_schemas()[:-1]  # each is migrated beside the database, which then gets the newest
_JSON = ("hook", "trigger", "settings", "payload")


def row_of(table: Any) -> dict[str, object]:
    """Something for each column that needs it; of JSON, an empty object."""
    row: dict[str, object] = {}
    for column in table.columns:
        if column.server_default is not None:
            continue
        if column.nullable:
            row[column.name] = None
        elif isinstance(column.type, LargeBinary):
            row[column.name] = b"\x00\xff"
        elif isinstance(column.type, Boolean):
            row[column.name] = False
        elif isinstance(column.type, Integer):
            row[column.name] = 1
        elif isinstance(column.type, Float):
            row[column.name] = 1_700_000_000.0
        else:
            row[column.name] = "{}" if column.name in _JSON else column.name
    known = _DEFAULTS.get(table.name, {})
    return {**row, **{name: value for name, value in known.items() if name in row}}


def old_backup(schema: str, file: Path) -> list[str]:
    """A backup as the version of this schema wrote it: a row in each table; which tables those are."""
    engine = create_engine(f"sqlite:///{file}.db")
    names = []
    with engine.connect() as connection, tarfile.open(file, "w") as archive:
        upgrade(connection, schema)
        metadata = MetaData()
        metadata.reflect(connection)
        add(archive, "shiplap-backup.json", json.dumps({"schema": schema, "format": 1}).encode())
        add(archive, "secret.key", b"k" * 32)
        for table in TABLES:
            if table.name in metadata.tables:
                old = metadata.tables[table.name]
                connection.execute(insert(old), [row_of(old)])
                rows = connection.execute(old.select()).mappings()
                lines = b"".join(json.dumps(to_json(row)).encode() + b"\n" for row in rows)
                add(archive, f"tables/{table.name}.jsonl", lines)
                names.append(table.name)
    engine.dispose()
    return names


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def changed(file: Path, change: Callable[[str, bytes], bytes | None], *, end: int | None = None) -> Path:
    """A copy of a backup with other contents; None leaves a member out. end: how many members it keeps."""
    made = file.with_name("changed.tar")
    with tarfile.open(file) as archive, tarfile.open(made, "w") as copy:
        for member in archive.getmembers()[:end]:
            if not member.isreg():
                copy.addfile(member)
                continue
            stream = archive.extractfile(member)
            assert stream is not None
            data = change(member.name, stream.read())
            if data is not None:
                add(copy, member.name, data)
    return made


def as_it_is(name: str, data: bytes) -> bytes:
    return data


def rehearsed(settings: ServiceSettings, file: Path) -> Rehearsal:
    with file.open("rb") as stream, Saved.reading(stream, str(file)) as saved:
        return rehearse(settings, saved)


@pytest.mark.parametrize(
    ("settings", "schema"),
    [*(("sqlite", schema) for schema in _OLD), ("postgresql", _OLD[0]), ("postgresql", _OLD[-1])],
    indirect=["settings"],
)
def test_backup_of_an_older_schema_is_migrated(
    service: Service, settings: ServiceSettings, tmp_path: Path, schema: str
) -> None:
    names = old_backup(schema, tmp_path / "old.tar")
    assert restore(settings, tmp_path / "old.tar") == []
    assert [run.number for run in service.runs.list()] == [1]
    assert service.projects.get("web").tag_template == "{registry}/web:{number}"
    with service.database.read() as connection:
        for table in TABLES:
            if table.name in names:
                assert len(connection.execute(table.select()).all()) >= 1, table.name
    if schema < "0008":  # what that migration makes of what projects could use, it makes of a backup, too
        assert service.grants.has("web", "secret", "key")
    assert not list((settings.root / "serve").glob(".restoring-*"))


def test_backup_of_an_older_schema_that_does_not_fit_it_changes_nothing(
    service: Service, settings: ServiceSettings, tmp_path: Path
) -> None:
    service.secrets.put("mine", b"correct horse")
    old_backup("0003", tmp_path / "old.tar")

    def spoil(name: str, data: bytes) -> bytes:
        return data.replace(b'"project"', b'"ptoject"') if name == "tables/runs.jsonl" else data

    with pytest.raises(BackupError, match="table runs does not fit its schema") as caught:
        restore(settings, changed(tmp_path / "old.tar", spoil))
    assert "git.example" not in str(caught.value)
    assert service.secrets.reveal(["mine"]) == {"mine": b"correct horse"}
    assert not list((settings.root / "serve").glob(".restoring-*"))


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"schema": "9999", "release": "7.1.0"}, r"made by Shiplap 7\.1\.0 \(schema 9999\)"),
        ({"schema": "9999"}, r"made by a Shiplap before 0\.2\.0 \(schema 9999\)"),
        ({"schema": known_schemas()[-1], "release": "7.1.0", "format": 2}, r"made by Shiplap 7\.1\.0"),
    ],
    ids=["newer", "without a release", "another format"],
)
def test_backup_of_a_newer_version_is_refused_by_both_names(
    service: Service, settings: ServiceSettings, tmp_path: Path, header: dict[str, object], said: str
) -> None:
    backup(settings, tmp_path / "backup.tar")

    def newer(name: str, data: bytes) -> bytes:
        return json.dumps(header).encode() if name == "shiplap-backup.json" else data

    with pytest.raises(BackupError, match=rf"{said}.*this is Shiplap {VERSION}"):
        restore(settings, changed(tmp_path / "backup.tar", newer))


def test_backup_names_its_release_and_one_that_was_cut_off_is_refused(
    service: Service, settings: ServiceSettings, tmp_path: Path
) -> None:
    backup(settings, tmp_path / "backup.tar")
    with (tmp_path / "backup.tar").open("rb") as file, Saved.reading(file, "it") as saved:
        assert (saved.header.release, saved.header.by) == (VERSION, f"Shiplap {VERSION}")
        count = len(saved.names)
    for end in (1, count - 2, count - 1):
        with pytest.raises(BackupError, match="cut off"):
            restore(settings, changed(tmp_path / "backup.tar", as_it_is, end=end))
    whole = (tmp_path / "backup.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BackupError):
        restore(settings, tmp_path / "cut.tar")


@pytest.fixture
def filled(service: Service, settings: ServiceSettings) -> Service:
    """A service with a secret, a context and a repository."""
    service.secrets.put("mine", b"correct horse")
    upload(service.contexts, {"Dockerfile": "FROM base\n", "f": "content"})
    for name in ("same", "other"):
        path = settings.root / "git" / f"{name}.git"
        git(settings.root, "init", "--quiet", "--bare", "--initial-branch=main", str(path))
    return service


def state_of(root: Path) -> dict[str, bytes]:
    """All files, but for what SQLite has beside its own while it reads."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink() and not path.name.endswith(("-wal", "-shm"))
    }


def test_rehearsal_says_what_would_be_replaced_and_changes_nothing(
    filled: Service, settings: ServiceSettings, tmp_path: Path
) -> None:
    backup(settings, tmp_path / "backup.tar")
    filled.secrets.put("another", b"battery staple")
    other = settings.root / "git" / "other.git"
    tree = git(other, "hash-object", "-t", "tree", "-w", "/dev/null")
    git(other, "update-ref", "refs/heads/main", git(other, "commit-tree", "-m", "since", tree))
    before = state_of(settings.root)
    found = rehearsed(settings, tmp_path / "backup.tar")
    assert Exchange("secrets", 2, 1) in found.tables
    assert Exchange("contexts", 1, 1) in found.tables
    assert (found.new, found.same, found.other, found.images) == ((), ("same.git",), ("other.git",), None)
    assert state_of(settings.root) == before
    shutil.rmtree(settings.root / "git")
    assert rehearsed(settings, tmp_path / "backup.tar").new == ("other.git", "same.git")


def test_rehearsal_on_a_machine_without_a_service_makes_none(
    filled: Service, settings: ServiceSettings, tmp_path: Path
) -> None:
    backup(settings, tmp_path / "backup.tar")
    nowhere = ServiceSettings.from_environ({}, root=str(tmp_path / "nowhere"))
    assert Exchange("secrets", None, 1) in rehearsed(nowhere, tmp_path / "backup.tar").tables
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("kind", ["blob", "key", "table", "manifest"])
def test_rehearsal_finds_what_a_restore_would_stumble_over(
    filled: Service, settings: ServiceSettings, tmp_path: Path, kind: str
) -> None:
    backup(settings, tmp_path / "backup.tar")
    spoils: dict[str, Callable[[str, bytes], bytes]] = {
        "blob": lambda name, data: data + b"x" if name.startswith("blobs/") else data,
        "key": lambda name, data: data[:-1] if name == "secret.key" else data,
        "table": lambda name, data: data.replace(b'"value"', b'"valve"') if name == "tables/secrets.jsonl" else data,
        "manifest": lambda name, data: b"[{}]" if name.startswith("manifests/") else data,
    }
    file = changed(tmp_path / "backup.tar", spoils[kind])
    assert file.read_bytes() != (tmp_path / "backup.tar").read_bytes()
    with pytest.raises(SecretError if kind == "key" else BackupError):
        rehearsed(settings, file)


def test_backup_to_a_stream_is_the_same_and_leaves_nothing(
    filled: Service, settings: ServiceSettings, tmp_path: Path
) -> None:
    before = set(state_of(settings.root))
    with (tmp_path / "streamed.tar").open("wb") as sink:
        size_bytes = stream_backup(settings, sink)
    assert (tmp_path / "streamed.tar").stat().st_size == size_bytes
    assert set(state_of(settings.root)) == before
    shutil.rmtree(settings.root / "git")
    restore(settings, tmp_path / "streamed.tar")
    assert filled.secrets.reveal(["mine"]) == {"mine": b"correct horse"}
    assert (settings.root / "git" / "same.git" / "HEAD").is_file()


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
def test_slow_taker_of_a_backup_holds_no_transaction_open(filled: Service, settings: ServiceSettings) -> None:
    seen = []

    class Sink(io.BytesIO):
        def write(self, data: Any) -> int:
            with filled.database.read() as connection:
                seen.append(connection.execute(text(_TRANSACTIONS)).scalar())
            return super().write(data)

    stream_backup(settings, Sink())
    assert set(seen) == {0}


_TRANSACTIONS = """\
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'"""
