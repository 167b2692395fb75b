"""The content digest: what changes it, what does not; and that the layer has what was hashed."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.contexts.context import Context
from builder.contexts.filetree import SourceTree
from builder.copying.digesting import hash_files
from builder.copying.planner import CopySpec, Selection, content_digest, select, write_layer
from builder.copying.statcache import StatCache
from builder.errors import ContextChangedError, ContextError
from core.digests import Digest
from images.tarwriter import TarWriter
from tests.builder.copying_tools import CREATED_AT, Bench, Layer, Tree, directory_fd, make_tree


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def digest(root: Path, *sources: str, cache: StatCache | None = None, **options: object) -> Digest:
    spec = CopySpec(sources or (".",), "/x/", **options)  # type: ignore[arg-type]
    with Context.open_directory(str(root)) as context:
        return content_digest(select(context.tree(), spec), cache)


TREE: Tree = {"f:644": "1", "d/g:755": "22", "d/e/": None, "l": "-> f"}


def test_digest_is_the_same_for_the_same_content_elsewhere_and_at_another_time(tmp_path: Path) -> None:
    first, second = (
        make_tree(tmp_path / "1", TREE),
        make_tree(tmp_path / "2", {name: TREE[name] for name in reversed(list(TREE))}),
    )
    os.utime(second / "f", (1, 1))
    os.chown(second / "d", 77, 88)  # of a context, everything becomes root's
    os.chmod(second, 0o700)  # the top directory is not copied, only what is in it
    assert digest(first) == digest(second)


def relink(root: Path) -> None:
    (root / "l").unlink()
    (root / "l").symlink_to("d")


def turn_link_into_file(root: Path) -> None:
    (root / "l").unlink()
    (root / "l").write_text("f")


def exchange_names(root: Path) -> None:
    (root / "f").rename(root / "t")
    (root / "d/g").rename(root / "f")
    (root / "t").rename(root / "d/g")


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda root: (root / "f").write_text("2"),
    "name": lambda root: (root / "f").rename(root / "ff"),
    "mode": lambda root: (root / "f").chmod(0o600),
    "mode of a directory": lambda root: (root / "d/e").chmod(0o700),
    "one more": lambda root: (root / "d/e/new").touch(),
    "one less": lambda root: (root / "d/e").rmdir(),
    "link": relink,
    "type": turn_link_into_file,
    "attribute": lambda root: os.setxattr(root / "f", "user.note", b"1"),
    "attribute of a directory": lambda root: os.setxattr(root / "d/e", "user.note", b"1"),
    "exchanged names": exchange_names,
}


@pytest.mark.parametrize("change", CHANGES)
def test_digest_changes_with(tmp_path: Path, change: str) -> None:
    root = make_tree(tmp_path / "context", TREE)
    cache = StatCache()
    before = digest(root, cache=cache)
    CHANGES[change](root)
    assert digest(root) != before
    assert digest(root, cache=cache) == digest(root)


def test_digest_of_a_stage_depends_on_owners_and_not_when_chown_replaces_them(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "stage", {"f": ""})

    def of_stage(chown: str = "") -> Digest:
        with directory_fd(root) as fd:
            assert fd is not None
            tree = SourceTree(fd, "the stage")
            return content_digest(select(tree, CopySpec(("/",), "/x", chown=chown, from_context=False)))

    before, before_with_chown = of_stage(), of_stage("5:6")
    os.chown(root / "f", 1000, 1000)
    assert of_stage() != before
    assert of_stage("5:6") == before_with_chown


def test_digest_does_not_depend_on_modes_that_octal_chmod_replaces(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "context", {"f:644": ""})
    octal, symbolic = digest(root, chmod="755"), digest(root, chmod="u+x")
    os.chmod(root / "f", 0o600)
    assert digest(root, chmod="755") == octal
    assert digest(root, chmod="u+x") != symbolic


def test_digest_depends_on_names_of_files_that_a_glob_matches_and_not_of_directories(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "context", {"fa": "1", "da/x": "1"})
    files, directories = digest(root, "f*"), digest(root, "d*")
    (root / "fa").rename(root / "fb")
    (root / "da").rename(root / "db")
    assert digest(root, "f*") != files
    assert digest(root, "d*") == directories


def test_digest_cannot_be_forged_by_names(tmp_path: Path) -> None:
    one = make_tree(tmp_path / "1", {"a": "", "b": ""})
    two = make_tree(tmp_path / "2", {"a\n\nb": ""})
    assert digest(one) != digest(two)


def test_digest_is_the_same_with_threads_sharing_a_cache_and_without(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    root = make_tree(tmp_path / "context", {f"d{n % 7}/f{n}": str(n) for n in range(300)})
    cache = StatCache()
    with ThreadPoolExecutor(4) as pool:
        digests = set(pool.map(lambda _: digest(root, cache=cache), range(8)))
    assert digests == {digest(root)}


def test_nothing_selected_has_a_digest(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "context", {})
    assert digest(root, "nothing*") == digest(root, "nought*")


# The layer has what was hashed.


class Race(Bench):
    """Changes a file after it was hashed, then writes the layer."""

    def hashed(self, content: str) -> Selection:
        self.context({"f": content, "g": ""})
        selection = self.select(CopySpec((".",), "/x"))
        hash_files(selection)
        return selection


@pytest.fixture
def race(tmp_path: Path) -> Race:
    return Race(tmp_path)


@pytest.mark.parametrize("content", ["2", "longer", "", "x" * 3_000_000])
def test_file_that_changed_after_it_was_hashed_is_an_error(race: Race, content: str) -> None:
    selection = race.hashed("1")
    (race.context_path / "f").write_text(content)
    with pytest.raises(ContextChangedError, match="f in the build context") as caught:
        race.write(selection)
    assert caught.value.hint is not None


def test_file_that_was_replaced_after_it_was_hashed_is_an_error(race: Race) -> None:
    selection = race.hashed("1")
    (race.context_path / "new").write_text("2")
    (race.context_path / "new").rename(race.context_path / "f")
    with pytest.raises(ContextChangedError, match="f in"):
        race.write(selection)


def test_file_that_became_a_link_is_an_error_and_is_not_followed(race: Race) -> None:
    selection = race.hashed("1")
    (race.context_path / "f").unlink()
    (race.context_path / "f").symlink_to("/etc/passwd")
    with pytest.raises(ContextChangedError, match="f in"):
        race.write(selection)


def test_file_that_vanished_is_an_error(race: Race) -> None:
    selection = race.hashed("1")
    (race.context_path / "f").unlink()
    with pytest.raises(ContextChangedError, match="f in"):
        race.write(selection)


def test_directory_that_became_a_link_is_an_error_and_is_not_followed(bench: Bench) -> None:
    bench.context({"d/f": "1", "other/f": "2"})
    selection = bench.select(CopySpec((".",), "/x"))
    (bench.context_path / "d").rename(bench.context_path / "e")
    (bench.context_path / "d").symlink_to("other")
    with pytest.raises(ContextChangedError, match="d"):
        hash_files(selection)


def test_same_stat_within_a_tick_is_noticed_by_comparing_hashes(race: Race, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stamp is made to be equal, as it is when a file is written twice within one tick of the clock."""
    selection = race.hashed("1")
    monkeypatch.setattr("builder.contexts.filetree.stamp_of", lambda fd: next(
        entry.stamp for entry in selection.entries() if entry.path == ("f" if os.fstat(fd).st_size else "g")
    ))  # fmt: skip
    assert race.write(selection).content["x/f"] == "1"
    (race.context_path / "f").write_text("2")
    with pytest.raises(ContextChangedError, match="f in"):
        race.write(selection)


