"""Working trees as trees: what is not committed, what is ignored, and that nobody's repository is written into."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ci.errors import RepositoryError
from ci.model import SourceOptions
from ci.source.facts import describe, read_commit
from ci.source.layers import layers_of
from ci.source.workingtree import LocalRepository
from cli.jobs.asked import About
from cli.jobs.tree import read_tree
from images.store import Store
from tests.ci.source.repositories import Repository
from tests.toolkit.git import git

pytestmark = pytest.mark.usefixtures("privileged")

SOMEBODY = 4321


@pytest.fixture
def repository(short_path: Path) -> Repository:
    return Repository(short_path / "repository")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return place


def contents(root: Path, path: Path) -> dict[str, bytes]:
    """The files of the tree that the working tree is."""
    with LocalRepository.open(root, path) as local:
        tree = local.tree()
        return {
            os.fsdecode(entry.path): local.objects.run("cat-file", "blob", entry.id.decode())
            for entry in local.objects.entries(tree)
            if entry.mode not in (b"040000", b"160000")
        }


def everything(path: Path) -> dict[str, tuple[object, ...]]:
    """All that could change of what is below a directory, times of reading but for."""
    found: dict[str, tuple[object, ...]] = {}
    for each in (path, *path.rglob("*")):
        info = each.lstat()
        data = each.read_bytes() if each.is_file() and not each.is_symlink() else b""
        found[str(each)] = (info.st_mode, info.st_uid, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, data)
    return found


def test_what_is_not_committed_is_there_and_what_is_ignored_is_not(repository: Repository, root: Path) -> None:
    repository.commit(kept="1", changed="1", removed="1", _DOT_gitignore="*.log\nbuild/\n", forced_DOT_log="1")
    repository.git("add", "--force", "forced.log")
    repository.git("commit", "--quiet", "--message", "forced")
    repository.write(changed="2", staged="2", untracked__deep="2", noise_DOT_log="2", build__out="2")
    repository.git("add", "staged")
    repository.write(staged="3")
    (repository.path / "removed").unlink()
    expected = {
        "kept": b"1", "changed": b"2", "staged": b"3", "untracked/deep": b"2", ".gitignore": b"*.log\nbuild/\n",
        "forced.log": b"1",
    }  # fmt: skip
    assert contents(root, repository.path) == expected
    assert contents(root, repository.path / "untracked") == expected


def test_other_ways_to_ignore_count_too(repository: Repository, root: Path, home: Path) -> None:
    repository.write(a="1", b="1", c="1", d="1")
    (repository.path / ".git" / "info").mkdir(exist_ok=True)
    (repository.path / ".git" / "info" / "exclude").write_text("a\n")
    (home / ".config" / "git").mkdir(parents=True)
    (home / ".config" / "git" / "ignore").write_text("b\n")
    assert set(contents(root, repository.path)) == {"c", "d"}
    (home / "mine").write_text("c\n")
    (home / ".gitconfig").write_text("[core]\n\texcludesFile = ~/mine\n")
    assert set(contents(root, repository.path)) == {"b", "d"}


@pytest.mark.parametrize("state", ["dirty", "clean", "unborn"])
def test_nothing_is_written_into_the_repository(repository: Repository, root: Path, state: str) -> None:
    if state != "unborn":
        repository.commit(a="1", d__b="1")
    if state != "clean":
        repository.write(a="2", new="2")
    before = everything(repository.path)
    for _ in range(2):
        contents(root, repository.path)
    assert everything(repository.path) == before


def test_a_repository_without_a_commit_has_what_is_there(repository: Repository, root: Path) -> None:
    repository.write(a="1")
    with LocalRepository.open(root, repository.path) as local:
        assert (local.commit, local.branch, local.top) == ("", "main", repository.path)
    assert contents(root, repository.path) == {"a": b"1"}


def test_an_empty_repository_is_an_empty_tree(repository: Repository, root: Path, tmp_path: Path) -> None:
    with Store.open(root) as store, LocalRepository.open(root, repository.path) as local:
        (layer,) = layers_of(store, local.key, local.objects, local.tree())
        assert store.layers.size(layer) == 1536


def test_head_is_told_with_its_tags(repository: Repository, root: Path) -> None:
    repository.commit(a="1")
    repository.git("tag", "v1.0")
    commit = repository.commit("the title", a="2")
    repository.write(a="3")
    with LocalRepository.open(root, repository.path) as local:
        assert (local.commit, local.branch) == (commit, "main")
        facts = describe(local.objects, read_commit(local.objects, local.commit))
    assert facts["SHIPLAP_DESCRIBE"] == f"v1.0-1-g{commit[:7]}"
    repository.git("checkout", "--quiet", "--detach")
    with LocalRepository.open(root, repository.path) as local:
        assert (local.commit, local.branch) == (commit, "")


def test_a_second_working_tree_and_a_subdirectory_of_its_own_git_directory_work(
    repository: Repository, root: Path, short_path: Path
) -> None:
    repository.commit(a="1")
    other = short_path / "other"
    repository.git("worktree", "add", "--quiet", "-b", "side", str(other))
    (other / "new").write_text("2")
    assert contents(root, other) == {"a": b"1", "new": b"2"}
    assert contents(root, repository.path) == {"a": b"1"}
    apart = short_path / "apart"
    subprocess.run(["git", "init", "--quiet", f"--separate-git-dir={short_path}/gitdir", str(apart)], check=True)
    (apart / "x").write_text("x")
    assert contents(root, apart) == {"x": b"x"}


def test_objects_that_a_repository_borrows_are_found(repository: Repository, root: Path, short_path: Path) -> None:
    repository.commit(a="1")
    clone = short_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--shared", repository.path, clone], check=True)
    shallow = short_path / "shallow"
    subprocess.run(["git", "clone", "--quiet", "--depth=1", f"file://{repository.path}", shallow], check=True)
    for path in (clone, shallow):
        (path / "new").write_text("2")
        assert contents(root, path) == {"a": b"1", "new": b"2"}
        with LocalRepository.open(root, path) as local:
            assert local.objects.run("log", "--format=%s", local.commit) == b"a change\n"
            assert read_commit(local.objects, local.commit).title == "a change"


def test_submodules_are_what_they_stand_at(repository: Repository, root: Path, short_path: Path) -> None:
    inner = Repository(short_path / "inner")
    inner.commit(x="1")
    repository.commit(a="1")
    repository.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner.path), "sub")
    repository.commit()
    moved = Repository.__new__(Repository)
    moved.path = repository.path / "sub"
    commit = moved.commit(x="2")
    with LocalRepository.open(root, repository.path) as local:
        entries = {entry.path: entry for entry in local.objects.entries(local.tree())}
    assert entries[b"sub"].mode == b"160000"
    assert entries[b"sub"].id.decode() == commit
    assert contents(root, repository.path / "sub") == {"x": b"2"}


def test_no_hook_filter_or_monitor_of_the_repository_is_run(repository: Repository, root: Path, home: Path) -> None:
    mark = repository.path.parent / "was-run"
    script = repository.path.parent / "script"
    script.write_text(f"#!/bin/sh\necho $0 $* >> {mark}\ncat\n")
    script.chmod(0o755)
    repository.commit(_DOT_gitattributes="* filter=evil diff=evil\n", a="1")
    for hook in ("post-index-change", "pre-commit", "reference-transaction", "fsmonitor-watchman"):
        shutil.copy(script, repository.path / ".git" / "hooks" / hook)
    for setting in ("filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "core.fsmonitor",
                    "diff.evil.textconv", "core.alternateRefsCommand", "core.editor"):  # fmt: skip
        repository.git("config", setting, str(script))
        git(repository.path, "config", "--global", setting, str(script), HOME=str(home))
    mark.unlink(missing_ok=True)
    repository.write(a="2", b="2")
    assert contents(root, repository.path) == {".gitattributes": b"* filter=evil diff=evil\n", "a": b"2", "b": b"2"}
    assert not mark.exists()


def test_a_repository_of_somebody_else_is_read_as_that_user(repository: Repository, root: Path) -> None:
    repository.commit(a="1")
    repository.write(b="2")
    for path in (repository.path, *repository.path.rglob("*")):
        os.chown(path, SOMEBODY, SOMEBODY, follow_symlinks=False)
    os.chown(repository.path.parent, SOMEBODY, SOMEBODY)
    for path in (repository.path, repository.path.parent):
        path.chmod(0o700)
    assert contents(root, repository.path) == {"a": b"1", "b": b"2"}
    (repository.path / "c").write_text("root's")
    (repository.path / "c").chmod(0o600)
    with pytest.raises(RepositoryError, match="Permission denied"):
        contents(root, repository.path)
    assert not list((repository.path / ".git").rglob("*.lock"))


def test_a_repository_does_not_lead_to_what_others_have(repository: Repository, root: Path, tmp_path: Path) -> None:
    """Whoever has root run a pipeline in a directory of theirs gets nothing of root's by it."""
    secret = Repository(tmp_path / "secret")
    secret.commit(key="s3cret")
    repository.commit(a="1")
    for path in (repository.path, *repository.path.rglob("*")):
        os.chown(path, SOMEBODY, SOMEBODY, follow_symlinks=False)
    alternates = repository.path / ".git" / "objects" / "info" / "alternates"
    alternates.write_text(f"{secret.path}/.git/objects\n")
    os.chown(alternates, SOMEBODY, SOMEBODY)
    with pytest.raises(RepositoryError, match="borrows objects of somebody else's"):
        contents(root, repository.path)
    alternates.unlink()
    with (repository.path / ".git" / "config").open("a") as config:
        config.write(f"[core]\n\tworktree = {secret.path}\n")
    os.chown(repository.path / ".git" / "config", SOMEBODY, SOMEBODY)
    with pytest.raises(RepositoryError):
        contents(root, repository.path)


