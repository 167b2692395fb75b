"""Mirrors: what is fetched and what is not, turns, damage, kills, branches that were pushed by force, forks."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder.errors import BuildCancelledError, FetchError
from builder.remotes.gitroute import GitAccess, basic
from builder.remotes.giturls import GitRemote, parse_remote
from ci.errors import RepositoryError
from ci.source.mirror import Fetched, Mirror
from core.cancellation import asking
from core.errors import StorageFullError
from core.reach import Reach
from core.settings import FetchSettings
from tests.ci.source.repositories import Repository
from tests.toolkit.bounds import eventually
from tests.toolkit.git import GitServer, serving_git

pytestmark = pytest.mark.usefixtures("privileged")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    with Mirror.open(tmp_path / "root", "p", "u") as mirror:
        yield mirror


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with serving_git(tmp_path) as server:
        yield server


def files(mirror: Mirror) -> dict[str, int]:
    """All files of the repository, with their sizes."""
    top = mirror.objects.directory
    return {str(path.relative_to(top)): path.stat().st_size for path in top.rglob("*") if path.is_file()}


def over_http(server: GitServer) -> tuple[GitRemote, GitAccess]:
    return parse_remote(f"{server.url}/repository/.git"), GitAccess()


def test_every_way_to_name_a_commit_finds_it(repository: Repository, mirror: Mirror) -> None:
    first = repository.commit(a="a")
    repository.git("tag", "--annotate", "--message", "one", "v1")
    second = repository.commit(a="b")
    way = repository.way()
    assert mirror.fetch(*way, "") == Fetched(second, "main", "", {})
    assert mirror.fetch(*way, "main") == Fetched(second, "main", "", {})
    assert mirror.fetch(*way, "refs/heads/main") == Fetched(second, "main", "", {})
    assert mirror.fetch(*way, "v1") == Fetched(first, "", "v1", {})
    assert mirror.fetch(*way, "refs/tags/v1") == Fetched(first, "", "v1", {})
    assert mirror.fetch(*way, first) == Fetched(first, "", "", {})
    assert mirror.fetch(*way, "refs/heads/main", commit=first) == Fetched(first, "main", "", {})
    found = mirror.fetch(*way, "main", others=("v1", first, "refs/heads/none", "refs/tags/v1", "f" * 40))
    assert found.others == {first: first, "refs/tags/v1": first, "v1": first}
    assert mirror.objects.run("describe", second).decode().startswith("v1-1-g")


@pytest.mark.parametrize("ref", ["none", "refs/heads/none", "f" * 40])
def test_what_is_not_there_is_an_error_and_leaves_the_mirror_as_it_was(
    repository: Repository, mirror: Mirror, ref: str
) -> None:
    repository.commit(a="a")
    mirror.fetch(*repository.way(), "main")
    inode = os.stat(mirror.objects.directory).st_ino
    with pytest.raises((FetchError, RepositoryError)):
        mirror.fetch(*repository.way(), ref)
    assert os.stat(mirror.objects.directory).st_ino == inode


def test_a_commit_that_is_there_is_not_asked_for_and_a_new_one_brings_little(
    repository: Repository, mirror: Mirror, server: GitServer
) -> None:
    (repository.path / "big").write_bytes(os.urandom(500_000))
    commit = repository.commit()
    mirror.fetch(*over_http(server), "refs/heads/main", commit=commit)
    before, known = len(server.requests), sum(files(mirror).values())
    assert known > 500_000
    mirror.fetch(*over_http(server), "refs/heads/main", commit=commit)
    assert len(server.requests) == before
    commit = repository.commit(small="small")
    mirror.fetch(*over_http(server), "refs/heads/main", commit=commit)
    assert len(server.requests) > before
    assert sum(files(mirror).values()) < known + 20_000


def test_credentials_are_for_the_server_alone_and_are_not_kept(
    repository: Repository, mirror: Mirror, server: GitServer
) -> None:
    server.authorization = basic("user:s3cret-token")
    commit = repository.commit(a="a")
    remote, access = over_http(server)
    with pytest.raises(FetchError, match=r"could not read Username|Authentication failed"):
        mirror.fetch(remote, access, "main")
    given = GitAccess(header=lambda host: server.authorization if host == "127.0.0.1" else None)
    assert mirror.fetch(remote, given, "main").commit == commit
    for name in files(mirror):
        assert b"s3cret" not in (mirror.objects.directory / name).read_bytes()
        assert server.authorization.encode() not in (mirror.objects.directory / name).read_bytes()


def test_a_mirror_reaches_no_further_than_it_may(repository: Repository, mirror: Mirror, server: GitServer) -> None:
    repository.commit(a="a")
    remote, _ = over_http(server)
    with pytest.raises(FetchError, match="not a public one"):
        mirror.fetch(remote, GitAccess(reach=Reach(public_only=True)), "main")
    assert server.requests == []


def test_names_of_branches_and_tags_may_be_beside_each_other_later(repository: Repository, mirror: Mirror) -> None:
    repository.commit(a="a")
    repository.git("branch", "x")
    repository.git("tag", "t")
    mirror.fetch(*repository.way(), "x")
    repository.git("branch", "--delete", "x")
    repository.git("tag", "--delete", "t")
    commit = repository.commit(a="b")
    repository.git("branch", "x/y")
    repository.git("tag", "t/u")
    assert mirror.fetch(*repository.way(), "x/y").commit == commit
    assert mirror.objects.run("tag", "--list").decode().split() == ["t/u"]


def test_a_moved_tag_moves(repository: Repository, mirror: Mirror) -> None:
    first = repository.commit(a="a")
    repository.git("tag", "latest")
    assert mirror.fetch(*repository.way(), "refs/tags/latest").commit == first
    second = repository.commit(a="b")
    repository.git("tag", "--force", "latest")
    assert mirror.fetch(*repository.way(), "refs/tags/latest").commit == second


def _empty_packs(repository: Path) -> None:
    for pack in repository.glob("objects/pack/*.pack"):
        pack.chmod(0o644)
        os.truncate(pack, 40)


def _of_root(repository: Path) -> None:
    for path in (repository.parent, repository):
        os.chown(path, 0, 0)
        path.chmod(0o700)


def _no_indexes(repository: Path) -> None:
    for path in repository.glob("objects/pack/*"):
        path.unlink()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: (path / "HEAD").unlink(), id="no HEAD"),
        pytest.param(lambda path: (path / "HEAD").write_bytes(b"\0\0\0"), id="HEAD is garbage"),
        pytest.param(lambda path: (path / "config").write_bytes(b"[[["), id="config is garbage"),
        pytest.param(lambda path: (path / "packed-refs").write_bytes(b"\0" * 200), id="refs are garbage"),
        pytest.param(_empty_packs, id="packs are cut short"),
        pytest.param(_no_indexes, id="all objects are lost"),
        pytest.param(_of_root, id="it is somebody else's"),
    ],
)
def test_a_damaged_mirror_is_fetched_anew(
    repository: Repository, mirror: Mirror, damage: Callable[[Path], None]
) -> None:
    repository.commit(a="a")
    mirror.fetch(*repository.way(), "main")
    damage(mirror.objects.directory / "repository")
    commit = repository.commit(a="b")
    assert mirror.fetch(*repository.way(), "main", commit=commit).commit == commit
    assert len(mirror.objects.run("rev-list", "--objects", commit).splitlines()) == 6  # commits, trees and files
    mirror.close()
    assert [path.name for path in mirror.objects.directory.parent.glob("*away*")] == []


def test_a_fetch_for_which_the_disk_is_too_small_leaves_nothing_on_it(
    repository: Repository, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit(a="a")
    mirror.fetch(*repository.way(), "main")
    left = mirror.objects.path / "pack" / "tmp_pack_x"

    def full(*_: object) -> None:
        left.write_bytes(b"as much as there was room for")
        raise FetchError("git fetch failed: fatal: write error: No space left on device")

    monkeypatch.setattr(Mirror, "_fetch", full)
    with pytest.raises(StorageFullError, match="no space left on the disk while fetching file://"):
        mirror.fetch(*repository.way(), "main", commit=repository.commit(a="b"))
    assert not left.exists()


def test_a_mirror_that_is_thrown_away_stays_for_who_still_looks(
    tmp_path: Path, repository: Repository, mirror: Mirror
) -> None:
    repository.commit(a="a")
    mirror.fetch(*repository.way(), "main")
    with Mirror.open(tmp_path / "root", "p", "u") as other:
        mirror.throw_away()
        mirror.fetch(*repository.way(), "main")
        mirror.close()
        assert len(list((tmp_path / "root" / "mirrors").glob("*.away-*"))) == 1
        assert other.key == mirror.key
    assert list((tmp_path / "root" / "mirrors").glob("*.away-*")) == []


def test_what_was_pushed_by_force_does_not_change_which_commit_is_used(repository: Repository, mirror: Mirror) -> None:
    repository.commit(a="a")
    mirror.fetch(*repository.way(), "main")
    asked = repository.commit(a="asked for")
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    pushed = repository.commit(a="by force")
    assert mirror.fetch(*repository.way(), "refs/heads/main", commit=asked).commit == asked
    assert mirror.objects.has(asked)
    assert mirror.fetch(*repository.way(), "refs/heads/main").commit == pushed


def test_a_commit_that_the_server_has_lost_is_a_clear_error(repository: Repository, mirror: Mirror) -> None:
    repository.commit(a="a")
    asked = repository.commit(a="asked for")
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    repository.commit(a="by force")
    repository.git("reflog", "expire", "--expire=now", "--all")
    repository.git("gc", "--quiet", "--prune=now")
    with pytest.raises(RepositoryError, match=f"{asked[:12]} any more: refs/heads/main was pushed by force"):
        mirror.fetch(*repository.way(), "refs/heads/main", commit=asked)


def test_whatever_was_set_aside_is_removed_and_what_a_link_leads_to_is_not(tmp_path: Path, mirror: Mirror) -> None:
    other = tmp_path / "another's"
    other.mkdir()
    aside = [mirror.objects.directory.with_name(f"{mirror.key}.away-{number}") for number in range(3)]
    aside[0].symlink_to(other)
    aside[1].write_text("")
    aside[2].mkdir()
    mirror.close()
    assert not any(os.path.lexists(path) for path in aside)
    assert other.exists()


def test_what_a_killed_git_left_is_removed(repository: Repository, mirror: Mirror) -> None:
    repository.commit(a="a")
    mirror.fetch(*repository.way(), "main")
    top = mirror.objects.directory / "repository"
    left = [
        "HEAD.lock", "packed-refs.lock", "config.lock", "refs/shiplap/x.lock", "refs/tags/v1.lock", "shallow.lock",
        "objects/pack/tmp_pack_abc", "objects/pack/.tmp-1-pack-x.pack", "objects/tmp_objdir-incoming-x/pack/y",
        "objects/info/commit-graph.lock",
    ]  # fmt: skip
    for name in left:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("")
    repository.git("tag", "tmp_1")
    commit = repository.commit(a="b")
    assert mirror.fetch(*repository.way(), "main").commit == commit
    assert [name for name in left if (top / name).exists()] == []
    assert mirror.fetch(*repository.way(), "tmp_1").tag == "tmp_1"


def test_one_fetches_at_a_time_and_all_get_what_they_want(tmp_path: Path, repository: Repository) -> None:
    commits = []
    for number in range(4):
        repository.git("checkout", "--quiet", "-B", f"b{number}")
        commits.append(repository.commit(a=str(number)))
    found: dict[int, str] = {}

    def fetch(number: int) -> None:
        with Mirror.open(tmp_path / "root", "p", "u") as mirror:
            found[number] = mirror.fetch(*repository.way(), f"b{number}").commit

    threads = [threading.Thread(target=fetch, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(4)] == commits


def test_who_waits_for_too_long_is_told_who_holds_it(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit(a="a")
    monkeypatch.setattr("ci.source.mirror._PATIENCE_S", 0.2 - 600)
    with Mirror.open(tmp_path / "root", "p", "u") as mirror:
        lock = mirror.objects.directory.with_name(f"{mirror.key}.lock")
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(RepositoryError, match="another process has held"):
                mirror.fetch(*repository.way(), "main")


def test_a_file_larger_than_git_may_write_ends_the_fetch(tmp_path: Path, repository: Repository) -> None:
    (repository.path / "big").write_bytes(os.urandom(300_000))
    commit = repository.commit()
    bounds = FetchSettings(file_bytes=100_000)
    remote, access = repository.way()
    with Mirror.open(tmp_path / "root", "p", "u") as mirror:
        with pytest.raises(FetchError, match="git fetch"):
            mirror.fetch(remote, GitAccess(local=access.local, bounds=bounds), "main")
        assert mirror.fetch(remote, access, "main").commit == commit


@pytest.fixture
def silent() -> Iterator[GitRemote]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield parse_remote(f"git://127.0.0.1:{listening.getsockname()[1]}/x")


def test_a_fetch_ends_with_its_run_and_with_its_time(mirror: Mirror, silent: GitRemote) -> None:
    stop = threading.Event()
    timer = threading.Timer(0.5, stop.set)
    timer.start()
    with pytest.raises(BuildCancelledError):
        mirror.fetch(silent, GitAccess(), "refs/heads/main", stopped=stop.is_set)
    with pytest.raises(FetchError, match="did not end within 1 s"):
        mirror.fetch(silent, GitAccess(bounds=FetchSettings(time_s=1)), "refs/heads/main")
    timer.join()


_FETCH = """
import sys
from pathlib import Path
from builder.remotes.gitroute import GitAccess
from builder.remotes.giturls import parse_remote
from ci.source.mirror import Mirror
with Mirror.open(Path(sys.argv[1]), "p", "u") as mirror:
    print("open", flush=True)
    mirror.fetch(parse_remote(sys.argv[2]), GitAccess(), "refs/heads/main")
