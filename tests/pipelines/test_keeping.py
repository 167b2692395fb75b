"""What the service keeps besides runs: contexts, tokens, secrets, projects; migrations, retention, backups."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import tarfile
import threading
from pathlib import Path

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text, update
from sqlalchemy.engine import Connection

from core.events import BuildPlanned, StepFinished, StepInfo
from core.masking import Masker
from core.settings import ServiceSettings
from pipelines.database import Database, migrate
from pipelines.errors import (
    BackupError,
    DatabaseFullError,
    InvalidRequestError,
    NotFoundError,
    SchemaError,
    ScopeError,
    SecretError,
    StaleAttemptError,
    TokenError,
)
from pipelines.keeping import retention
from pipelines.keeping.backup import backup, restore
from pipelines.keeping.retention import CONTEXTS_KEPT_S, sweep
from pipelines.logs.reading import decode_line
from pipelines.metrics import snapshot
from pipelines.model import ContextSource, Project, RunRequest, RunResult
from pipelines.owning.grants import Grant
from pipelines.projects.tags import TagFacts, image_names
from pipelines.runs.logwriter import LogWriter
from pipelines.schema import HEAD, metadata, runs
from pipelines.service import Service
from pipelines.sources.contexts import ContextEntry
from tests.toolkit.service import upload

SOURCE = ContextSource("sha256:" + "0" * 64)


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def file_entry(path: str, data: bytes, mode: int = 0o644, mtime: int = 1_700_000_000) -> ContextEntry:
    return ContextEntry(path, "file", mode, mtime, len(data), digest_of(data))


def ended_run(service: Service, project: str = "default") -> int:
    service.runs.submit(RunRequest(SOURCE, project=project))
    claim = service.claims.take("w", ())
    assert claim is not None

    def store(connection: Connection) -> None:
        del connection

    service.claims.finish(claim, "succeeded", "", RunResult(), store=store)
    return claim.run.number


def test_looking_for_a_database_makes_none(tmp_path: Path) -> None:
    """An administrator's command without the settings of the units: it must not prepare a second database."""
    settings = ServiceSettings.from_environ({}, root=str(tmp_path))
    (tmp_path / "serve").mkdir()
    with pytest.raises(SchemaError, match=re.escape(f"there is no database {tmp_path}/serve/service.db")) as caught:
        Database.open(settings)
    assert "SHIPLAP_DATABASE_URL" in (caught.value.hint or "")
    assert list((tmp_path / "serve").iterdir()) == []


def test_migrations_make_the_tables_that_the_code_works_with(settings: ServiceSettings) -> None:
    assert migrate(settings)[-1] == HEAD
    assert migrate(settings) == []
    database = Database.open(settings)
    with database.read() as connection:
        found = inspect(connection)
        for table in metadata.sorted_tables:
            columns = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
            assert columns == {column.name: column.nullable for column in table.columns}
    database.close()


def test_schema_of_a_newer_version_is_refused(settings: ServiceSettings) -> None:
    migrate(settings)
    database = Database.open(settings)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(SchemaError, match="schema 9999"):
        Database.open(settings)
    with pytest.raises(SchemaError, match="9999"):
        migrate(settings)


