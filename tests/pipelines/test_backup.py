"""Backups of what people pushed, restores that are killed, and restores into a service that runs."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import ServiceSettings
from pipelines.errors import BackupError
from pipelines.keeping.backup import backup, restore
from pipelines.service import Service
from tests.toolkit.git import git
from tests.toolkit.service import upload

_CHECKOUT = Path(__file__).resolve().parents[2]
_KILLED = """
import os, signal, sys
from pathlib import Path
from core.settings import ServiceSettings
from pipelines.keeping import restore as backup
from pipelines.sources.contexts import Contexts

def end(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

{patch}
backup.restore(ServiceSettings(Path(sys.argv[1]), sys.argv[2], sys.argv[3]), Path(sys.argv[4]))
"""
_AFTER_THE_COMMIT = """
from pipelines.keys import keyring
replace = backup._replace_tables

def replace_and_end_later(*arguments):
    replace(*arguments)
    keyring.KeyRing._others = end

backup._replace_tables = replace_and_end_later
"""


def restore_killed(settings: ServiceSettings, file: Path, patch: str) -> None:
    """A restore in a process of its own, which ends itself by SIGKILL where ``patch`` puts it."""
    words = [str(settings.root), settings.database_url, settings.redis_url, str(file)]
    done = subprocess.run([sys.executable, "-c", _KILLED.format(patch=patch), *words], cwd=_CHECKOUT, check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.fixture
def other(tmp_path: Path, settings: ServiceSettings, migrated_sqlite: Path) -> ServiceSettings:
    """Another service, with a key and a secret of its own."""
    root = tmp_path / "other"
    (root / "serve").mkdir(parents=True)
    shutil.copy(migrated_sqlite, root / "serve")
    made = ServiceSettings(root, f"sqlite:///{root}/serve/service.db", settings.redis_url)
    with Service.open(made) as service:
        service.secrets.put("theirs", b"battery staple")
    return made


@pytest.fixture
def repository(settings: ServiceSettings) -> Path:
    """ROOT/git/app.git with one commit, and a clone beside ROOT to push from."""
    path = settings.root / "git" / "app.git"
    git(settings.root, "init", "--quiet", "--bare", "--initial-branch=main", str(path))
    (path / "shiplap.conf").write_text("HOOK_SECRET='s3cret'\n")
    (path / "shiplap.conf").chmod(0o600)
    clone = settings.root.parent / "clone"
    git(settings.root.parent, "clone", "--quiet", str(path), str(clone))
    commit_and_push(clone, "one")
    return path


def commit_and_push(clone: Path, text: str, *options: str) -> str:
    (clone / "f").write_text(text)
    git(clone, "add", ".")
    git(clone, "commit", "--quiet", "-m", text)
    for tries_left in reversed(range(5)):
        try:
            git(clone, "push", "--quiet", *options, "origin", "HEAD:main")
            break
        except subprocess.CalledProcessError:  # somebody who packs refs had this one at that moment
            if not tries_left:
                raise
    return git(clone, "rev-parse", "HEAD").strip()


def refs(repository: Path) -> str:
    return git(repository, "for-each-ref", "--format=%(refname) %(objectname)")


def test_repository_comes_back_whole(
    service: Service, settings: ServiceSettings, repository: Path, tmp_path: Path
) -> None:
    clone = settings.root.parent / "clone"
    (clone / "large").write_bytes(random.Random(7).randbytes(5 << 20))  # a file that is saved piece by piece
    commit_and_push(clone, "large")
    git(clone, "tag", "-a", "v1", "-m", "first")
    git(clone, "push", "--quiet", "origin", "v1")
    git(repository, "gc", "--quiet")  # packed refs and a pack, and then loose ones
    commit_and_push(clone, "two")
    (pack,) = (repository / "objects" / "pack").glob("*.pack")
    pack.with_suffix(".keep").write_text("the administrator's: no repack may touch it")
    packs = {path.name: path.read_bytes() for path in pack.parent.iterdir()}
    (repository / "hooks" / "update").write_text("#!/bin/sh\n")
    (repository / "hooks" / "update").chmod(0o755)
    (settings.root / "git" / "linked.git").symlink_to("/srv/elsewhere.git")
    git(settings.root, "init", "--quiet", "--bare", str(settings.root / "git" / "team" / "empty.git"))
    before = refs(repository)
    locks = [repository / "config.lock", repository / "HEAD.lock", repository / "refs" / "heads" / "main.lock"]
    for lock in locks:  # somebody is at it: whoever has it back would wait for them for ever
        lock.touch()
    backup(settings, tmp_path / "backup.tar")
    shutil.rmtree(settings.root / "git")
    assert restore(settings, tmp_path / "backup.tar") == []
    assert not [lock for lock in locks if lock.exists()]
    assert refs(repository) == before
    assert {path.name: path.read_bytes() for path in pack.parent.iterdir()} == packs
    git(repository, "fsck", "--strict")
    assert git(repository, "log", "-1", "--format=%s", "main").strip() == "two"
    assert (repository / "shiplap.conf").stat().st_mode & 0o777 == 0o600
    assert (repository / "hooks" / "update").stat().st_mode & 0o777 == 0o755
    assert (settings.root / "git" / "linked.git").readlink() == Path("/srv/elsewhere.git")
    assert refs(settings.root / "git" / "team" / "empty.git") == ""
    commit_and_push(clone, "three")
    assert sorted(path.name for path in (settings.root / "git").iterdir()) == ["app.git", "linked.git", "team"]


def test_repository_whose_refs_are_in_tables_comes_back_whole(
    service: Service, settings: ServiceSettings, repository: Path, tmp_path: Path
) -> None:
    tabled = settings.root / "git" / "tabled.git"
    git(settings.root, "init", "--quiet", "--bare", "--ref-format=reftable", str(tabled))
    git(repository, "push", "--quiet", str(tabled), "main:main", "main:topic")
    git(tabled, "symbolic-ref", "HEAD", "refs/heads/topic")
    before = refs(tabled)
    assert before.count("refs/heads/") == 2
    backup(settings, tmp_path / "backup.tar")
    shutil.rmtree(settings.root / "git")
    assert restore(settings, tmp_path / "backup.tar") == []
    assert refs(tabled) == before
    assert git(tabled, "symbolic-ref", "HEAD").strip() == "refs/heads/topic"
    git(tabled, "fsck", "--strict")


def test_what_was_pushed_since_the_backup_is_moved_aside_and_other_repositories_stay(
    service: Service, settings: ServiceSettings, repository: Path, tmp_path: Path
) -> None:
    clone, before = settings.root.parent / "clone", refs(repository)
    backup(settings, tmp_path / "backup.tar")
    git(settings.root, "init", "--quiet", "--bare", str(settings.root / "git" / "new.git"))
    assert restore(settings, tmp_path / "backup.tar") == []  # nothing has changed: nothing is kept
    later = commit_and_push(clone, "two")
    (moved,) = restore(settings, tmp_path / "backup.tar")
    assert refs(repository) == before
    assert refs(moved) == f"refs/heads/main {later}"
    assert (settings.root / "git" / "new.git" / "HEAD").is_file()


@contextlib.contextmanager
def pushing(clone: Path, repository: Path) -> Iterator[list[str]]:
    """Pushes and repacks go on until the block ends; what was pushed, the oldest first."""
    pushed: list[str] = []
    stop = threading.Event()

    def push() -> None:
        while not stop.is_set():
            pushed.append(commit_and_push(clone, f"push {len(pushed)}"))

    def pack() -> None:
        while not stop.is_set():
            git(repository, "repack", "--quiet", "-a", "-d")
            git(repository, "pack-refs", "--all", "--prune")
            git(repository, "prune-packed", "--quiet")

    threads = [threading.Thread(target=work) for work in (push, pack)]
    for thread in threads:
        thread.start()
    try:
        yield pushed
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_backup_while_somebody_pushes_and_git_repacks_is_whole(
    service: Service, settings: ServiceSettings, repository: Path, tmp_path: Path
) -> None:
    files = [tmp_path / f"{number}.tar" for number in range(6)]
    known = []
    with pushing(settings.root.parent / "clone", repository) as pushed:
        for file in files:
            known.append(len(pushed))
            backup(settings, file)
            time.sleep(0.1)
    for file, least in zip(files, known, strict=True):
        shutil.rmtree(settings.root / "git")
        restore(settings, file)
        git(repository, "fsck", "--strict", "--no-dangling")
        assert int(git(repository, "rev-list", "--count", "main")) > least, "no push that had ended is missing"


def test_objects_borrowed_from_elsewhere_are_said_before_anything_is_lost(
    service: Service, settings: ServiceSettings, repository: Path, tmp_path: Path
) -> None:
    inside = settings.root / "git" / "fork.git"
    git(settings.root, "clone", "--quiet", "--bare", "--shared", str(repository), str(inside))
    backup(settings, tmp_path / "backup.tar")
    outside = tmp_path / "outside.git"
    git(settings.root, "clone", "--quiet", "--bare", str(repository), str(outside))
    (inside / "objects" / "info" / "alternates").write_text(f"{outside}/objects\n")
    with pytest.raises(BackupError, match=r"fork\.git borrows objects of .*outside\.git") as caught:
        backup(settings, tmp_path / "other.tar")
    assert "git repack -a -d" in str(caught.value.hint)
    assert not (tmp_path / "other.tar").exists()
    restore(settings, tmp_path / "backup.tar")
    git(inside, "fsck", "--strict")


def test_backup_follows_no_link_out_of_a_repository(
    service: Service, settings: ServiceSettings, repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key").write_text("not theirs")
    (repository / "refs" / "heads" / "evil").symlink_to(tmp_path / "private" / "key")
    (repository / "info" / "dir").symlink_to(tmp_path / "private")
    os.mkfifo(repository / "pipe")
    backup(settings, tmp_path / "backup.tar")
    assert b"not theirs" not in (tmp_path / "backup.tar").read_bytes()


def test_old_key_stays_until_another_services_backup_is_committed(
    service: Service, settings: ServiceSettings, other: ServiceSettings, tmp_path: Path
) -> None:
    service.secrets.put("mine", b"correct horse")
    backup(other, tmp_path / "other.tar")
    restore_killed(settings, tmp_path / "other.tar", "backup._replace_tables = end")
    with Service.open(settings) as opened:
        assert opened.secrets.reveal(["mine"]) == {"mine": b"correct horse"}
        opened.secrets.put("new", b"sealed since")
    backup(settings, tmp_path / "mine.tar")
    restore_killed(settings, tmp_path / "other.tar", "backup._replace_tables = end")  # once more loses nothing either
    assert service.secrets.reveal(["mine", "new"]) == {"mine": b"correct horse", "new": b"sealed since"}
    restore(settings, tmp_path / "other.tar")
    service.secrets.check_key()  # the number came with the key
    assert service.secrets.reveal(["theirs"]) == {"theirs": b"battery staple"}
    assert [path.name for path in (settings.root / "serve").glob("secret.key*")] == ["secret.key"]
    restore(settings, tmp_path / "mine.tar")  # which was made with keys of both
    assert service.secrets.reveal(["mine", "new"]) == {"mine": b"correct horse", "new": b"sealed since"}


def test_restore_killed_right_after_the_commit_opens_what_it_brought(
    service: Service, settings: ServiceSettings, other: ServiceSettings, tmp_path: Path
) -> None:
    service.secrets.put("mine", b"correct horse")
    backup(other, tmp_path / "other.tar")
    restore_killed(settings, tmp_path / "other.tar", _AFTER_THE_COMMIT)
    assert service.secrets.reveal(["theirs"]) == {"theirs": b"battery staple"}


def test_killed_restore_leaves_nothing_in_the_contexts_directory(
    service: Service, settings: ServiceSettings, tmp_path: Path
) -> None:
    upload(service.contexts, {"Dockerfile": "FROM base\n", "f": "content"})
    backup(settings, tmp_path / "backup.tar")
    scratch = settings.root / "serve" / "contexts" / "tmp"
    restore_killed(settings, tmp_path / "backup.tar", "from pipelines.sources import contexts; contexts._fsync = end")
    assert list(scratch.iterdir())
    with Service.open(settings):
        assert not list(scratch.iterdir())


def test_upload_under_way_keeps_its_files_when_another_process_starts(
    service: Service, settings: ServiceSettings
) -> None:
    class Slow:
        def __init__(self) -> None:
            self.pieces = [b"", b"content"]

        def read(self, size: int, /) -> bytes:
            del size
            Service.open(settings).close()
            return self.pieces.pop()

    digest = "sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    service.contexts.put_blob(digest, Slow())
    assert [path.read_bytes() for _, path in service.contexts.blobs([digest])] == [b"content"]


def test_killed_restore_of_repositories_is_cleaned_up_by_the_next(
    service: Service, settings: ServiceSettings, repository: Path, tmp_path: Path
) -> None:
    before = refs(repository)
    backup(settings, tmp_path / "backup.tar")
    restore_killed(settings, tmp_path / "backup.tar", "backup._replace_tables = end")
    assert refs(repository) == before
    commit_and_push(settings.root.parent / "clone", "two")
    restore(settings, tmp_path / "backup.tar")
    assert refs(repository) == before
    assert not list((settings.root / "git").glob(".restoring-*"))


def test_restore_keeps_the_tokens_of_the_services_own_machines(
    service: Service, settings: ServiceSettings, other: ServiceSettings, tmp_path: Path
) -> None:
    with Service.open(other) as others:
        others.tokens.ensure_admin_file()
        kept = others.tokens.create("ci", ["build"])[1]
    backup(other, tmp_path / "other.tar")
    admin = service.tokens.ensure_admin_file().read_text().strip()
    lost = service.tokens.create("ci", ["build"])[1]
    service.tokens.adopt("workers (SHIPLAP_WEB_TOKEN)", "shp_of-the-workers", ["build"])
    restore(settings, tmp_path / "other.tar")
    service.tokens.verify(admin, "admin")
    service.tokens.verify("shp_of-the-workers", "build")
    service.tokens.verify(kept, "build")
    assert service.tokens.ensure_admin_file().read_text().strip() == admin
    assert lost not in [token.name for token in service.tokens.list()]


def test_second_process_with_another_root_leaves_the_first_ones_administrator(
    service: Service, settings: ServiceSettings, tmp_path: Path
) -> None:
    second = ServiceSettings(tmp_path / "second", settings.database_url, settings.redis_url)
    first_token = service.tokens.ensure_admin_file().read_text().strip()
    with Service.open(second) as opened:
        second_token = opened.tokens.ensure_admin_file().read_text().strip()
    assert first_token != second_token
    for _ in range(2):
        assert service.tokens.ensure_admin_file().read_text().strip() == first_token
        with Service.open(second) as opened:
            assert opened.tokens.ensure_admin_file().read_text().strip() == second_token
        service.tokens.verify(first_token, "admin")
        service.tokens.verify(second_token, "admin")
