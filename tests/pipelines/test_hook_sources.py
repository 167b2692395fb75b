"""Fetching what a webhook named: just that commit, and only when a file that counts has changed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import InvalidRequestError, NothingToBuildError, SourceError
from pipelines.model import GitSource
from pipelines.sources.git import Checkout, fetch_git, parse_url, reach
from tests.toolkit.git import git, make_certificate, serving_git

Fetch = Callable[..., Checkout]


@pytest.fixture(scope="module")
def commits(privileged: None) -> Iterator[tuple[str, str, Fetch]]:
    """Two commits of a branch, the second of which changed a file of ``docs``, and what fetches them."""
    directory = Path(tempfile.mkdtemp(prefix="shiplap-hook-"))
    directory.chmod(0o755)  # nobody, as whom git runs, has to read the certificate
    repository = directory / "repositories" / "app"
    (repository / "docs").mkdir(parents=True)
    git(repository, "init", "--quiet", "--initial-branch=main")
    made = []
    for text in ("one", "two"):
        (repository / "docs" / "a.md").write_text(text)
        (repository / "Dockerfile").write_text("FROM base\n")
        git(repository, "add", ".")
        git(repository, "commit", "--quiet", "-m", text)
        made.append(git(repository, "rev-parse", "HEAD"))
    with serving_git(repository.parent, make_certificate(directory, "git.test")) as server:
        numbers = iter(range(100))

        def fetch(**members: Any) -> Checkout:
            source = GitSource(f"https://git.test:{server.port}/app", **members)
            return fetch_git(
                source, directory / f"checkout-{next(numbers)}",
                bounds=reach(("git.test",), lambda host, port: ["127.0.0.1"]), ca_file=str(directory / "cert.pem"),
            )  # fmt: skip

        yield made[0], made[1], fetch
    shutil.rmtree(directory)


def test_pinned_commit_keeps_the_names_that_the_webhook_told(commits: tuple[str, str, Fetch]) -> None:
    first, _, fetch = commits
    found = fetch(ref=first, branch="main")
    assert (found.commit, found.branch) == (first, "main")
    assert (found.context / "docs" / "a.md").read_text() == "one"


def test_branch_that_moved_on_is_not_built_as_what_it_was(commits: tuple[str, str, Fetch]) -> None:
    first, second, fetch = commits
    assert fetch(ref="refs/heads/main", commit=second[:12]).commit == second
    with pytest.raises(SourceError, match=f"no more {first[:12]}"):
        fetch(ref="refs/heads/main", commit=first[:12])


def test_push_without_a_file_that_counts_is_not_built(commits: tuple[str, str, Fetch]) -> None:
    first, second, fetch = commits
    with pytest.raises(NothingToBuildError, match="no file changed"):
        fetch(ref=second, base=first, paths=("!docs",))
    assert fetch(ref=second, base=first, paths=("docs",)).commit == second
    assert not (fetch(ref=second, base=first, paths=("docs",)).context / ".git").exists()


def test_base_that_is_gone_counts_as_changed(commits: tuple[str, str, Fetch]) -> None:
    _, second, fetch = commits
    assert fetch(ref=second, base="f" * 40, paths=("src",)).commit == second


def test_repository_of_this_machine_is_fetched_only_from_its_place(privileged: None, tmp_path: Path) -> None:
    place, elsewhere = tmp_path / "git", tmp_path / "elsewhere.git"
    git(tmp_path, "init", "--quiet", "--bare", "elsewhere.git")
    git(tmp_path, "init", "--quiet", "--initial-branch=main", "work")
    (tmp_path / "work" / "Dockerfile").write_text("FROM base\n")
    git(tmp_path / "work", "add", ".")
    git(tmp_path / "work", "commit", "--quiet", "-m", "one")
    git(tmp_path / "work", "push", "--quiet", str(elsewhere), "main")
    place.mkdir()
    (place / "app.git").symlink_to(elsewhere)  # an administrator's link
    head = git(tmp_path / "work", "rev-parse", "HEAD")
    found = fetch_git(GitSource(f"file://{place}/app.git", "main"), tmp_path / "one", local=place)
    assert (found.commit, found.branch) == (head, "main")
    with pytest.raises(SourceError, match="not on this worker's machine"):
        fetch_git(GitSource(f"file://{place}/nothing.git"), tmp_path / "two", local=place)


def test_repository_of_this_machine_is_fetched_under_the_umask_of_the_units(privileged: None, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--initial-branch=main", "work")
    (tmp_path / "work" / "Dockerfile").write_text("FROM base\n")
    git(tmp_path / "work", "add", ".")
    git(tmp_path / "work", "commit", "--quiet", "-m", "one")
    git(tmp_path, "clone", "--quiet", "--bare", "work", "git/app.git")
    before = os.umask(0o077)
    try:
        found = fetch_git(GitSource(f"file://{tmp_path}/git/app.git", "main"), tmp_path / "one", local=tmp_path / "git")
    finally:
        os.umask(before)
    assert found.branch == "main"


@pytest.mark.parametrize(
    "url", ["/git/../etc/x", "/etc", "host/git/x", "/git", "/git/", "/git/a%2fb", "/gitx/a", "/git/a?b"]
)
def test_other_files_are_no_sources(url: str) -> None:
    assert parse_url("file:///git/app.git", Path("/git")).url == "file:///git/app.git"
    with pytest.raises(InvalidRequestError):
        parse_url("file:///git/app.git")
    with pytest.raises(InvalidRequestError):
        parse_url(f"file://{url}", Path("/git"))
