"""Trees as layers: what a checkout has, of one time; bases, differences, and what no layer can hold."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from ci.epoch import BEGINNING
from ci.errors import DamagedRepositoryError, SourceFileError
from ci.source.layers import layers_of
from ci.source.mirror import Mirror
from core.cancellation import asking
from core.digests import DiffID
from core.trust import Domain, of_branch, of_fork, protected
from images.store import Store
from images.verify import verify
from tests.ci.source.repositories import Repository, Seen, seen
from tests.images.test_snapshots import mounted

pytestmark = pytest.mark.usefixtures("privileged")

Change = Callable[[Path], object]


class Place:
    """A repository, its mirror, and a store."""

    def __init__(self, directory: Path, store: Store) -> None:
        self.repository = Repository(directory / "repository")
        self.store = store
        self._directory = directory
        self._numbers = count()

    def tree(self, ref: str = "main") -> tuple[Mirror, str]:
        mirror = Mirror.open(self.store.root, "p", "u")
        commit = mirror.fetch(*self.repository.way(), ref).commit
        return mirror, mirror.objects.run("rev-parse", f"{commit}^{{tree}}").decode().strip()

    def layers(self, ref: str = "main", *, prefix: str = "") -> tuple[DiffID, ...]:
        mirror, tree = self.tree(ref)
        with mirror:
            return layers_of(self.store, mirror.key, mirror.objects, tree, prefix=prefix)

    def members(self, diff_id: DiffID) -> dict[str, tarfile.TarInfo]:
        with tarfile.open(self.store.layers.path(diff_id), errors="surrogateescape") as tar:
            return {member.name: member for member in tar}

    def seen(self, layers: tuple[DiffID, ...]) -> Seen:
        """What a container sees of them; all of it is of one time, and root's."""
        place = self._directory / f"seen-{next(self._numbers)}"
        place.mkdir()
        with mounted(self.store.snapshots.lowers(layers), place) as root:
            for path in root.rglob("*"):  # (The root is the upper directory's here.)
                info = path.lstat()
                assert (info.st_mtime, info.st_uid, info.st_gid) == (BEGINNING, 0, 0), path
            return seen(root)

    def checkout(self, ref: str = "HEAD") -> Seen:
        return self.repository.checkout(self._directory / f"checkout-{next(self._numbers)}", ref)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Store.open(tmp_path / "root") as store:
        yield Place(tmp_path, store)


def test_a_tree_is_what_a_checkout_has(place: Place) -> None:
    root = place.repository.path
    place.repository.write(a="one", d__b="two", d__e__c="three\n", empty="")
    (root / "big").write_bytes(os.urandom(700_000))
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o755)
    (root / "link").symlink_to("d/b")
    (root / "dangling").symlink_to("/nowhere/" + "x" * 200)
    (root / os.fsdecode(b"no utf-8 \xff\xfe")).write_text("bytes")
    (root / "a line\nbreak 'and\" more").write_text("odd")
    (root / ("n" * 200)).mkdir()
    (root / ("n" * 200) / ("m" * 255)).write_text("long")
    place.repository.commit()
    layers = place.layers()
    assert place.seen(layers) == place.checkout()
    assert len(layers) == 1


def test_what_attributes_say_of_a_checkout_is_heeded_and_exports_are_not_ignored(place: Place) -> None:
    place.repository.commit(
        _DOT_gitattributes="*.bat text eol=crlf\n*.id ident\n/secret export-ignore\n"
        "*.u16 working-tree-encoding=UTF-16LE-BOM\n*.sub export-subst\n* text=auto\n",
        a_DOT_bat="one\ntwo\n", b_DOT_bat="", c_DOT_id="$Id$\n", secret="kept", d_DOT_txt="plain\nlines\n",
        last_DOT_bat="no end", e_DOT_sub="$Format:%H$\n", sub___DOT_gitattributes="*.bat -text\n",
        sub__raw_DOT_bat="x\ny\n",
    )  # fmt: skip
    found = place.seen(place.layers())
    assert found == place.checkout()
    assert found[b"a.bat"][1] == b"one\r\ntwo\r\n"
    assert found[b"sub/raw.bat"][1] == b"x\ny\n"
    assert b"$Id: " in found[b"c.id"][1]
    assert found[b"secret"][1] == b"kept"


def test_a_push_of_few_files_writes_these_files(place: Place) -> None:
    repository = place.repository
    repository.commit(**{f"d{n % 5}__f{n}": f"{n}" for n in range(200)})
    (base,) = place.layers()
    repository.commit(d1__f1="changed", d1__new="new")
    os.unlink(repository.path / "d2" / "f2")
    repository.commit()
    layers = place.layers()
    assert layers[0] == base
    assert sorted(place.members(layers[1])) == [".", "d1", "d1/f1", "d1/new", "d2", "d2/.wh.f2"]
    assert place.seen(layers) == place.checkout()


def _remove(*paths: str) -> Change:
    def change(root: Path) -> None:
        for path in paths:
            target = root / path
            shutil.rmtree(target) if target.is_dir() and not target.is_symlink() else target.unlink()

    return change


