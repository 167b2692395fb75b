"""One sandbox for many short questions to a repository: it may end at any time, and no answer is another one's."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import BuildCancelledError, FetchUnreachableError
from builder.remotes.gitshell import GitShell
from ci.source.facts import read_commit
from ci.source.mirror import Mirror
from ci.source.objects import Objects
from core.cancellation import asking
from tests.ci.source.repositories import Repository
from tests.toolkit.bounds import stretched


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    with Mirror.open(tmp_path / "root", "p", "u") as mirror:
        yield mirror


def shell_of(mirror: Mirror) -> GitShell:
    found = mirror.objects.shell
    assert found is not None
    return found


def children() -> set[int]:
    """The processes that this one has."""
    found: set[int] = set()
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended since
            found |= set(map(int, Path(f"/proc/self/task/{task}/children").read_text().split()))
    return found


def test_answers_are_those_of_their_questions(repository: Repository, mirror: Mirror) -> None:
    commit = repository.commit("a'title; with $signs\n", a="1", b="2")
    mirror.fetch(*repository.way(), "main")
    objects = mirror.objects
    no, yes, wrong = objects.run_all(
        ("rev-parse", "--verify", "--quiet", "nothing"), ("rev-parse", commit), ("log", "nothing")
    )
    assert (no.code, no.out, no.told) == (1, b"", b"")
    assert (yes.code, yes.out, yes.told) == (0, f"{commit}\n".encode(), b"")
    assert wrong.code == 128
    assert b"nothing" in wrong.told
    assert objects.commits([commit, "0" * 40, commit]) == [commit, None, commit]
    assert read_commit(objects, commit).title == "a'title; with $signs"
    assert objects.sizes([entry.id for entry in objects.entries(commit)]) == [1, 1]
    with objects.contents([entry.id for entry in objects.entries(commit)]) as contents:
        assert [source.read(size) for size, source in contents] == [b"1", b"2"]


def test_what_is_longer_than_a_pipe_is_asked_elsewhere(repository: Repository, mirror: Mirror) -> None:
    commit = repository.commit(a="1")
    mirror.fetch(*repository.way(), "main")
    assert shell_of(mirror).run_all([("true",)], [commit.encode()] * 2000) is None
    assert mirror.objects.commits([commit] * 2000) == [commit] * 2000


def test_killed_shell_costs_no_answer(repository: Repository, tmp_path: Path) -> None:
    commit = repository.commit(a="1")
    before = children()
    with Mirror.open(tmp_path / "root", "p", "u") as mirror:
        mirror.fetch(*repository.way(), "main")
        assert mirror.objects.has(commit)
        shells = children() - before
        assert shells
        for shell in shells:
            os.kill(shell, signal.SIGKILL)
        assert mirror.objects.has(commit)
        assert not mirror.objects.has("0" * 40)


def test_shell_ends_with_its_thread_and_with_its_mirror(repository: Repository, tmp_path: Path) -> None:
    commit = repository.commit(a="1")
    before = children()
    with Mirror.open(tmp_path / "root", "p", "u") as mirror:
        mirror.fetch(*repository.way(), "main")
        found: list[bool] = []
        mirror.throw_away()
        mirror.fetch(*repository.way(), "main")
        shell_of(mirror).close()
        asker = threading.Thread(target=lambda: found.append(mirror.objects.has(commit)))
        asker.start()
        asker.join()
        assert found == [True]
        assert mirror.objects.has(commit)
    assert children() <= before


def test_mirror_in_the_place_of_one_that_another_put_aside_is_read(repository: Repository, tmp_path: Path) -> None:
    first = repository.commit(a="1")
    with Mirror.open(tmp_path / "root", "p", "u") as one, Mirror.open(tmp_path / "root", "p", "u") as other:
        one.fetch(*repository.way(), "main")
        assert one.objects.has(first)
        other.throw_away()
        second = repository.commit(a="2")
        other.fetch(*repository.way(), "main")
        assert one.objects.has(second)


def test_question_that_has_to_end_leaves_the_next_one_whole(repository: Repository, mirror: Mirror) -> None:
    commit = repository.commit(a="1")
    mirror.fetch(*repository.way(), "main")

    def stop() -> None:
        raise BuildCancelledError("enough")

    with asking(stop), pytest.raises(BuildCancelledError):
        mirror.objects.run("rev-parse", commit)
    assert mirror.objects.run("rev-parse", commit).decode().strip() == commit


def test_answers_are_read_while_the_question_is_still_being_asked(repository: Repository, mirror: Mirror) -> None:
    """A user who has many pipes gets small ones: the shell then waits for a reader, and takes no more of the script."""
    commit = repository.commit(a="1")
    mirror.fetch(*repository.way(), "main")
    assert mirror.objects.has(commit)
    running = shell_of(mirror)._running
    assert running is not None
    for stream in (running.process.stdin, running.process.stdout):
        assert stream is not None
        fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, 4096)
    found = shell_of(mirror).run_all([("head", "-c", "9000", "/dev/zero")] * 200)
    assert found is not None
    assert [(ended.code, len(ended.out)) for ended in found] == [(0, 9000)] * 200


def test_question_that_takes_too_long_is_ended(repository: Repository, mirror: Mirror) -> None:
    commit = repository.commit(a="1")
    mirror.fetch(*repository.way(), "main")
    shell = shell_of(mirror)
    began = time.monotonic()
    with pytest.raises(FetchUnreachableError, match="did not end within"):
        shell.run_all([("sleep", "1000")], late_at=time.monotonic() + 0.2)
    assert time.monotonic() - began < stretched(20)
    assert mirror.objects.has(commit)


def test_shell_reads_what_it_may_not_write(repository: Repository, mirror: Mirror) -> None:
    repository.commit(a="1")
    mirror.fetch(*repository.way(), "main")
    (ended,) = (
        shell_of(mirror).run_all([("sh", "-c", "echo x >/etc/shiplap-was-here; id -u; ls /proc | head -1")]) or []
    )
    assert "denied" in ended.told.decode().lower() or "read-only" in ended.told.decode().lower()
    if os.geteuid() == 0:
        assert ended.out.split()[0] == b"65534"


def test_objects_without_a_shell_say_the_same(repository: Repository, mirror: Mirror) -> None:
    commit = repository.commit(a="1", b="2")
    mirror.fetch(*repository.way(), "main")
    alone: Objects = mirror.objects._replace(shell=None)
    assert alone.entries(commit) == mirror.objects.entries(commit)
    assert alone.commits([commit, "1" * 40]) == mirror.objects.commits([commit, "1" * 40])
    assert read_commit(alone, commit) == read_commit(mirror.objects, commit)


def test_default_branch_is_asked_for_with_the_fetch(repository: Repository, mirror: Mirror) -> None:
    main = repository.commit(a="1")
    repository.git("checkout", "--quiet", "-b", "feature")
    commit = repository.commit(a="2")
    repository.git("checkout", "--quiet", "main")
    found = mirror.fetch(*repository.way(), "refs/heads/feature", commit=commit, ask_head=True)
    assert (found.commit, found.head.branch, found.head.commit) == (commit, "main", main)
    assert found.others == {"refs/heads/main": main}
    assert mirror.fetch(*repository.way(), "refs/heads/feature", commit=commit).head.branch == ""
    repository.git("branch", "--move", "main", "trunk")
    again = mirror.fetch(*repository.way(), "refs/heads/feature", commit=commit, ask_head=True)
    assert again.head.branch == "trunk"