def test_a_directory_that_is_no_repository_says_what_to_do(root: Path, short_path: Path) -> None:
    with pytest.raises(RepositoryError, match="is in no git repository") as caught:
        LocalRepository.open(root, short_path)
    assert caught.value.hint == "git init makes one of it; nothing has to be committed"
    with pytest.raises(RepositoryError, match="is no directory"):
        LocalRepository.open(root, short_path / "none")
    subprocess.run(["git", "init", "--quiet", "--bare", short_path / "bare.git"], check=True)
    with pytest.raises(RepositoryError, match="without files"):
        LocalRepository.open(root, short_path / "bare.git")


def test_a_merge_in_conflict_and_a_split_index_are_as_the_files_are(repository: Repository, root: Path) -> None:
    repository.commit(a="1\n")
    repository.git("checkout", "--quiet", "-b", "side")
    repository.commit(a="side\n")
    repository.git("checkout", "--quiet", "main")
    repository.commit(a="main\n")
    with pytest.raises(subprocess.CalledProcessError):
        repository.git("merge", "--quiet", "side")
    assert contents(root, repository.path)["a"].startswith(b"<<<<<<<")
    repository.git("add", "a")
    repository.git("update-index", "--split-index")
    repository.write(b="2")
    assert set(contents(root, repository.path)) == {"a", "b"}


