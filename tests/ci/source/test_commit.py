"""The source of a run from git: what jobs get of a commit, submodules with it, and damage that nobody notices."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import BuilderError
from builder.remotes.gitroute import GitAccess
from builder.remotes.giturls import parse_remote
from ci.errors import DamagedRepositoryError, RepositoryError
from ci.model import SourceOptions
from ci.source.commit import FetchedCommit, WantedCommit
from ci.source.facts import pipeline_files_of
from ci.source.submodules import local_submodule_layers, submodules_of
from ci.source.workingtree import LocalRepository
from core.reach import Reach
from images.store import Store
from tests.ci.source.repositories import Repository, seen, spoil
from tests.images.test_snapshots import mounted
from tests.toolkit.git import GitServer, git, serving_git

pytestmark = pytest.mark.usefixtures("privileged")

PLAIN = SourceOptions()
PIPELINE = os.urandom(4000).hex()
WITH_SUBMODULES = SourceOptions(submodules=True)


@pytest.fixture
def server(short_path: Path) -> Iterator[GitServer]:
    with serving_git(short_path) as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "root") as store:
        yield store


class Forge:
    """Repositories that a server has."""

    def __init__(self, directory: Path, server: GitServer, store: Store) -> None:
        self.directory = directory
        self.url = server.url
        self.store = store

    def repository(self, name: str) -> Repository:
        return Repository(self.directory / name)

    def add_submodule(self, outer: Repository, inner: Repository, path: str, url: str) -> None:
        git(outer.path, "clone", "--quiet", str(inner.path), path)
        with (outer.path / ".gitmodules").open("a") as file:
            file.write(f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n')
        outer.git("-c", "advice.addEmbeddedRepo=false", "add", "--all")
        outer.git("commit", "--quiet", "--message", f"submodule {path}")

    def fetched(self, access: GitAccess | None = None) -> FetchedCommit:
        """The branch main of the repository ``outer``."""
        remote = parse_remote(f"{self.url}/outer/.git")
        return FetchedCommit(self.store, WantedCommit("p", remote, access or GitAccess(), "main"))

    def files(self, layers: tuple[object, ...], place: Path) -> dict[str, str]:
        place.mkdir(exist_ok=True)
        with mounted(self.store.snapshots.lowers(layers), place) as root:  # type: ignore[arg-type]
            return {
                os.fsdecode(path): content.decode()
                for path, (mode, content) in seen(root).items()
                if mode & 0o170000 == 0o100000 and not path.endswith(b".gitmodules")
            }


@pytest.fixture
def forge(short_path: Path, server: GitServer, store: Store) -> Forge:
    return Forge(short_path, server, store)


def test_a_commit_gives_files_facts_and_its_git_directory(forge: Forge, tmp_path: Path) -> None:
    commit = forge.repository("outer").commit("a title", a="1")
    with forge.fetched() as fetched:
        assert forge.files(fetched.layers(PLAIN), tmp_path / "seen") == {"a": "1"}
        assert fetched.facts()["SHIPLAP_TITLE"] == "a title"
        assert (fetched.commit.id, fetched.fetched.branch) == (commit, "main")
        view = fetched.git_view(PLAIN)
        assert view is not None
        with view.mounted("/work/.git") as mounts:
            assert [mount.target for mount in mounts] == ["/work/.git", "/work/.git/lent/0"]
        assert fetched.git_view(SourceOptions(history=0)) is None


def test_a_mirror_that_lost_its_objects_is_fetched_anew_while_it_is_read(forge: Forge, tmp_path: Path) -> None:
    repository = forge.repository("outer")
    repository.commit(a="1")
    with forge.fetched() as fetched:
        shutil.rmtree(fetched.objects.path / "pack")
        repository.commit(a="2")
        assert forge.files(fetched.layers(PLAIN), tmp_path / "seen") == {"a": "1"}


def test_a_repository_that_stays_damaged_is_an_error(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    forge.repository("outer").commit(a="1")
    with forge.fetched() as fetched:

        def broken(*_: object) -> None:
            raise DamagedRepositoryError("again", fetched.objects.directory)

        monkeypatch.setattr("ci.source.commit.describe", broken)
        with pytest.raises(DamagedRepositoryError, match="again"):
            fetched.facts()


def test_whatever_is_asked_of_a_damaged_mirror_is_asked_of_a_new_one(forge: Forge) -> None:
    forge.repository("outer").commit(_DOT_shiplap_DOT_yml=PIPELINE)
    with forge.fetched() as fetched:
        spoil(fetched.objects.path / "pack")
        files = fetched.read(lambda objects: pipeline_files_of(objects, fetched.commit.tree))
        assert files == {".shiplap.yml": PIPELINE.encode()}


def test_who_leaves_by_the_damage_of_a_mirror_leaves_a_new_one_to_the_next(forge: Forge) -> None:
    forge.repository("outer").commit(_DOT_shiplap_DOT_yml=PIPELINE)

    def read(fetched: FetchedCommit) -> dict[str, bytes]:
        return pipeline_files_of(fetched.objects, fetched.commit.tree)

    with forge.fetched() as fetched:
        spoil(fetched.objects.path / "pack")
    with pytest.raises(DamagedRepositoryError), forge.fetched() as fetched:
        read(fetched)
    with forge.fetched() as fetched:
        assert read(fetched) == {".shiplap.yml": PIPELINE.encode()}


def test_submodules_come_from_their_own_repositories_at_their_commits(forge: Forge, tmp_path: Path) -> None:
    deep, inner, outer = (forge.repository(name) for name in ("deep", "inner", "outer"))
    deep.commit(z="deep")
    inner.commit(x="inner")
    forge.add_submodule(inner, deep, "d", f"{forge.url}/deep/.git")
    outer.commit(a="outer")
    forge.add_submodule(outer, inner, "lib/sub", "../../inner/.git")
    inner.commit(x="later")
    with forge.fetched() as fetched:
        assert forge.files(fetched.layers(PLAIN), tmp_path / "plain") == {"a": "outer"}
        found = forge.files(fetched.layers(WITH_SUBMODULES), tmp_path / "all")
        assert found == {"a": "outer", "lib/sub/x": "inner", "lib/sub/d/z": "deep"}
        assert [each.path for each in submodules_of(fetched.objects, fetched.commit.tree)] == ["lib/sub"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("/etc", "git URLs of kind 'path' are not fetched"),
        ("file:///etc", "git URLs of kind 'file' are not fetched"),
        ("ext::sh -c touch% /tmp/x", "submodule"),
        ("../../../../x", "above the server's root"),
        ("", "does not say where it comes from"),
    ],
)
def test_a_submodule_from_anywhere_else_is_refused(forge: Forge, url: str, message: str) -> None:
    inner, outer = forge.repository("inner"), forge.repository("outer")
    inner.commit(x="1")
    outer.commit(a="1")
    forge.add_submodule(outer, inner, "sub", url)
    with forge.fetched() as fetched, pytest.raises(RepositoryError, match=message):
        fetched.layers(WITH_SUBMODULES)


def test_a_submodule_reaches_no_further_than_the_run(forge: Forge) -> None:
    inner, outer = forge.repository("inner"), forge.repository("outer")
    inner.commit(x="1")
    outer.commit(a="1")
    forge.add_submodule(outer, inner, "sub", "http://10.1.2.3/x.git")
    port = forge.url.rpartition(":")[2]
    access = GitAccess(reach=Reach(public_only=True, allowed=(f"127.0.0.1:{port}",)))
    with forge.fetched(access=access) as fetched, pytest.raises(BuilderError, match="not a public one"):
        fetched.layers(WITH_SUBMODULES)


def test_a_repository_of_this_machine_leads_to_no_other_one(forge: Forge, short_path: Path) -> None:
    other, outer = forge.repository("other"), forge.repository("outer")
    other.commit(secret="1")
    outer.commit(a="1")
    forge.add_submodule(outer, other, "sub", "../other")
    remote, access = outer.way()
    with (
        FetchedCommit(forge.store, WantedCommit("p", remote, access, "main")) as fetched,
        pytest.raises(RepositoryError, match="beside a repository of this machine"),
    ):
        fetched.layers(WITH_SUBMODULES)


def test_too_many_submodules_are_refused(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ci.source.submodules._MOST", 1)
    inner, outer = forge.repository("inner"), forge.repository("outer")
    inner.commit(x="1")
    outer.commit(a="1")
    for path in ("one", "two"):
        forge.add_submodule(outer, inner, path, f"{forge.url}/inner/.git")
    with forge.fetched() as fetched, pytest.raises(RepositoryError, match="more than 1 submodules"):
        fetched.layers(WITH_SUBMODULES)


def test_a_submodule_that_contains_itself_ends(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ci.source.submodules._DEEPEST", 2)
    names = ("c", "b", "a", "outer")
    below = None
    for name in names:
        repository = forge.repository(name)
        repository.commit(x=name)
        if below is not None:
            forge.add_submodule(repository, below, "sub", f"../../{below.path.name}/.git")
        below = repository
    with forge.fetched() as fetched, pytest.raises(RepositoryError, match="some are in 2 others"):
        fetched.layers(WITH_SUBMODULES)


def test_here_submodules_are_as_their_working_trees_are(forge: Forge, tmp_path: Path) -> None:
    inner, outer = forge.repository("inner"), forge.repository("outer")
    inner.commit(x="1")
    outer.commit(a="1")
    forge.add_submodule(outer, inner, "sub", f"{forge.url}/inner/.git")
    (outer.path / "sub" / "new").write_text("2")
    with LocalRepository.open(forge.store.root, outer.path) as local:
        assert forge.files(local_submodule_layers(forge.store, local, local.tree()), tmp_path / "seen") == {
            "sub/x": "1", "sub/new": "2",
        }  # fmt: skip
        shutil.rmtree(outer.path / "sub")
        (outer.path / "sub").mkdir()
        with pytest.raises(RepositoryError, match="the submodule sub is not here"):
            local_submodule_layers(forge.store, local, outer.git("rev-parse", "HEAD^{tree}"))


def test_a_gitmodules_that_git_cannot_read_is_its_authors_fault(forge: Forge) -> None:
    inner, outer = forge.repository("inner"), forge.repository("outer")
    inner.commit(x="1")
    forge.add_submodule(outer, inner, "sub", "../../inner/.git")
    outer.commit(_DOT_gitmodules="[submodule\n")
    with forge.fetched() as fetched, pytest.raises(RepositoryError, match=r"\.gitmodules .* bad config line") as told:
        fetched.layers(WITH_SUBMODULES)
    assert not isinstance(told.value, DamagedRepositoryError)


def forked(forge: Forge) -> WantedCommit:
    """A commit of a fork of ``outer``, of which there is a mirror."""
    forge.repository("outer").commit(a="1", _DOT_shiplap_DOT_yml=PIPELINE)
    with forge.fetched():
        pass
    fork = forge.repository("fork")
    fork.git("pull", "--quiet", str(forge.directory / "outer"), "main")
    fork.commit(a="theirs")
    base = parse_remote(f"{forge.url}/outer/.git")
    return WantedCommit("p", parse_remote(f"{forge.url}/fork/.git"), GitAccess(), "main", fork="7", base=base)


def test_a_fork_reads_past_the_damage_of_what_it_borrows_and_throws_nothing_of_that_away(
    forge: Forge, tmp_path: Path
) -> None:
    wanted = forked(forge)
    with FetchedCommit(forge.store, wanted) as fetched:
        (lent,) = fetched.objects.borrowed
        spoil(lent / "pack")
        seen = forge.files(fetched.layers(PLAIN), tmp_path / "seen")
        assert seen == {"a": "theirs", ".shiplap.yml": PIPELINE}
        assert fetched.objects.borrowed == ()
        assert list(lent.glob("pack/*.pack"))


def test_a_fork_is_fetched_beside_and_its_jobs_see_its_commit_alone(forge: Forge, tmp_path: Path) -> None:
    wanted = forked(forge)
    with FetchedCommit(forge.store, wanted) as fetched:
        assert forge.files(fetched.layers(PLAIN), tmp_path / "seen") == {"a": "theirs", ".shiplap.yml": PIPELINE}
        assert len(fetched.objects.borrowed) == 1
        view = fetched.git_view(PLAIN)
        assert view is not None
        with view.mounted("/work/.git") as mounts:
            assert len(mounts) == 1
