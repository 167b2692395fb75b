"""Files of an output for people, out of its layer: names that are a stranger's, links, removals, and what is large."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Iterator

import pytest

from ci.downloads import Format, NoSuchFileError, OutputFile, _zip_name, archived, counted, listed, opened_file
from images.tarreader import TarEntry, TarReader
from images.tarwriter import TarWriter

AT = 1_700_000_000.0


@pytest.fixture
def layer() -> io.BytesIO:
    found = io.BytesIO()
    writer = TarWriter(found)

    def add(name: bytes, mode: int = 0o644) -> None:
        writer.file(name, mode, 0, 0, 0, 5, b"hello")

    writer.directory(b"dist", 0o755, 0, 0, 0)
    add(b"dist/a.txt")
    add(b"dist/run", 0o755)
    writer.hardlink(b"dist/same", b"dist/a.txt", 0o644, 0, 0, 0)
    writer.symlink(b"dist/away", b"../../etc/passwd", 0, 0, 0)
    add(b"dist/.wh.gone")
    add(b"dist/caf\xe9")
    add(b"dist/NUL.txt")
    add(b'dist/a:b"c\\d')
    add(b"dist/ends.")
    writer.directory(b"empty", 0o755, 0, 0, 0)
    writer.close()
    found.seek(0)
    return found


def read(layer: io.BytesIO, pieces: Iterator[bytes]) -> io.BytesIO:
    del layer
    return io.BytesIO(b"".join(pieces))


def test_files_are_listed_without_removals(layer: io.BytesIO) -> None:
    found = {file.path: file for file in listed(layer)}
    assert "dist/.wh.gone" not in found
    assert found["dist/a.txt"] == OutputFile("dist/a.txt", "file", 5, 0o644)
    assert found["dist/away"] == OutputFile("dist/away", "symlink", 0, 0o777, "../../etc/passwd")
    assert found["dist/same"].kind == "hardlink"
    assert "dist/caf\\xe9" in found
    assert [file.path for file in listed(io.BytesIO(layer.getvalue()), "empty")] == []
    below = [file.path for file in listed(io.BytesIO(layer.getvalue()), "dist/")]
    assert "dist" not in below
    assert len(below) == len(found) - 2


def test_files_and_links_are_counted(layer: io.BytesIO) -> None:
    assert counted(layer) == (8, 6 * 5)


@pytest.mark.parametrize("path", ["dist/a.txt", "/dist/a.txt", "dist/same", "dist/caf\\xe9"])
def test_a_file_is_read_by_the_name_that_is_shown(layer: io.BytesIO, path: str) -> None:
    size, pieces = opened_file(layer, path)
    assert (size, b"".join(pieces)) == (5, b"hello")


@pytest.mark.parametrize("path", ["", "dist", "dist/away", "dist/away/passwd", "dist/.wh.gone", "../f", "none", "."])
def test_what_is_no_file_is_refused(layer: io.BytesIO, path: str) -> None:
    with pytest.raises(NoSuchFileError):
        opened_file(layer, path)


def test_a_tar_has_all_with_its_modes_and_the_jobs_time(layer: io.BytesIO) -> None:
    with tarfile.open(fileobj=read(layer, archived(layer, "tar", AT))) as tar:
        members = {member.name: member for member in tar}
        assert set(members) == {
            "dist", "dist/a.txt", "dist/run", "dist/same", "dist/away", "dist/caf\udce9", "dist/NUL.txt",
            'dist/a:b"c\\d', "dist/ends.", "empty",
        }  # fmt: skip
        assert members["dist/run"].mode == 0o755
        assert {member.mtime for member in members.values()} == {int(AT)}
        assert (members["dist/same"].islnk(), members["dist/same"].linkname) == (True, "dist/a.txt")
        assert members["dist/away"].linkname == "../../etc/passwd"
        content = tar.extractfile("dist/run")
        assert content is not None
        assert content.read() == b"hello"


def test_a_zip_has_names_that_every_system_can_unpack(layer: io.BytesIO) -> None:
    with zipfile.ZipFile(read(layer, archived(layer, "zip", AT))) as archive:
        assert archive.testzip() is None
        assert set(archive.namelist()) == {
            "dist/", "dist/a.txt", "dist/run", "dist/same", "dist/caf_xe9", "dist/_NUL.txt", "dist/a_b_c_d",
            "dist/ends_", "empty/",
        }  # fmt: skip
        assert archive.read("dist/same") == b"hello", "a hard link is a copy"
        assert archive.getinfo("dist/run").external_attr >> 16 & 0o777 == 0o755
        assert archive.getinfo("dist/a.txt").date_time == (2023, 11, 14, 22, 13, 20)


def test_two_names_that_would_be_one_in_a_zip_stay_two() -> None:
    found = io.BytesIO()
    writer = TarWriter(found)
    for name in (b"a:b", b"a?b", b"A_b", b"c~2", b"c", b"C", b"c~2~2", b"C~2"):
        writer.file(name, 0o644, 0, 0, 0, 0, b"")
    writer.close()
    found.seek(0)
    with zipfile.ZipFile(read(found, archived(found, "zip", AT))) as archive:
        assert archive.namelist() == ["a_b", "a_b~2", "A_b~3", "c~2", "c", "C~3", "c~2~2", "C~2~3"]


def test_links_in_a_zip_are_not_searched_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(TarReader):
        count = 0

        def next(self) -> TarEntry | None:
            Counting.count += 1
            return super().next()

    monkeypatch.setattr("ci.downloads.TarReader", Counting)
    found = io.BytesIO()
    writer = TarWriter(found)
    for number in range(100):
        writer.file(b"%d" % number, 0o644, 0, 0, 0, 3, b"%03d" % number)
    for number in range(100):
        writer.hardlink(b"link%d" % number, b"%d" % (99 - number), 0o644, 0, 0, 0)
    writer.close()
    found.seek(0)
    with zipfile.ZipFile(read(found, archived(found, "zip", AT))) as archive:
        assert archive.read("link7") == archive.read("92") == b"092"
    assert Counting.count <= 2 * 201


def test_many_names_that_would_be_one_in_a_zip_are_not_tried_one_by_one() -> None:
    class Asked(dict[str, int]):
        count = 0

        def __contains__(self, name: object) -> bool:
            self.count += 1
            return super().__contains__(name)

    taken, names = Asked(), set()
    for number in range(500):
        letters = "".join("aA"[number >> place & 1] for place in range(9))
        names.add(_zip_name(letters.encode(), taken))
    assert len({name.casefold() for name in names}) == 500
    assert taken.count < 1000


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_pieces_stay_small_however_large_a_file_is(tmp_path: os.PathLike[str], form: Format) -> None:
    path = os.path.join(tmp_path, "layer")
    with open(path, "wb") as out, open(os.path.join(tmp_path, "big"), "w+b") as big:
        os.ftruncate(big.fileno(), 64 << 20)
        writer = TarWriter(out)
        writer.file(b"big", 0o644, 0, 0, 0, 64 << 20, big.fileno())
        writer.close()
    with open(path, "rb", buffering=0) as layer:
        largest = max(len(piece) for piece in archived(layer, form, AT))
    assert largest <= 1 << 20