def test_only_what_changed_is_read_again(repository: Repository, root: Path) -> None:
    repository.write(**{f"f{n}": f"{n}" for n in range(50)})
    for path in repository.path.glob("f*"):
        os.utime(path, (1e9, 1e9))  # what was written in the same moment as the index has to be read
    repository.commit()
    repository.write(f1="changed")
    with LocalRepository.open(root, repository.path) as local:
        local.tree()
        own = [path for path in local.objects.path.rglob("*") if path.is_file()]
    assert len(own) == 2  # the file and the tree


def test_what_was_made_of_it_is_as_on_the_service(repository: Repository, root: Path) -> None:
    repository.commit(a="1", d__b="2")
    with Store.open(root) as store, LocalRepository.open(root, repository.path) as local:
        tree = local.tree()
        assert tree == repository.git("rev-parse", "HEAD^{tree}")
        (layer,) = layers_of(store, local.key, local.objects, tree)
        assert layers_of(store, "another", local.objects, tree) == (layer,)


def _no_loose(repository: Path) -> None:
    """What a power loss leaves of files that were not synced."""
    for path in repository.glob("objects/??/*"):
        path.chmod(0o644)
        os.truncate(path, 0)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda ours: (ours / "HEAD").write_bytes(b"\0\0"), id="HEAD is garbage"),
        pytest.param(lambda ours: (ours / "config").write_bytes(b"[[["), id="config is garbage"),
        pytest.param(_no_loose, id="objects are empty"),
    ],
)
def test_what_is_ours_is_made_again_when_it_is_damaged(
    repository: Repository, root: Path, damage: Callable[[Path], None]
) -> None:
    repository.commit(a="1")
    repository.write(a="2", b="3")
    with Store.open(root) as store, LocalRepository.open(root, repository.path) as local:
        local.tree()
        damage(local.objects.directory / "repository")
        found = read_tree(local, About("push", "main", "", "", (), (), "", ""), SourceOptions(), store)
        assert len(found.layers) == 1
        assert {entry.path for entry in local.objects.entries(local.tree())} == {b"a", b"b"}
