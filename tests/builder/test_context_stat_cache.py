"""The stat cache: it saves reading, and never says that a changed file is unchanged."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.contexts.context import Context
from builder.contexts.stamps import STAMP, is_settled
from builder.copying.planner import CopySpec, content_digest, select, write_layer
from builder.copying.statcache import StatCache
from core.digests import Digest
from images.tarwriter import TarWriter
from tests.builder.copying_tools import make_tree, note_opened

SECOND = 1_000_000_000
LATER = 10 * SECOND


class Project:
    """A context that is built again and again. ``reads`` are the files whose content was read by the last build."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.saved: bytes | None = None
        self.reads = note_opened(monkeypatch)

    def build(self, *sources: str, later_ns: int = LATER, at_ns: int | None = None) -> Digest:
        """later_ns: how long after now the build happens, so that tests need not wait until files are at rest.

        at_ns: when it happens, instead.
        """
        self.reads.clear()
        cache = StatCache.load(self.saved)
        with Context.open_directory(str(self.root)) as context:
            spec = CopySpec(sources or (".",), "/x/")
            selected = select(context.tree(), spec, clock_ns=lambda: at_ns or time.time_ns() + later_ns)
            digest = content_digest(selected, cache)
        dumped = cache.dump()
        if dumped is not None:
            self.saved = dumped
        return digest


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(make_tree(tmp_path / "context", {"a": "1", "d/b": "2", "d/c": "3"}), monkeypatch)


def test_second_build_reads_nothing(project: Project) -> None:
    first = project.build()
    assert sorted(project.reads) == ["a", "d/b", "d/c"]
    assert project.build() == first
    assert project.reads == []


def test_changed_file_alone_is_read_again(project: Project) -> None:
    first = project.build()
    (project.root / "d/b").write_text("X")
    assert project.build() != first
    assert project.reads == ["d/b"]


