"""``.git`` of a workspace: git works in there, reads no file to see that nothing changed, and writes nowhere else."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci.epoch import BEGINNING
from ci.source.facts import read_commit
from ci.source.gitindex import entry_of, index_of, patched, retimed
from ci.source.gitview import GitView
from ci.source.layers import layers_of
from ci.source.mirror import Mirror
from ci.source.workingtree import LocalRepository
from containers.spec import Bind, Tree
from core.digests import DiffID
from core.rootfs import DirectoryLayer, RootLayer
from images.store import Store
from tests.ci.source.repositories import Repository
from tests.images.test_snapshots import mount
from tests.toolkit.git import git

pytestmark = pytest.mark.usefixtures("privileged")


class Place:
    """A repository, its mirror, and a store."""

    def __init__(self, directory: Path, store: Store) -> None:
        self.repository = Repository(directory / "repository")
        self.store = store
        self.directory = directory
        self.mirror = Mirror.open(store.root, "p", "u")

    def view(self, ref: str = "main", **options: object) -> GitView:
        found = self.mirror.fetch(*self.repository.way(), ref)
        commit = read_commit(self.mirror.objects, found.commit)
        return GitView(self.store, "k", self.mirror.objects, commit, commit.tree, branch=found.branch, **options)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def workspace(self, view: GitView, *above: DiffID) -> Iterator[Path]:
        """The commit's files with ``.git``, as a container has them. above: more layers."""
        objects = view._objects
        with contextlib.ExitStack() as stack:
            files = layers_of(self.store, "k", objects, view._tree)
            lowers = self.store.snapshots.lowers((*files, *above))
            upper = self.store.snapshots.new_upper(lowers)
            top = self.directory / "workspace"
            top.mkdir()
            stack.callback(shutil.rmtree, top, ignore_errors=True)
            _overlay(stack, lowers, upper.path, top)
            (top / ".git").mkdir()
            for mounted in stack.enter_context(view.mounted(str(top / ".git"))):
                if isinstance(mounted, Tree):
                    assert mounted.upper is not None
                    _overlay(stack, mounted.layers, mounted.upper, Path(mounted.target))
                else:
                    assert isinstance(mounted, Bind)
                    assert mounted.readonly
                    mount("--bind", "-o", "ro", mounted.source, mounted.target)
                    stack.callback(subprocess.run, ["umount", mounted.target], check=True)
            yield top


def _overlay(stack: contextlib.ExitStack, lowers: tuple[RootLayer, ...], upper: str, target: Path) -> None:
    names = []
    for number, lower in enumerate(lowers):
        if isinstance(lower, DirectoryLayer):
            names.append(lower.path)
            continue
        # A short path: mount(8) gives the kernel no longer list of lowers than 255 bytes.
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="")), str(number))
        place.mkdir()
        mount("-t", "erofs", "-o", f"ro,device={lower.device}", lower.image, str(place))
        stack.callback(subprocess.run, ["umount", str(place)], check=True)
        names.append(str(place))
    options = f"lowerdir={':'.join(reversed(names))},upperdir={upper}/fs,workdir={upper}/work,userxattr"
    mount("-t", "overlay", "overlay", "-o", options, str(target))
    stack.callback(subprocess.run, ["umount", str(target)], check=True)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Store.open(tmp_path / "root") as store:
        made = Place(tmp_path, store)
        yield made
        made.mirror.close()


def filled(repository: Repository) -> list[str]:
    """Three commits, the first of them with a tag."""
    (repository.path / "run").write_text("#!/bin/sh\n")
    (repository.path / "run").chmod(0o755)
    (repository.path / "link").symlink_to("run")
    repository.commit(a="1", d__b="1")
    repository.git("tag", "--annotate", "--message", "one", "v1.0")
    return [repository.git("rev-parse", "HEAD"), repository.commit("two", a="2"), repository.commit("three", a="3")]


def test_git_works_inside_and_everything_is_clean(place: Place) -> None:
    commits = filled(place.repository)
    with place.workspace(place.view(origin="https://forge.example/p.git")) as top:
        assert (top / ".git").stat().st_mtime == BEGINNING
        assert git(top, "status", "--porcelain=v1", "--branch") == "## main"
        assert git(top, "diff-files") == ""
        assert git(top, "log", "--format=%H").split() == commits[::-1]
        assert git(top, "describe") == f"v1.0-2-g{commits[2][:7]}"
        assert git(top, "remote", "get-url", "origin") == "https://forge.example/p.git"
        assert git(top, "show", "HEAD~1:a") == "2"
        assert git(top, "fsck", "--no-dangling") == ""


