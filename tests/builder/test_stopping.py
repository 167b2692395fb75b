"""Whatever a stranger made long ends when the build has to: each loop asks, and none waits for its own end."""

from __future__ import annotations

import contextlib
import io
import os
import sqlite3
import stat
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder.attesting.files import digests
from builder.attesting.packages import rpm
from builder.attesting.packages.model import OperatingSystem
from builder.contexts.filetree import SourceTree
from builder.contexts.unpacking import unpack_context
from builder.copying.planner import CopySpec, content_digest, select
from builder.errors import ArchiveError, BuildCancelledError, ContextError, CopyError, stop_when
from builder.solving.layerwriter import LayerWriter
from core.cancellation import asking, check
from images.apply import apply_layer
from images.diff import write_upper
from images.erofs import Indexer
from images.flatten import flatten
from images.survey import survey
from images.tarheaders import MAX_SIZE_BYTES
from images.tarreader import Content, TarReader
from images.tarwriter import TarWriter
from images.trees import remove_tree
from tests.builder.copying_tools import Bench, make_tree

MANY = 2000


@contextlib.contextmanager
def stopped_after(questions: int) -> Iterator[None]:
    """The work inside has to end, which it learns at its n-th question; that it asks often enough is the test."""
    left = questions

    def stopped() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    with pytest.raises(BuildCancelledError), asking(stop_when(stopped)):
        yield


def archive(*names: str, size: int = 0) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = size
            tar.addfile(member, io.BytesIO(bytes(size)))
    return made.getvalue()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    path = tmp_path / "many.tar"
    path.write_bytes(archive(*(f"d{number}/f" for number in range(MANY))))
    return path


def test_nothing_is_stopped_where_nobody_said_how() -> None:
    check()
    with stopped_after(1):
        check()
        with asking(lambda: None):
            check()
        check()
    check()