def test_same_size_and_mtime_and_inode_do_not_hide_a_change(project: Project) -> None:
    first = project.build()
    before = os.stat(project.root / "a")
    (project.root / "a").write_text("X")
    os.utime(project.root / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    after = os.stat(project.root / "a")
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    assert project.build() != first


def test_two_files_that_swapped_their_content_and_times_are_noticed(project: Project) -> None:
    first = project.build()
    for name in ("d/b", "d/c"):
        path = project.root / name
        before = path.stat()
        path.write_text({"2": "3", "3": "2"}[path.read_text()])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert project.build() != first
    (project.root / "d/b").rename(project.root / "t")
    (project.root / "d/c").rename(project.root / "d/b")
    (project.root / "t").rename(project.root / "d/c")
    assert project.build() == first


def test_file_that_was_written_within_the_last_tick_is_read_again(project: Project) -> None:
    written_ns = min((project.root / name).stat().st_ctime_ns for name in ("a", "d/b", "d/c"))
    first = project.build(at_ns=written_ns)
    assert project.build(at_ns=written_ns) == first
    assert sorted(project.reads) == ["a", "d/b", "d/c"]
    project.build()
    project.build()
    assert project.reads == []


def test_racy_write_is_noticed_even_when_the_whole_stamp_is_equal(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written twice within a tick, read in between: no stat data differ, so only not trusting them helps."""
    stamps: dict[str, os.stat_result] = {}
    real = os.fstat
    before = project.build(later_ns=0)
    stamps["a"] = os.stat(project.root / "a")
    (project.root / "a").write_text("X")

    def frozen(fd: int) -> os.stat_result:
        found = real(fd)
        return stamps["a"] if found.st_ino == stamps["a"].st_ino else found

    monkeypatch.setattr("builder.contexts.filetree.os.fstat", frozen)

    class FrozenEntry:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.name = entry.name
            self._entry = entry

        def stat(self, *, follow_symlinks: bool) -> os.stat_result:
            found = self._entry.stat(follow_symlinks=follow_symlinks)
            return stamps["a"] if found.st_ino == stamps["a"].st_ino else found

    scandir = os.scandir

    class FrozenListing:
        def __init__(self, fd: int) -> None:
            self._entries = [FrozenEntry(entry) for entry in scandir(fd)]

        def __enter__(self) -> list[FrozenEntry]:
            return self._entries

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("builder.contexts.filetree.os.scandir", FrozenListing)
    assert project.build(later_ns=0) != before


def stamp(mtime_ns: int, ctime_ns: int) -> bytes:
    return STAMP.pack(1, 2, 3, mtime_ns, ctime_ns, 0o100644)


NOW = 1_700_000_000 * SECOND + 123_456_789


@pytest.mark.parametrize(
    ("mtime_ns", "ctime_ns", "settled"),
    [
        (NOW - SECOND, NOW - SECOND, True),
        (NOW, NOW, False),
        (NOW - SECOND, NOW, False),  # mtime was set back
        (NOW, NOW - SECOND, False),
        (NOW - 10_000_000, NOW - 10_000_000, False),
        (NOW + SECOND, NOW - SECOND, False),  # mtime in the future
        (0, NOW - 2 * SECOND - NOW % SECOND, True),  # a whole second: the file system's clock may be coarse
        (0, NOW - SECOND - NOW % SECOND, False),
    ],
)
def test_when_a_file_counts_as_at_rest(mtime_ns: int, ctime_ns: int, settled: bool) -> None:
    if ctime_ns % SECOND == 0 and settled:
        ctime_ns -= SECOND
    assert is_settled(stamp(mtime_ns, ctime_ns), NOW) is settled


def test_files_that_were_hashed_while_they_were_written_are_known_too(project: Project) -> None:
    cache = StatCache()
    with Context.open_directory(str(project.root)) as context:
        spec = CopySpec((".",), "/x/")
        selection = select(context.tree(), spec, clock_ns=lambda: time.time_ns() + LATER)
        write_layer(selection, None, TarWriter(io.BytesIO()), created_at=0)
        digest = content_digest(selection, cache)
    project.saved = cache.dump()
    assert project.build() == digest
    assert project.reads == []


def test_attributes_come_out_of_the_cache(project: Project) -> None:
    os.setxattr(project.root / "a", "user.note", b"\0value")
    first = project.build()
    assert project.build() == first
    assert project.reads == []
    os.setxattr(project.root / "a", "user.note", b"\0other")
    assert project.build() != first


def test_files_that_another_dockerfile_uses_stay_known(project: Project) -> None:
    project.build()
    (project.root / "a").write_text("X")
    project.build("a")
    project.build("d")
    assert project.reads == []


def test_files_that_are_never_used_again_are_forgotten(project: Project) -> None:
    project.build()
    for number in range(25):
        (project.root / "a").write_text(str(number))
        project.build("a")
    assert project.saved is not None
    assert b"d/b" not in project.saved


def test_nothing_new_is_not_written(project: Project) -> None:
    project.build()
    cache = StatCache.load(project.saved)
    assert cache.dump() is None


@pytest.mark.parametrize("damage", [b"", b"x", b"shiplap-stat-2\n", b"shiplap-stat-1\nold", None])
def test_damaged_cache_is_an_empty_one(project: Project, damage: bytes | None) -> None:
    first = project.build()
    assert project.saved is not None
    project.saved = project.saved[:-1] if damage is None else damage
    assert project.build() == first
    assert len(project.reads) == 3


_names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(
    st.dictionaries(
        _names,
        st.tuples(
            st.integers(0, 2**62),
            st.integers(0, 1_600_000_000 * SECOND),
            st.binary(min_size=32, max_size=32),
            st.dictionaries(_names, st.binary(max_size=50), max_size=2),
        ),
        max_size=20,
    )
)
def test_cache_comes_back_as_it_was(files: dict[str, tuple[int, int, bytes, dict[str, bytes]]]) -> None:
    cache = StatCache()
    stamps = {}
    for path, (inode, time_ns, sha, xattrs) in files.items():
        stamps[path] = STAMP.pack(1, inode, 5, time_ns, time_ns, 0o100644)
        cache.put(path, stamps[path], (sha, xattrs), NOW)
    loaded = StatCache.load(cache.dump())
    for path, (_, _, sha, xattrs) in files.items():
        assert loaded.get(path, stamps[path]) == (sha, xattrs)
        assert loaded.get(path, STAMP.pack(1, 1, 6, 0, 0, 0)) is None


def test_what_is_written_down_of_a_few_new_files_is_what_would_be_written_of_all(project: Project) -> None:
    project.build()
    for step in ("change", "add", "remove", "attribute"):
        if step == "change":
            (project.root / "d/b").write_text("X")
        elif step == "add":
            (project.root / "d/new").write_text("new")
        elif step == "remove":
            (project.root / "a").unlink()
        else:
            os.setxattr(project.root / "d/c", "user.note", b"said")
        before = project.saved
        project.build()
        patched, project.saved = project.saved, None
        if step == "remove":  # nothing was read; what is gone is kept for a while
            assert patched == before
            continue
        project.build()
        assert (step, sorted(_known(patched))) == (step, sorted({*_known(project.saved), *_gone(patched, project)}))
        project.saved = patched


def _known(data: bytes | None) -> set[tuple[str, bytes, bytes]]:
    return {(path, stamp, sha) for path, (stamp, sha, _) in StatCache.load(data)._records.items()}


def _gone(data: bytes | None, project: Project) -> set[tuple[str, bytes, bytes]]:
    return {each for each in _known(data) if not (project.root / each[0]).exists()}