def test_a_job_may_change_files_and_commit_and_the_mirror_stays_as_it_is(place: Place) -> None:
    filled(place.repository)
    view = place.view()
    before = sorted(str(path) for path in place.mirror.objects.directory.rglob("*"))
    with place.workspace(view) as top:
        (top / "a").write_text("4")
        (top / "run").unlink()
        assert git(top, "status", "--porcelain").splitlines() == ["M a", " D run"]
        git(top, "commit", "--quiet", "--all", "--message", "of the job")
        git(top, "gc", "--quiet", "--auto")
        assert git(top, "status", "--porcelain") == ""
        assert git(top, "rev-list", "--count", "HEAD") == "4"
    assert sorted(str(path) for path in place.mirror.objects.directory.rglob("*")) == before
    with place.workspace(view) as top:
        assert git(top, "rev-list", "--count", "HEAD") == "3"


@pytest.mark.parametrize(("history", "count"), [(1, 1), (2, 2), (3, 3), (9, 3)])
def test_history_is_as_deep_as_it_is_to_be_and_then_without_tags(place: Place, history: int, count: int) -> None:
    filled(place.repository)
    with place.workspace(place.view(history=history)) as top:
        assert git(top, "rev-list", "--count", "HEAD") == str(count)
        assert git(top, "tag") == ""
        assert git(top, "status", "--porcelain") == ""
        assert git(top, "rev-parse", "--is-shallow-repository") == ("true" if count < 3 else "false")


def test_history_of_a_merge_is_cut_at_the_same_distance_on_each_side(place: Place) -> None:
    repository = place.repository
    filled(repository)
    repository.git("checkout", "--quiet", "-b", "side", "HEAD~2")
    repository.commit(side="1")
    repository.git("checkout", "--quiet", "main")
    repository.git("merge", "--quiet", "--no-edit", "side")
    for depth in (1, 2, 3, 4):
        clone = place.directory / f"clone-{depth}"
        words = ["git", "clone", "--quiet", f"--depth={depth}", "--single-branch", f"file://{repository.path}", clone]
        subprocess.run([str(word) for word in words], check=True)
        with place.workspace(place.view(history=depth)) as top:
            assert sorted(git(top, "rev-list", "HEAD").split()) == sorted(git(clone, "rev-list", "HEAD").split())


def test_a_tag_is_on_no_branch(place: Place) -> None:
    commits = filled(place.repository)
    with place.workspace(place.view("refs/tags/v1.0")) as top:
        assert git(top, "rev-parse", "--abbrev-ref", "HEAD") == "HEAD"
        assert git(top, "describe", "--exact-match") == "v1.0"
        assert git(top, "rev-parse", "HEAD") == commits[0]


def test_files_that_attributes_change_are_clean_too(place: Place) -> None:
    place.repository.commit(
        _DOT_gitattributes="*.bat text eol=crlf\n*.id ident\n", a_DOT_bat="1\n2\n", b_DOT_id="$Id$\n"
    )
    with place.workspace(place.view()) as top:
        assert (top / "a.bat").read_bytes() == b"1\r\n2\r\n"
        assert git(top, "status", "--porcelain") == ""


def test_submodules_that_are_empty_are_clean(place: Place) -> None:
    commit = place.repository.commit(a="1")
    place.repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
    place.repository.git("commit", "--quiet", "--message", "submodule")
    with place.workspace(place.view()) as top:
        assert git(top, "status", "--porcelain") == ""


def test_a_fork_sees_its_commit_and_nothing_of_the_mirror(place: Place, tmp_path: Path) -> None:
    repository = place.repository
    first = filled(repository)[0]
    repository.git("checkout", "--quiet", "-b", "secret")
    hidden = repository.commit("not for strangers", key="s3cret")
    place.mirror.fetch(*repository.way(), "secret")
    fork = Repository(tmp_path / "fork")
    fork.git("pull", "--quiet", str(repository.path), "main")
    theirs = fork.commit("theirs", a="theirs")
    with place.mirror.of_fork("7") as beside:
        beside.fetch(*fork.way(), "main")
        commit = read_commit(beside.objects, theirs)
        view = GitView(place.store, "k", beside.objects, commit, commit.tree, branch="main", alone=True)
        with place.workspace(view) as top:
            assert git(top, "status", "--porcelain") == ""
            assert git(top, "log", "--format=%H") == theirs
            assert git(top, "fsck") == ""
            for other in (first, hidden):
                with pytest.raises(subprocess.CalledProcessError):
                    git(top, "cat-file", "-e", other)
            with view.mounted("/work/.git") as mounts:
                assert len(mounts) == 1


def test_a_working_tree_shows_what_is_not_committed(place: Place) -> None:
    repository = place.repository
    filled(repository)
    repository.write(a="9", new="1")
    with LocalRepository.open(place.store.root, repository.path) as local:
        tree = local.tree()
        commit = read_commit(local.objects, local.commit)
        view = GitView(place.store, local.key, local.objects, commit, tree, branch=local.branch)
        with place.workspace(view) as top:
            assert git(top, "status", "--porcelain").splitlines() == ["M a", "?? new"]
            assert git(top, "describe").startswith("v1.0-2-g")