@pytest.mark.parametrize("rest_s", [0.0, 0.1], ids=["just written", "at rest"])
def test_layer_written_before_the_digest_makes_the_same_digest_without_reading_again(
    bench: Bench, rest_s: float
) -> None:
    bench.context({"f": "1", "d/g": "2", "d/big": "x" * 2_000_000})
    time.sleep(rest_s)
    spec = CopySpec((".",), "/x")
    expected = content_digest(bench.select(spec))
    selection = bench.select(spec)
    assert bench.write(selection).content["x/f"] == "1"
    (bench.context_path / "f").unlink()
    assert content_digest(selection) == expected


def test_layer_is_the_same_however_it_came_to_be_written(bench: Bench) -> None:
    bench.context({f"d{n % 5}/f{n}": str(n) for n in range(50)})
    spec = CopySpec((".",), "/x")
    unhashed = bench.write(bench.select(spec)).data
    hashed = bench.select(spec)
    hash_files(hashed)
    assert bench.write(hashed).data == unhashed


def test_unreadable_file_is_an_error_that_names_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.context({"d/f:000": ""})
    selection = bench.select(CopySpec((".",), "/x"))
    real = os.open

    def deny(path: str, *arguments: int, **options: int) -> int:
        if path == "f":
            raise PermissionError(13, "Permission denied", path)
        return real(path, *arguments, **options)

    monkeypatch.setattr("builder.contexts.filetree.os.open", deny)
    with pytest.raises(ContextError, match=r"cannot read d/f in the build context .*permission denied") as caught:
        hash_files(selection)
    assert "dockerignore" in (caught.value.hint or "")


def test_big_files_are_hashed_whole(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "context", {"f": b"x" * (3 << 20) + b"a"})
    other = make_tree(tmp_path / "other", {"f": b"x" * (3 << 20) + b"b"})
    assert digest(root) != digest(other)


def test_several_big_files_are_hashed_each_on_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_tree(tmp_path / "context", {f"d{n % 2}/f{n}": str(n) * 100_000 for n in range(7)})
    one_after_another = digest(root)
    monkeypatch.setattr("builder.copying.digesting._BIG", 1)
    assert digest(root) == one_after_another


def test_writer_is_left_open_for_the_caller(bench: Bench) -> None:
    bench.context({"f": "1"})
    sink = io.BytesIO()
    writer = TarWriter(sink)
    write_layer(bench.select(CopySpec(("f",), "/a")), None, writer, created_at=CREATED_AT)
    writer.directory(b"more", 0o755, 0, 0, 0)
    writer.close()
    assert Layer(sink.getvalue()).names() == ["a", "more"]