def test_an_archive_is_left_between_its_members(bench: Bench) -> None:
    bench.context({"a.tar": archive(*(f"f{number}" for number in range(MANY)))})
    with stopped_after(MANY // 2):
        bench.add("a.tar", "/o/")


def test_the_ways_a_tar_is_read_end_between_entries(tar: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with tar.open("rb") as layer, stopped_after(MANY // 2):
            apply_layer(layer, fd, overlay=False)
        with tar.open("rb") as layer, stopped_after(MANY + 100):  # in the directories' last touch
            apply_layer(layer, fd, overlay=False)
    finally:
        os.close(fd)
    with stopped_after(3):
        survey(str(tar))
    with tar.open("rb") as layer, stopped_after(MANY // 2):
        list(flatten([layer]))
    with tar.open("rb") as layer, stopped_after(MANY + 1000):
        list(flatten([layer]))
    (tmp_path / "context").mkdir()
    with tar.open("rb") as stream, stopped_after(MANY // 2):
        unpack_context(stream, tmp_path / "context", limit_bytes=1 << 30)


def test_headers_that_no_entry_follows_are_no_way_around_the_question() -> None:
    header = tarfile.TarInfo.create_pax_global_header({"comment": "x"})
    with stopped_after(MANY // 2):
        TarReader(io.BytesIO(header * MANY)).next()


def test_holes_are_not_filled_without_asking(tmp_path: Path) -> None:
    with stopped_after(100):
        content = Content(iter(()), 1 << 62)
        while content.read(1 << 20):
            pass
    sparse = tarfile.TarInfo("sparse")
    sparse.pax_headers = {
        "GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "sparse",
        "GNU.sparse.size": str(MAX_SIZE_BYTES), "GNU.sparse.map": "",
    }  # fmt: skip
    with stopped_after(100):
        digests([io.BytesIO(sparse.tobuf(tarfile.PAX_FORMAT) + bytes(1024))])


def test_a_tree_is_walked_hashed_and_copied_no_further_than_asked(bench: Bench) -> None:
    bench.context({f"d{number}/f": str(number) for number in range(300)})
    fd = os.open(bench.context_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        tree = SourceTree(fd, "the tree")
        with stopped_after(150):
            tree.walk("")
        selection = select(tree, CopySpec((".",), "/"))
        with stopped_after(150):
            content_digest(selection)
    finally:
        os.close(fd)
    with stopped_after(301 + 300):
        bench.copy(".", "/o/")


def test_big_files_are_hashed_by_threads_that_ask_too(bench: Bench) -> None:
    bench.context({f"big{number}": bytes(9 << 20) for number in range(3)})
    fd = os.open(bench.context_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        selection = select(SourceTree(fd, "the tree"), CopySpec((".",), "/"))
        with stopped_after(5):
            content_digest(selection)
    finally:
        os.close(fd)


def test_what_a_step_left_is_written_no_further_than_asked(tmp_path: Path) -> None:
    """Every sixteen names, which is thirteen times here, however few of them each directory has."""
    flat = make_tree(tmp_path / "flat", {f"f{number}": "" for number in range(210)})
    full = make_tree(tmp_path / "full", {f"f{number}": "content" for number in range(210)})
    deep = make_tree(tmp_path / "deep", {f"d{number}/f": "" for number in range(105)})
    for upper in (flat, full, deep):
        writer = TarWriter(io.BytesIO())
        with stopped_after(6):
            write_upper(str(upper), lambda: None, writer)
        assert writer.entries < 7 * 16, upper


def test_jobs_of_the_layer_writer_ask_what_it_was_given() -> None:
    errors: list[BaseException] = []
    ending = threading.Event()
    ending.set()
    writer = LayerWriter("test", errors.append, stop_when(ending.is_set))
    writer.add(check, errors.append)
    writer.finish()
    assert [type(error) for error in errors] == [BuildCancelledError] * 2


def test_the_indexer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "mkfs"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setattr("images.erofs._MKFS", str(program))
    indexer = Indexer("tar", str(tmp_path / "image"))
    with stopped_after(2):
        indexer.wait()
    with pytest.raises(ChildProcessError):  # it was killed, and its end taken note of
        os.waitpid(indexer._pid, os.WNOHANG)


def rpm_database(path: Path, rows: str) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(f"CREATE VIEW Packages AS {rows}")
    return path


def test_an_rpm_database_cannot_be_a_query_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = "WITH RECURSIVE n(hnum) AS (SELECT 1 UNION ALL SELECT hnum + 1 FROM n) SELECT hnum, {} AS blob FROM n"
    counting = rpm_database(tmp_path / "counting", f"SELECT max(hnum) AS hnum, '' AS blob FROM ({endless.format(1)})")
    with stopped_after(50):
        list(rpm.packages(counting, "found", OperatingSystem.parse("")))
    monkeypatch.setattr(rpm, "_MAX_STEPS", 1_000_000)
    with pytest.raises(ValueError, match="interrupted"):
        list(rpm.packages(counting, "found", OperatingSystem.parse("")))


def test_an_rpm_database_cannot_give_more_than_it_holds(tmp_path: Path) -> None:
    big = rpm_database(
        tmp_path / "big",
        "WITH RECURSIVE n(hnum) AS (SELECT 1 UNION ALL SELECT hnum + 1 FROM n LIMIT 50) "
        "SELECT hnum, zeroblob(1000000) AS blob FROM n",
    )
    with pytest.raises(ValueError, match="more than it can hold"):
        list(rpm.packages(big, "found", OperatingSystem.parse("")))


# Paths


def count_lookups(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    from builder.copying.destination import Destination

    mode: Callable[[Destination, str], int | None] = Destination.mode

    def counted(self: Destination, path: str) -> int | None:
        asked.append(path)
        return mode(self, path)

    monkeypatch.setattr(Destination, "mode", counted)
    return asked


def test_a_deep_name_costs_as_much_as_it_has_parts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One entry a thousand directories deep took 43 s: each part was looked up from the top for each other part."""
    deep = "a/" * 1000 + "f"
    bench.context({"a.tar": archive(deep)})
    asked = count_lookups(monkeypatch)
    assert bench.add("a.tar", "/o/")[f"o/{deep}"].isreg()
    assert len(asked) < 5000


def test_members_of_one_directory_look_it_up_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = "a/" * 500
    bench.context({"a.tar": archive(*(f"{deep}f{number}" for number in range(100)))})
    asked = count_lookups(monkeypatch)
    bench.add("a.tar", "/o/")
    assert len(asked) < 4000


@pytest.mark.parametrize("deep", ["a/" * 2047 + "ab", "a/" * 4000 + "f", "x" * 256, "d/" + "y" * 300 + "/f"])
def test_names_that_linux_has_no_room_for_are_refused(bench: Bench, deep: str) -> None:
    bench.context({"a.tar": archive(deep)})
    with pytest.raises(CopyError, match=r"a path of \d+ bytes|a name of more than 255 bytes"):
        bench.add("a.tar", "/o/")


def test_the_longest_names_are_taken(bench: Bench) -> None:
    name = "a/" * 2046
    name += "b" * (4094 - len(name))
    bench.context({"a.tar": archive(name, "x" * 255)})
    assert bench.add("a.tar", "/")[name].isreg()


def test_few_members_cannot_imply_directories_without_end(bench: Bench) -> None:
    bench.context({"a.tar": archive(*(f"{number}/" + "a/" * 2000 + "f" for number in range(40)))})
    with pytest.raises(ArchiveError, match="the archive implies directories whose paths have more than"):
        bench.add("a.tar", "/o/")


def test_a_tree_deeper_than_a_path_may_be_long_is_named_as_such(tmp_path: Path) -> None:
    top = fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=fd)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=fd)
        if fd != top:
            os.close(fd)
        fd = below
    os.close(fd)
    with pytest.raises(ContextError, match=r"has a path of \d+ bytes, and the kernel takes 4095"):
        SourceTree(top, "the context").walk("")
    os.close(top)
    remove_tree(str(tmp_path / ("d" * 250)))


def test_a_glob_of_many_parts_needs_no_stack_of_pythons(bench: Bench) -> None:
    depth = 1200
    deep = bench.context_path / ("a/" * depth)
    subprocess.run(["mkdir", "-p", str(deep)], check=True)
    (deep / "f").write_text("1")
    try:
        assert bench.copy("*/" * depth + "*", "/o/").content == {"o/f": "1"}
    finally:
        remove_tree(str(bench.context_path / "a"))  # pytest's own removal goes no deeper than Python's stack


def test_a_link_into_the_archives_own_tree_is_still_followed_after_it_was_replaced(bench: Bench) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, target in (("one", None), ("two", None), ("l", "one"), ("l/f", ""), ("l", "two"), ("l/g", "")):
            member = tarfile.TarInfo(name)
            member.type = tarfile.DIRTYPE if target is None else tarfile.SYMTYPE if target else tarfile.REGTYPE
            member.linkname, member.mode = target or "", stat.S_IRWXU
            tar.addfile(member)
    bench.context({"a.tar": made.getvalue()})
    assert {"o/one/f", "o/two/g"} <= set(bench.add("a.tar", "/o/"))