def test_many_processes_may_migrate_at_once(settings: ServiceSettings) -> None:
    applied: list[list[str]] = []
    threads = [threading.Thread(target=lambda: applied.append(migrate(settings))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    *others, first = sorted(applied)
    assert others == [[], [], []]
    assert first[-1] == HEAD


def _is_no_index_of_texts(name: str | None, kind: str, parents: object) -> bool:
    """See ``pipelines.runs.texts``: SQLAlchemy knows neither tables of FTS5, nor indexes of what a function returns."""
    return not (name or "").startswith(("run_grams", "run_texts_by_grams"))


def test_tables_are_what_the_migrations_make(service: Service) -> None:
    """Of PostgreSQL the lengths and the nulls, too: what the code takes for granted, and the database refuses."""
    with service.database.read() as connection:
        opts = {"compare_type": True, "include_name": _is_no_index_of_texts}
        context = MigrationContext.configure(connection, opts=opts)
        assert compare_metadata(context, metadata) == []


def test_only_missing_files_of_a_context_are_asked_for(service: Service, tmp_path: Path) -> None:
    one, two = b"one", b"two"
    entries = [
        ContextEntry("d", "directory", 0o700, 5),
        file_entry("d/one", one, 0o755),
        file_entry("two", two),
        ContextEntry("link", "link", target="/etc/passwd"),
    ]
    context, missing = service.contexts.begin(entries)
    assert sorted(missing) == sorted([digest_of(one), digest_of(two)])
    assert not service.contexts.has(context)
    service.contexts.put_blob(digest_of(one), io.BytesIO(one))
    assert service.contexts.begin(list(reversed(entries))) == (context, [digest_of(two)])
    with pytest.raises(NotFoundError, match="two of the build context was not uploaded"):
        service.contexts.materialise(context, tmp_path / "half")
    service.contexts.put_blob(digest_of(two), io.BytesIO(two))
    assert service.contexts.has(context)
    for name in ("first", "second"):
        tree = tmp_path / name
        service.contexts.materialise(context, tree)
        assert (tree / "d/one").read_bytes() == one
        assert stat.S_IMODE((tree / "d/one").stat().st_mode) == 0o755
        assert (tree / "d/one").stat().st_mtime == 1_700_000_000
        assert (tree / "d").stat().st_mtime == 5
        assert (tree / "link").readlink() == Path("/etc/passwd")


def test_what_an_entry_of_a_context_leaves_out_means_what_it_always_meant() -> None:
    """Commands of other versions send it, and it lies on disk."""
    entry = msgspec.json.decode(b'{"path":"empty","type":"file"}', type=ContextEntry)
    assert (entry.mode, entry.mtime, entry.size, entry.digest, entry.target) == (0o755, 0, 0, "", "")


def test_same_content_with_another_mode_is_another_file(service: Service, tmp_path: Path) -> None:
    data = b"#!/bin/sh\n"
    entries = [file_entry("a", data, 0o644, 5), file_entry("b", data, 0o755, 6)]
    context, missing = service.contexts.begin(entries)
    service.contexts.put_blob(missing[0], io.BytesIO(data))
    service.contexts.materialise(context, tmp_path / "tree")
    found = [(tmp_path / "tree" / name).stat() for name in ("a", "b")]
    assert [(stat.S_IMODE(one.st_mode), one.st_mtime) for one in found] == [(0o644, 5), (0o755, 6)]


def test_content_that_is_not_what_was_promised_is_refused(service: Service) -> None:
    with pytest.raises(InvalidRequestError, match="has digest"):
        service.contexts.put_blob(digest_of(b"promised"), io.BytesIO(b"sent"))
    _, missing = service.contexts.begin([file_entry("f", b"promised")])
    assert missing


def test_many_files_are_taken_at_once_or_none(service: Service, tmp_path: Path) -> None:
    contents = {f"f{number}": b"%d" % number for number in range(100)}
    context, missing = service.contexts.begin([file_entry(name, data) for name, data in contents.items()])
    by_digest = {digest_of(data): data for data in contents.values()}
    assert sorted(missing) == sorted(by_digest)
    broken = [(digest, io.BytesIO(data)) for digest, data in by_digest.items()] + [(digest_of(b"x"), io.BytesIO(b"y"))]
    with pytest.raises(InvalidRequestError, match="has digest"):
        service.contexts.put_blobs(broken)
    assert not service.contexts.has(context)
    assert service.contexts.put_blobs((digest, io.BytesIO(data)) for digest, data in by_digest.items()) == 100
    service.contexts.materialise(context, tmp_path / "tree")
    assert {path.name: path.read_bytes() for path in (tmp_path / "tree").iterdir()} == contents


@pytest.mark.parametrize(
    "entries",
    [
        [file_entry("../up", b"")],
        [file_entry("/root", b"")],
        [file_entry("a/../b", b"")],
        [file_entry("a//b", b"")],
        [file_entry("", b"")],
        [file_entry("nowhere/f", b"")],
        [file_entry("f", b""), file_entry("f/g", b"")],
        [ContextEntry("l", "link", target="/etc"), file_entry("l/f", b"")],
        [file_entry("f", b""), file_entry("f", b"x")],
        [file_entry("a\0b", b"")],
        [ContextEntry("f", "file", digest="sha256:short")],
        [ContextEntry("l", "link")],
        [ContextEntry("d", "directory", mode=0o10000)],
        [file_entry("x" * 256, b"")],
    ],
)
def test_entries_that_make_no_tree_are_refused(service: Service, entries: list[ContextEntry]) -> None:
    with pytest.raises(InvalidRequestError):
        service.contexts.begin(entries)


def test_token_is_shown_once_and_stands_for_its_scopes(service: Service) -> None:
    token, written = service.tokens.create("ci", ["build"])
    assert service.tokens.verify(written, "build").id == token.id
    assert service.tokens.verify(written, "read").id == token.id
    with pytest.raises(ScopeError, match="allows build, this needs admin"):
        service.tokens.verify(written, "admin")
    with service.database.read() as connection:
        assert written not in str(connection.execute(text("SELECT * FROM tokens")).all())
    assert service.tokens.list()[0].last_used_at is not None
    service.tokens.revoke(token.id)
    for wrong in (written, "", "shp_x", "\udcff"):
        with pytest.raises(TokenError):
            service.tokens.verify(wrong, "read")
    with pytest.raises(NotFoundError):
        service.tokens.revoke(token.id)


@pytest.mark.parametrize("scopes", [["reed"], ["read", "root"], ["read,admin"], []], ids=str)
def test_token_of_an_unknown_scope_is_refused(service: Service, scopes: list[str]) -> None:
    with pytest.raises(InvalidRequestError, match="invalid scopes"):
        service.tokens.create("ci", scopes)
    assert service.tokens.list() == []


def test_sweep_takes_only_tokens_that_expired_long_ago(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    day, now = 86400.0, [1e9]
    monkeypatch.setattr(service.tokens, "_clock", lambda: now[0])
    for name, expires_in_s in (("an hour", 3600.0), ("a year", 365 * day), ("for ever", None)):
        service.tokens.create(name, ["read"], expires_in_s)
    kept = []
    for days in (0, 30, 31, 394, 396):
        now[0] = 1e9 + days * day
        service.tokens.sweep()
        kept.append([token.name for token in service.tokens.list()])
    every = ["an hour", "a year", "for ever"]
    assert kept == [every, every, every[1:], every[1:], ["for ever"]]


def test_token_expires(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    token, written = service.tokens.create("short", ["read"], expires_in_s=60)
    service.tokens.verify(written, "read")
    assert token.expires_at is not None
    monkeypatch.setattr(service.tokens, "_clock", lambda: token.expires_at)
    with pytest.raises(TokenError, match="expired"):
        service.tokens.verify(written, "read")


def test_who_only_looks_is_let_in_while_the_disk_is_full(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    token = service.tokens.create("ci", ["read"])[1]
    user = service.users.create("ann", "viewer", "a good long password")
    session = service.sessions.begin(user, address="", agent="")

    def full() -> None:
        raise DatabaseFullError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(service.database, "write", full)
        patched.setattr("pipelines.accounts.sessions._NOTED_EVERY_S", -1)
        assert service.tokens.verify(token, "read").last_used_at is None
        assert service.sessions.find(session) is not None
    service.tokens.verify(token, "read")
    assert service.tokens.verify(token, "read").last_used_at is not None


def test_administrators_token_is_in_a_private_file(service: Service) -> None:
    file = service.tokens.ensure_admin_file()
    written = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    service.tokens.verify(written, "admin")
    assert service.tokens.ensure_admin_file().read_text().strip() == written
    file.write_text("shp_forged\n")
    renewed = service.tokens.ensure_admin_file().read_text().strip()
    service.tokens.verify(renewed, "admin")
    with pytest.raises(TokenError):
        service.tokens.verify(written, "admin")


def test_secret_is_encrypted_and_bound_to_its_name(service: Service, settings: ServiceSettings) -> None:
    service.secrets.put("key", b"correct horse")
    service.secrets.put("key", b"battery staple")
    assert service.secrets.reveal(["key"]) == {"key": b"battery staple"}
    assert [info.name for info in service.secrets.list()] == ["key"]
    key_file = settings.root / "serve" / "secret.key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    with service.database.write() as connection:
        rows = str(connection.execute(text("SELECT * FROM secrets")).all())
        assert "battery" not in rows
        connection.execute(text("UPDATE secrets SET name = 'other'"))
    with pytest.raises(SecretError, match="cannot be decrypted"):
        service.secrets.reveal(["other"])
    service.secrets.put("again", b"correct horse")
    key_file.write_bytes(os.urandom(32))
    with pytest.raises(SecretError, match="cannot be decrypted"):
        service.secrets.reveal(["again"])
    key_file.unlink()
    with pytest.raises(SecretError, match="there is no"):
        service.secrets.reveal(["again"])
    assert not key_file.exists()
    service.secrets.delete("again")
    with pytest.raises(NotFoundError):
        service.secrets.reveal(["again"])


def test_secret_is_bound_to_its_project(service: Service) -> None:
    """Who can write rows, and has not the key, moves no secret to where it is told to others."""
    service.secrets.put("key", b"correct horse", project="web")
    assert service.secrets.reveal(["key"], project="web") == {"key": b"correct horse"}
    with service.database.write() as connection:
        connection.execute(text("UPDATE secrets SET project = 'other'"))
    with pytest.raises(SecretError, match="cannot be decrypted"):
        service.secrets.reveal(["key"], project="other")
    with service.database.write() as connection:
        connection.execute(text("UPDATE secrets SET project = ''"))
    service.grants.give(Grant("*", "secret", "key"))
    with pytest.raises(SecretError, match="cannot be decrypted"):
        service.secrets.reveal(["key"], project="other")


@pytest.mark.parametrize(("name", "value"), [("", b"long enough"), ("a b", b"long enough"), ("a", b"abc"), ("a", b"")])
def test_secret_that_cannot_be_kept_is_refused(service: Service, name: str, value: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        service.secrets.put(name, value)


def test_names_come_from_the_template() -> None:
    facts = TagFacts("app", 7, "ci:5000", branch="feature/x y", commit="0123456789abcdef")
    template = "{registry}/{project}:{number}, {registry}/{project}:{branch}-{commit} {project}:{tag}"
    assert [name.familiar for name in image_names(template, facts)] == [
        "ci:5000/app:7", "ci:5000/app:feature-x-y-0123456789ab",
    ]  # fmt: skip
    assert image_names("{registry}/{project}", TagFacts("app", 7)) == ()


@pytest.mark.parametrize("template", ["", "{user}", "{project!r}", "{project:>9}", "{", "{project.__class__}", "UP:x"])
def test_templates_that_name_nothing_are_refused(service: Service, template: str) -> None:
    with pytest.raises(InvalidRequestError):
        service.projects.put(Project("app", tag_template=template))


def test_runs_beyond_both_limits_are_removed_some_at_a_time(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_AT_ONCE", 1)
    service.projects.put(Project("p", keep_runs=2, keep_days=10))
    numbers = [ended_run(service, "p") for _ in range(5)]
    others = [ended_run(service) for _ in range(3)]
    waiting = service.runs.submit(RunRequest(upload(service.contexts, {"Dockerfile": "FROM x\n"}), project="p"))
    unused = upload(service.contexts, {"f": "unused"})
    with service.database.write() as connection:
        connection.execute(update(runs).where(runs.c.number <= numbers[1]).values(finished_at=1.0))
        connection.execute(update(runs).where(runs.c.number == numbers[4]).values(finished_at=1.0))
        connection.execute(text("UPDATE contexts SET used_at = used_at - :s"), {"s": CONTEXTS_KEPT_S + 1})
    now = service.runs.get(others[0]).created_at

    def totals() -> tuple[object, ...]:
        found = snapshot(service)
        return found.ended_by_state, found.run_count, found.wait_count, round(found.wait_s, 6)

    before = totals()
    assert before[0] == {"cancelled": 0, "error": 0, "failed": 0, "succeeded": 8}
    swept = sweep(service, now)
    assert (swept.runs, swept.contexts) == (2, 1)
    assert totals() == before
    assert {run.number for run in service.runs.list()} == {*numbers[2:], *others, waiting.number}
    assert isinstance(waiting.source, ContextSource)
    assert service.contexts.has(waiting.source.context)
    assert not service.contexts.has(unused.context)


def test_numbers_of_removed_runs_are_not_given_again(service: Service) -> None:
    number = ended_run(service)
    with service.database.write() as connection:
        connection.execute(text("DELETE FROM runs"))
    assert ended_run(service) > number


def test_metrics_count_what_is_there(service: Service) -> None:
    ended_run(service)
    service.runs.submit(RunRequest(SOURCE))
    service.workers.beat("w", (), 2)
    found = snapshot(service)
    assert (found.queue_depth, found.running, found.run_count) == (1, 0, 1)
    assert found.runs_by_state == {"succeeded": 1, "queued": 1}
    assert found.workers_by_state == {"idle": 1}


def test_totals_do_not_fall_when_a_project_is_removed(service: Service) -> None:
    ended_run(service)
    before = snapshot(service)
    service.projects.remove("default")
    after = snapshot(service)
    assert service.runs.list() == []
    assert (after.run_count, after.ended_by_state) == (before.run_count, before.ended_by_state)


def test_metrics_count_as_missed_only_what_the_cache_could_have_answered(service: Service) -> None:
    service.runs.submit(RunRequest(SOURCE))
    claim = service.claims.take("w", ())
    assert claim is not None
    writer = LogWriter(claim, service.database, service.live, Masker(), lost=lambda: None)
    names = ("[1/3] FROM base", "[2/3] COPY . /", "[3/3] RUN echo ] FROM here", "exporting to image")
    writer.emit(BuildPlanned(tuple(StepInfo(i, name, "", i + 1 if i < 3 else 0) for i, name in enumerate(names))))
    for step in range(len(names)):
        writer.emit(StepFinished(step, "cached" if step == 1 else "done", 0.1, 1.0))
    writer.close()
    writer.store_now()
    found = snapshot(service)
    assert (found.cache_hits, found.cache_misses) == (1, 1)


def filled(service: Service) -> tuple[int, str]:
    """A queued run that was cancelled, so that it has a log; a token; a secret."""
    source = upload(service.contexts, {"Dockerfile": "FROM base\n", "f": "content"})
    run = service.runs.submit(RunRequest(source, project="kept"))
    service.runs.cancel(run.number)
    service.secrets.put("key", b"correct horse")
    return run.number, service.tokens.create("ci", ["build"])[1]


def test_backup_of_a_running_service_restores_everything(
    service: Service, settings: ServiceSettings, tmp_path: Path
) -> None:
    number, token = filled(service)
    file = tmp_path / "backup.tar"
    backup(settings, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    later = service.runs.submit(RunRequest(SOURCE)).number
    root = tmp_path / "elsewhere"
    for target in (settings, ServiceSettings(root, f"sqlite:///{root}/serve/service.db", settings.redis_url)):
        restore(target, file)
        with Service.open(target) as restored:
            assert [run.number for run in restored.runs.list()] == [number]
            run = restored.runs.get(number)
            assert run.project == "kept"
            assert (
                decode_line(restored.logs.read(restored.runs.job(number).number)[0][1]).text
                == "cancelled before it started"
            )
            assert isinstance(run.source, ContextSource)
            assert restored.contexts.has(run.source.context)
            assert restored.secrets.reveal(["key"]) == {"key": b"correct horse"}
            restored.tokens.verify(token, "build")
            with pytest.raises(NotFoundError):
                restored.runs.get(later)
            assert restored.runs.submit(RunRequest(SOURCE)).number > number


def test_runs_that_went_on_since_the_backup_are_fenced_and_run_again(
    service: Service, settings: ServiceSettings, tmp_path: Path
) -> None:
    """A restored run has the number, and might have the attempt, that some worker still works on."""
    went_on, retried = (service.runs.submit(RunRequest(SOURCE)).number for _ in range(2))
    claims = [service.claims.take("w", ()) for _ in range(2)]
    backup(settings, tmp_path / "backup.tar")
    service.claims.release(service.runs.job(retried).number, 1, "its worker died")
    claims.append(service.claims.take("w", ()))
    later = service.runs.submit(RunRequest(SOURCE)).number
    claims.append(service.claims.take("w", ()))
    restore(settings, tmp_path / "backup.tar")
    assert [(run.number, run.state, run.attempt) for run in service.runs.list()] == [
        (retried, "queued", 2),
        (went_on, "queued", 1),
    ]
    new = service.runs.submit(RunRequest(SOURCE)).number
    assert new > later
    again = [service.claims.take("w", ()) for _ in range(3)]
    assert [(claim.run.number, claim.attempt) for claim in again if claim] == [(went_on, 2), (retried, 3), (new, 1)]
    for claim in claims:
        assert claim is not None
        with pytest.raises(StaleAttemptError):
            service.claims.renew(claim)


def test_what_is_no_backup_changes_nothing(service: Service, settings: ServiceSettings, tmp_path: Path) -> None:
    number, _ = filled(service)
    file = tmp_path / "backup.tar"
    backup(settings, file)
    data = file.read_bytes()
    with tarfile.open(tmp_path / "other.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("x"))
    for damaged in (b"", b"nonsense" * 1000, data[: len(data) // 2], (tmp_path / "other.tar").read_bytes()):
        file.write_bytes(damaged)
        with pytest.raises(BackupError):
            restore(settings, file)
    assert service.runs.get(number).project == "kept"


def test_backup_that_breaks_off_leaves_the_secrets_readable(
    service: Service, settings: ServiceSettings, tmp_path: Path
) -> None:
    filled(service)
    file = tmp_path / "backup.tar"
    backup(settings, file)
    with tarfile.open(file) as whole, tarfile.open(tmp_path / "other.tar", "w") as archive:
        for member in whole:
            stream = whole.extractfile(member)
            assert stream is not None
            data = b"k" * 32 if member.name == "secret.key" else stream.read()
            if member.name == "tables/tokens.jsonl":
                data = data[:-9]
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    with pytest.raises(BackupError):
        restore(settings, tmp_path / "other.tar")
    assert service.secrets.reveal(["key"]) == {"key": b"correct horse"}
