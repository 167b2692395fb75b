"""What one look at a tar tells before it is indexed, and which tars are unpacked instead, with the reason."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from images.errors import InvalidLayerError
from images.survey import Survey, survey

_KINDS = {
    "directory": tarfile.DIRTYPE, "file": tarfile.REGTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE,
    "character": tarfile.CHRTYPE, "block": tarfile.BLKTYPE, "fifo": tarfile.FIFOTYPE, "odd": b"V",
}  # fmt: skip
Look = Callable[..., Survey]


def entry(name: str, kind: str = "file", *, data: bytes = b"", **members: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size = _KINDS[kind], len(data)
    if kind in ("link", "hard"):
        info.linkname = "target"
    for member, value in members.items():
        setattr(info, member, value)
    return info, data


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """Survey a tar of these entries."""

    def surveyed(*entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> Survey:
        with tarfile.open(tmp_path / "tar", "w", format=form) as archive:
            for info, data in entries:
                archive.addfile(info, io.BytesIO(data))
        return survey(str(tmp_path / "tar"))

    return surveyed


def test_entries_are_counted_and_the_root_is_noticed(look: Look) -> None:
    assert look() == Survey(0, {}, False, False, None)
    assert look(entry("a"), entry("d", "directory"), entry("d/b", data=b"x" * 1000)) == Survey(
        3, {}, False, False, None
    )
    assert look(entry("./", "directory"), entry("a")) == Survey(2, {}, False, True, None)
    kinds = [entry(kind, kind) for kind in ("link", "hard", "block", "fifo")]
    assert look(*kinds) == Survey(4, {}, False, False, None)


def test_directories_that_nobody_made_are_implied_with_the_time_of_the_first_entry_in_them(look: Look) -> None:
    found = look(entry("a/b/f", mtime=7), entry("a/g", mtime=9), entry("c/f", mtime=-3), entry("c", "directory"))
    assert (found.entries, found.implied) == (4, {b"a/b": 7, b"a": 7})
    assert look(entry("d/f", mtime=5)).implied == {b"d": 5}
    assert look(entry("c/f", mtime=-3), form=tarfile.GNU_FORMAT).implied == {b"c": 0}


def test_what_is_hidden_is_marked(look: Look) -> None:
    assert look(entry(".wh.a")).marks
    assert look(entry("d/.wh..wh..opq")).marks
    assert not look(entry("d/wh.a")).marks


def test_opaque_root_marks_nothing(look: Look) -> None:
    assert look(entry(".wh..wh..opq")).unusual == "a special entry '.wh..wh..opq'"


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([entry("n", "character")], "a device 'n' that overlayfs takes for a whiteout"),
        ([entry("l", "link"), entry("l/f")], "entries below a symbolic link"),
        ([entry("l/f"), entry("l", "link")], "entries below a symbolic link"),
        ([entry(".wh.")], "a special entry '.wh.'"),
        ([entry(".wh..wh.plnk")], "a special entry '.wh..wh.plnk'"),
        ([entry("d/.wh.a", "hard")], "a special entry 'd/.wh.a'"),
        ([entry("d/.wh.a"), entry("d/a")], "an entry and its whiteout in one layer"),
        ([entry("a"), entry(".wh.a")], "an entry and its whiteout in one layer"),
        ([entry(".wh.d"), entry("d/f")], "an entry and its whiteout in one layer"),
        ([entry("o", "odd")], "an entry of type 'V'"),
        ([entry("f", pax_headers={"GNU.sparse.major": "1"})], "a record 'GNU.sparse.major'"),
        ([entry("f", pax_headers={"SCHILY.xattr." + "n" * 256: "v"})], "an extended attribute with too long a name"),
        ([entry("f", pax_headers={"comment": "c" * (1 << 20)})], "an extended header of over a megabyte"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_tar_that_is_not_for_the_index_says_why(
    look: Look, entries: list[tuple[tarfile.TarInfo, bytes]], reason: str
) -> None:
    assert look(*entries) == Survey(1, {}, False, False, reason)


def test_what_looks_alike_is_for_the_index(look: Look) -> None:
    for found in (
        look(entry("n", "character", devmajor=1, devminor=0)),
        look(entry("n", "character", devmajor=0, devminor=1)),
        look(entry("l", "link"), entry("lf/f")),
        look(entry("d/.wh.a"), entry("a")),
        look(entry("f", pax_headers={"SCHILY.xattr." + "n" * 255: "v"})),
        look(entry("f", pax_headers={"comment": "c" * 1000})),
    ):
        assert found.unusual is None


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_and_content_are_stepped_over(look: Look, form: int) -> None:
    long = "d" * 90 + "/" + "n" * 150
    found = look(entry(long, data=b"x" * 1025), entry("l", "link", linkname="t" * 200), entry("z"), form=form)
    assert (found.entries, found.implied, found.unusual) == (3, {b"d" * 90: 0}, None)


def test_size_may_be_in_a_record(look: Look) -> None:
    assert look(entry("f", data=b"y" * 700, pax_headers={"size": "700"}), entry("z")).entries == 2


def test_name_that_leads_outside_is_refused(look: Look) -> None:
    with pytest.raises(InvalidLayerError, match="outside"):
        look(entry("../f"))