def test_a_shallow_clone_here_is_as_shallow_inside(place: Place) -> None:
    commits = filled(place.repository)
    clone = place.directory / "clone"
    words = ["git", "clone", "--quiet", "--depth=2", f"file://{place.repository.path}", str(clone)]
    subprocess.run(words, check=True)
    with LocalRepository.open(place.store.root, clone) as local:
        commit = read_commit(local.objects, local.commit)
        for history in (None, 2, 5):
            view = GitView(place.store, local.key, local.objects, commit, local.tree(), branch="main", history=history)
            with place.workspace(view) as top:
                assert git(top, "log", "--format=%H").split() == commits[:0:-1]
                assert git(top, "status", "--porcelain") == ""


def test_a_repository_of_sha256_works_inside(place: Place) -> None:
    shutil.rmtree(place.repository.path)
    words = ["git", "init", "--quiet", "--initial-branch=main", "--object-format=sha256", str(place.repository.path)]
    subprocess.run(words, check=True)
    filled(place.repository)
    with place.workspace(place.view()) as top:
        assert git(top, "status", "--porcelain") == ""
        assert git(top, "describe").startswith("v1.0-2-g")


def test_commits_leave_no_layers_of_their_own(place: Place) -> None:
    filled(place.repository)
    with place.workspace(place.view()) as top:
        assert git(top, "status", "--porcelain") == ""
    mirror, store = place.mirror, place.store
    before = set(store.database.all("SELECT diff_id FROM records"))
    place.repository.git("tag", "v2.0")
    with place.workspace(place.view("refs/tags/v2.0")) as top:
        assert git(top, "describe", "--tags") == "v2.0"
    place.repository.commit("four", a="4")
    commit = read_commit(mirror.objects, mirror.fetch(*place.repository.way(), "main").commit)
    files = layers_of(store, "k", mirror.objects, commit.tree)
    with place.workspace(place.view()) as top:
        assert git(top, "status", "--porcelain") == ""
        assert git(top, "log", "-1", "--format=%s") == "four"
    assert set(store.database.all("SELECT diff_id FROM records")) - before == {(files[-1],)}


def test_what_a_commit_changes_is_as_in_an_index_that_is_made_anew(place: Place) -> None:
    repository = place.repository
    repository.write(**{f"many__{number:03}": str(number) for number in range(60)})
    repository.write(become__directory="1", place__a="1", place__b="1")
    filled(repository)
    with place.workspace(place.view()):
        pass
    git(repository.path, "rm", "-q", "-r", "place", "become/directory", "many/007")
    (repository.path / "place").write_text("a file now")
    repository.write(become__directory__deep="2", zz="last", many__030="another length")
    (repository.path / "many/031").chmod(0o755)
    (repository.path / "many/032").unlink()
    (repository.path / "many/032").symlink_to("031")
    repository.commit("five", a="5")
    view = place.view()
    with place.workspace(view) as top:
        seen = (top / ".git/index").read_bytes()
        assert git(top, "status", "--porcelain") == ""
    assert seen == view._whole_index()
    assert len(view._index()[0]) == 1, "it was made of the base's"
    place.store.images.prune(cache=True)
    assert view._index() == (view._index()[0], seen)


def test_paths_of_any_length_are_found_in_an_index() -> None:
    paths = [b"a", b"b" * 7, b"b" * 8, b"c" * 4094, b"c" * 4095, b"c" * 4096, b"d" * 5000, b"e"]
    mode, before, after = b"100644", b"11" * 20, b"22" * 20
    index = index_of(((path, mode, before) for path in paths), dict.fromkeys(paths, 3), BEGINNING, "sha1")
    for path in paths:
        others = [(other, mode, after if other == path else before) for other in paths]
        changed = patched(index, {path: entry_of(path, mode, after, 3, BEGINNING)}, "sha1")
        assert changed == index_of(others, dict.fromkeys(paths, 3), BEGINNING, "sha1")
        without = [(other, mode, before) for other in paths if other != path]
        assert patched(index, {path: b""}, "sha1") == index_of(without, dict.fromkeys(paths, 3), BEGINNING, "sha1")


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_index_for_files_of_another_time_is_as_one_that_is_made_for_them(object_format: str) -> None:
    oid = b"ab" * (20 if object_format == "sha1" else 32)
    entries = [(name * length, b"100644", oid) for name in (b"a", b"b") for length in (1, 2, 61, 5000)]
    sizes = {path: 3 for path, _, _ in entries[1:]}
    before, after = (index_of(entries, sizes, at, object_format) for at in (BEGINNING, 1_800_000_000))
    assert retimed(before, 1_800_000_000, object_format) == after


def test_nothing_is_left_where_it_was_mounted(place: Place) -> None:
    filled(place.repository)
    view = place.view()
    with view.mounted("/work/.git") as mounts:
        tree = mounts[0]
        assert isinstance(tree, Tree)
        assert tree.upper is not None
        assert os.path.isdir(tree.upper)
    assert not os.path.exists(tree.upper)