"""


def test_a_kill_ends_git_too_and_leaves_a_mirror_that_works(
    tmp_path: Path, repository: Repository, mirror: Mirror, silent: GitRemote
) -> None:
    repository.commit(a="a")
    mirror.fetch(*repository.way(), "main")
    command = [sys.executable, "-c", _FETCH, str(tmp_path / "root"), silent.url]
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            eventually(lambda: _processes_with(silent.url) != [], why="git is running")
            process.send_signal(signal.SIGKILL)
        eventually(lambda: _processes_with(silent.url) == [], why="git has ended, too")
        commit = repository.commit(a="b")
        assert mirror.fetch(*repository.way(), "main", commit=commit).commit == commit
    assert list((tmp_path / "root" / "mirrors").glob(".fetching-*")) != []
    with Mirror.open(tmp_path / "root", "p", "u"):
        assert list((tmp_path / "root" / "mirrors").glob(".fetching-*")) == []


def _processes_with(text: str) -> list[int]:
    """The processes named git whose arguments have this text."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                words = Path(entry.path, "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if words[0] == b"git" and text.encode() in words:
                found.append(int(entry.name))
    return found


def test_what_a_fork_has_stays_beside_the_mirror(repository: Repository, mirror: Mirror, tmp_path: Path) -> None:
    (repository.path / "big").write_bytes(os.urandom(500_000))
    repository.commit(a="a")
    mirror.fetch(*repository.way(), "main")
    before = files(mirror)
    fork = Repository(tmp_path / "fork")
    fork.git("pull", "--quiet", str(repository.path), "main")
    fork.git("tag", "v9")
    theirs = fork.commit(a="theirs")
    with mirror.of_fork("7") as beside:
        assert beside.fetch(*fork.way(), "main").commit == theirs
        assert beside.objects.run("cat-file", "blob", f"{theirs}:a") == b"theirs"
        assert sum(files(beside).values()) < 100_000
        assert beside.objects.run("tag") == b""
    assert files(mirror) == before
    assert not mirror.objects.has(theirs)