def _replace(path: str, make: Change) -> Change:
    def change(root: Path) -> None:
        _remove(path)(root)
        make(root / path)

    return change


def _with_a_file(directory: Path) -> None:
    directory.mkdir()
    (directory / "y").write_text("in")


@pytest.mark.parametrize(
    ("change", "whiteouts"),
    [
        pytest.param(_remove("d"), [".wh.d"], id="a directory goes as a whole"),
        pytest.param(_remove("d/e/f"), ["d/.wh.e"], id="a directory goes with its last file"),
        pytest.param(_remove("d/a", "d/e/f"), ["d/.wh.a", "d/.wh.e"], id="a file and a directory"),
        pytest.param(_replace("d", lambda p: p.write_text("file")), [], id="a directory becomes a file"),
        pytest.param(_replace("d", lambda p: p.symlink_to("x")), [], id="a directory becomes a link"),
        pytest.param(_replace("x", _with_a_file), [], id="a file: a directory"),
        pytest.param(_replace("l", lambda p: p.write_text("file")), [], id="a link becomes a file"),
        pytest.param(_replace("x", lambda p: p.symlink_to("d")), [], id="a file becomes a link"),
        pytest.param(lambda root: (root / "x").chmod(0o755), [], id="a file may be executed"),
        pytest.param(_replace("d/e", lambda p: p.write_text("e")), [], id="below"),
    ],
)
def test_every_kind_of_difference_is_seen(place: Place, change: Change, whiteouts: list[str]) -> None:
    repository = place.repository
    (repository.path / "l").symlink_to("x")
    repository.commit(d__a="a", d__b="b", d__e__f="f", x="x", **{f"more__{n}": "" for n in range(100)})
    (base,) = place.layers()
    change(repository.path)
    repository.commit()
    layers = place.layers()
    assert len(layers) == 2
    assert layers[0] == base
    assert place.seen(layers) == place.checkout()
    assert sorted(name for name in place.members(layers[1]) if ".wh." in name) == whiteouts


def test_a_submodule_is_an_empty_directory_also_where_a_full_one_was(place: Place) -> None:
    repository = place.repository
    commit = repository.commit(d__a="a", **{f"more__{n}": "" for n in range(100)})
    place.layers()
    shutil.rmtree(repository.path / "d")
    repository.git("rm", "-r", "--cached", "--quiet", "d")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},d")
    repository.git("commit", "--quiet", "--message", "submodule")
    layers = place.layers()
    assert len(layers) == 2
    found = place.seen(layers)
    assert found[b"d"][1] == b""
    assert b"d/a" not in found


def test_a_difference_of_over_a_fifth_is_a_new_base_and_both_are_remembered(place: Place) -> None:
    repository = place.repository
    files = {f"f{n}": f"{n}" for n in range(100)}
    repository.commit(**files)
    (first,) = place.layers()
    repository.git("checkout", "--quiet", "-b", "other")
    repository.commit(**dict.fromkeys(list(files)[:21], "other"))
    (second,) = place.layers("other")
    assert second != first
    repository.commit(f0="more of other")
    repository.git("checkout", "--quiet", "main")
    repository.commit(f0="more of main")
    assert [layers[0] for layers in (place.layers("main"), place.layers("other"))] == [first, second]


def test_other_attributes_change_files_that_are_the_same_blobs(place: Place) -> None:
    files = {f"f{n}_DOT_txt": "a\nb\n" for n in range(100)}
    place.repository.commit(**files)
    place.layers()
    place.repository.commit(_DOT_gitattributes="*.txt eol=crlf\n")
    layers = place.layers()
    found = place.seen(layers)
    assert found == place.checkout()
    assert found[b"f7.txt"][1] == b"a\r\nb\r\n"
    place.repository.commit(f7_DOT_txt="c\nd\n")
    found = place.seen(place.layers())
    assert found == place.checkout()
    assert found[b"f7.txt"][1] == b"c\r\nd\r\n"


def test_the_same_tree_is_the_same_digest_in_another_store(place: Place, tmp_path: Path) -> None:
    place.repository.commit(a="a", d__b="b")
    (first,) = place.layers()
    with Store.open(tmp_path / "other") as store:
        other = Place(tmp_path / "elsewhere", store)
        other.repository.commit("with another time and message", a="a", d__b="b")
        assert other.layers() == (first,)


def test_a_base_whose_layer_is_gone_is_made_anew(place: Place, tmp_path: Path) -> None:
    place.repository.commit(**{f"f{n}": "a" for n in range(50)})
    layers = place.layers()
    place.store.close()
    with Store.open(tmp_path / "root") as store:
        store.cache_use.remove(store.cache_use.items())
        assert verify(store) == []
        again = Place.__new__(Place)
        again.__dict__.update(place.__dict__ | {"store": store})
        with pytest.raises(FileNotFoundError):
            os.stat(store.root / "blobs" / "sha256" / layers[0].hex)
        assert again.layers() == layers
        assert again.seen(layers) == again.checkout()


