"""Parts' files: of a commit, of a working tree, and of another repository by its full commit."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import FetchUnreachableError
from builder.remotes.access import git_header
from builder.remotes.gitroute import GitAccess, basic
from ci.errors import CiError, RepositoryError
from ci.language.names import PartPlace
from ci.source.commit import FetchedCommit, WantedCommit
from ci.source.parts import PartsElsewhere, parts_of_commit, parts_of_directory
from core.reach import Reach
from images.store import Store
from tests.ci.source.repositories import Repository
from tests.toolkit.git import GitServer, make_certificate, serving_git

pytestmark = pytest.mark.usefixtures("privileged")

HERE = "127.0.0.1"


class Forge:
    """A server with one repository, whose certificate is its own."""

    def __init__(self, server: GitServer, certificate: Path, repository: Repository, root: Path) -> None:
        self.server = server
        self.repository = repository
        self.url = f"https://{HERE}:{server.port}/{repository.path.name}"
        self._access = GitAccess(ca_file=str(certificate))
        self._root = root

    def place(self, commit: str, path: str = "go.yml") -> PartPlace:
        return PartPlace(self.url, commit, path)

    def parts(self, project: str = "app", *, secrets: dict[str, bytes] | None = None) -> PartsElsewhere:
        header = functools.partial(git_header, secrets) if secrets is not None else None
        access = GitAccess(header=header, ca_file=self._access.ca_file)
        return PartsElsewhere(self._root, project, access)


@pytest.fixture
def forge(short_path: Path, tmp_path: Path) -> Iterator[Forge]:
    certificate = make_certificate(short_path, HERE)
    with serving_git(short_path, certificate) as server:
        yield Forge(server, certificate, Repository(short_path / "parts"), tmp_path / "root")


def test_a_part_of_another_repository_stays_here(forge: Forge) -> None:
    old = forge.repository.commit(go_DOT_yml="old")
    forge.repository.commit(go_DOT_yml="new", ci__deep_DOT_yml="deep")
    assert forge.parts().read(forge.place(old)) == b"old"
    asked = len(forge.server.requests)
    assert forge.parts().read(forge.place(old)) == b"old"
    assert len(forge.server.requests) == asked, "it is here"


def test_a_private_part_takes_what_the_project_has_for_that_host_alone(forge: Forge) -> None:
    commit = forge.repository.commit(go_DOT_yml="private")
    forge.server.authorization = basic("x-access-token:word")
    with pytest.raises(RepositoryError):
        forge.parts().read(forge.place(commit))
    with pytest.raises(RepositoryError):
        forge.parts(secrets={"GIT_AUTH_TOKEN.elsewhere.example": b"word"}).read(forge.place(commit))
    of_host = {f"GIT_AUTH_TOKEN.{HERE}": b"word"}
    assert forge.parts(secrets=of_host).read(forge.place(commit)) == b"private"
    with pytest.raises(RepositoryError):  # another project's mirror is no way around
        forge.parts("app fork").read(forge.place(commit))


@pytest.mark.parametrize("path", ["none.yml", "ci", "link.yml", "sub/link/go.yml", "go.yml/", "*.yml"])
def test_what_is_no_file_there_is_told(forge: Forge, path: str) -> None:
    (forge.repository.path / "link.yml").symlink_to("go.yml")
    (forge.repository.path / "sub").mkdir()
    (forge.repository.path / "sub/link").symlink_to("../ci")
    commit = forge.repository.commit(go_DOT_yml="x", ci__go_DOT_yml="y")
    with pytest.raises(RepositoryError, match=r"there is no file|of the commit is no file"):
        forge.parts().read(forge.place(commit, path))


def test_a_commit_that_is_gone_is_told(forge: Forge) -> None:
    forge.repository.commit(go_DOT_yml="x")
    with pytest.raises(RepositoryError, match="0123456789abcdef"):
        forge.parts().read(forge.place("0123456789abcdef0123456789abcdef01234567"))


def test_what_a_run_may_not_reach_is_no_fault_of_the_machine(forge: Forge) -> None:
    commit = forge.repository.commit(go_DOT_yml="x")
    parts = forge.parts()._replace(access=GitAccess(Reach(public_only=True)))
    with pytest.raises(RepositoryError, match=HERE):
        parts.read(forge.place(commit))
    assert not forge.server.requests


def test_a_server_that_is_away_is(forge: Forge) -> None:
    with pytest.raises(FetchUnreachableError):
        forge.parts().read(PartPlace(f"https://{HERE}:1/parts", "0" * 40, "go.yml"))


def test_a_damaged_mirror_is_fetched_anew(forge: Forge, tmp_path: Path) -> None:
    commit = forge.repository.commit(go_DOT_yml="x" * 5000)
    assert forge.parts().read(forge.place(commit)) == b"x" * 5000
    packs = list((tmp_path / "root/mirrors").glob("*/repository/objects/pack/*.pack"))
    assert packs
    for pack in packs:
        pack.chmod(0o600)
        pack.write_bytes(pack.read_bytes()[:-60] + bytes(60))
    assert forge.parts().read(forge.place(commit)) == b"x" * 5000


def test_a_commit_and_a_working_tree_give_the_same(forge: Forge, tmp_path: Path) -> None:
    (forge.repository.path / "link").symlink_to("ci")
    commit = forge.repository.commit(ci__go_DOT_yml="mine")
    remote, access = forge.repository.way()
    wanted = WantedCommit("", remote, access, commit)
    with Store.open(tmp_path / "root") as store, FetchedCommit(store, wanted) as fetched:
        of_commit = parts_of_commit(fetched, forge.parts())
        of_tree = parts_of_directory(forge.repository.path, forge.parts())
        for read in (of_commit, of_tree):
            assert read(PartPlace("", "", "ci/go.yml")) == b"mine"
            for path in ("link/go.yml", "ci", "go.yml"):
                with pytest.raises(CiError):
                    read(PartPlace("", "", path))