def test_many_packs_become_one_when_nobody_looks(
    tmp_path: Path, repository: Repository, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ci.source.mirror._MOST_PACKS", 3)
    commits = []
    for number in range(5):
        commits.append(repository.commit(a=str(number)))
        mirror.fetch(*repository.way(), "main")
    repository.git("reset", "--quiet", "--hard", commits[0])
    commits.append(repository.commit(a="by force"))
    mirror.fetch(*repository.way(), "main")
    packs = mirror.objects.path / "pack"
    assert len(list(packs.glob("*.pack"))) == 6
    with Mirror.open(tmp_path / "root", "p", "u") as other:
        mirror.close()
        assert len(list(packs.glob("*.pack"))) == 6
        assert other.objects.has(commits[0])
    assert len(list(packs.glob("*.pack"))) < 4
    with Mirror.open(tmp_path / "root", "p", "u") as again:
        assert [again.objects.has(commit) for commit in commits] == [True] * 6
        assert again.objects.run("fsck", "--strict", "--no-dangling") == b""


def test_a_repository_of_sha256_has_a_mirror_of_its_kind(tmp_path: Path, mirror: Mirror) -> None:
    repository = Repository.__new__(Repository)
    repository.path = tmp_path / "sha256"
    words = ["git", "init", "--quiet", "--initial-branch=main", "--object-format=sha256", str(repository.path)]
    subprocess.run(words, check=True)
    commit = repository.commit(a="a")
    assert len(commit) == 64
    assert mirror.fetch(*repository.way(), "main").commit == commit
    assert mirror.fetch(*repository.way(), "refs/heads/main", commit=commit).commit == commit


def test_projects_have_mirrors_of_their_own(tmp_path: Path, repository: Repository) -> None:
    commit = repository.commit(a="a")
    with Mirror.open(tmp_path / "root", "p", "u") as one, Mirror.open(tmp_path / "root", "q", "u") as other:
        one.fetch(*repository.way(), "main")
        assert not other.objects.directory.exists()
        other.fetch(*repository.way(), "main", commit=commit)
        assert one.objects.directory != other.objects.directory


def test_packing_anew_neither_fails_a_run_nor_ends_with_it(
    repository: Repository, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ci.source.mirror._MOST_PACKS", 1)
    for number in range(3):
        repository.commit(a=str(number))
        mirror.fetch(*repository.way(), "main")
    packs = mirror.objects.path / "pack"
    for index in packs.glob("*.idx"):
        index.chmod(0o644)
        os.truncate(index, 30)

    class EndedError(Exception):
        pass

    def ended() -> None:
        raise EndedError

    with asking(ended):
        mirror.close()
    assert "stays as it is" in caplog.text