def test_what_was_made_once_is_not_made_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.repository.commit(**{f"f{n}": "a" for n in range(50)})
    place.layers()
    place.repository.commit(f1="b")
    layers = place.layers()
    monkeypatch.setattr("ci.source.layers.TreeLayer", None)
    assert place.layers() == layers


def test_a_prefix_puts_all_of_it_below_a_directory(place: Place) -> None:
    place.repository.commit(**{f"f{n}": "a" for n in range(50)})
    place.layers(prefix="vendor/lib")
    place.repository.commit(f1="b")
    os.unlink(place.repository.path / "f2")
    place.repository.commit()
    found = place.seen(place.layers(prefix="vendor/lib"))
    expected = {b"vendor/lib/" + path: what for path, what in place.checkout().items()}
    assert {path: what for path, what in found.items() if path not in (b"vendor", b"vendor/lib")} == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / ".wh.x").write_text(""), r"names that begin with \.wh\. mark deleted files"),
        (lambda root: _with_a_file(root / ".wh.d"), r"begin with \.wh\."),
    ],
)
def test_what_no_layer_can_hold_is_an_error_that_names_it(place: Place, change: Change, message: str) -> None:
    change(place.repository.path)
    place.repository.commit()
    with pytest.raises(SourceFileError, match=message):
        place.layers()


@pytest.mark.parametrize("name", [b".git", b"..", b".", b".GIT"])
def test_a_name_that_leads_elsewhere_is_refused(place: Place, name: bytes) -> None:
    """Fetching refuses such trees; nothing is left to that."""
    place.repository.commit(a="a")
    blob = bytes.fromhex(place.repository.git("rev-parse", "HEAD:a"))
    tree = _write_tree(place, b"100644 " + name + b"\0" + blob)
    mirror, _ = place.tree()
    borrowing = mirror.objects._replace(borrowed=(place.repository.path / ".git" / "objects",), shell=None)
    with mirror, pytest.raises(SourceFileError, match="no name that a file of a repository may have"):
        layers_of(place.store, mirror.key, borrowing, tree)


def _write_tree(place: Place, raw: bytes) -> str:
    words = ["git", "-C", str(place.repository.path), "hash-object", "-t", "tree", "-w", "--literally", "--stdin"]
    return subprocess.run(words, input=raw, check=True, stdout=subprocess.PIPE).stdout.decode().strip()


def test_an_object_that_is_missing_or_damaged_says_so_and_leaves_no_layer(place: Place) -> None:
    place.repository.commit(a="a" * 1000, b="b")
    mirror, tree = place.tree()
    with mirror:
        for pack in mirror.objects.path.glob("pack/*.pack"):
            data = bytearray(pack.read_bytes())
            for at in range(20, len(data) - 20):
                data[at] ^= 0x55
            pack.write_bytes(data)
        before = len(os.listdir(place.store.root / "blobs" / "sha256"))
        with pytest.raises(DamagedRepositoryError, match="cannot read the repository"):
            layers_of(place.store, mirror.key, mirror.objects, tree)
        assert len(os.listdir(place.store.root / "blobs" / "sha256")) == before


def test_writing_a_tree_can_be_cancelled(place: Place) -> None:
    place.repository.commit(**{f"f{n}": f"{n}" for n in range(300)})
    mirror, tree = place.tree()
    asked = count()

    class StopError(Exception):
        pass

    def ask() -> None:
        if next(asked) == 3:
            raise StopError

    with mirror, asking(ask), pytest.raises(StopError):
        layers_of(place.store, mirror.key, mirror.objects, tree)
    assert next(asked) == 4


def test_a_fork_neither_reads_nor_writes_what_the_project_remembers(place: Place) -> None:
    place.repository.commit(**{f"f{n}": "a" for n in range(50)})
    commit = place.repository.git("rev-parse", "HEAD")

    def made_for(domain: Domain) -> set[str]:
        place.store.act_for(domain)
        place.layers(commit)
        return {scope for (scope,) in place.store.database.all("SELECT scope FROM records")}

    fork, project = of_fork("p", 7), protected("p")
    assert made_for(fork) == {fork.scope}
    assert made_for(project) == {fork.scope, project.project_scope}
    assert made_for(of_branch("p", "b")) == {fork.scope, project.project_scope}


def test_trees_that_are_wanted_at_the_same_time_share_one_base(place: Place) -> None:
    repository = place.repository
    repository.commit(**{f"f{n}": f"{n}" for n in range(100)})
    trees = []
    mirror, _ = place.tree()
    for number in range(4):
        commit = repository.commit(f1=f"changed {number}")
        mirror.fetch(*repository.way(), "main")
        trees.append(mirror.objects.run("rev-parse", f"{commit}^{{tree}}").decode().strip())
    found: dict[str, tuple[DiffID, ...]] = {}

    def make(tree: str) -> None:
        found[tree] = layers_of(place.store, mirror.key, mirror.objects, tree)

    threads = [threading.Thread(target=make, args=(tree,)) for tree in trees]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    mirror.close()
    assert len({layers[0] for layers in found.values()}) == 1
    assert sorted(len(layers) for layers in found.values()) == [1, 2, 2, 2]
