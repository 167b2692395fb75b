from __future__ import annotations

import contextlib
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images.errors import LayerSourceError
from images.matching import AnotherTarError, TarMatcher
from images.tarreader import TarReader
from images.tarwriter import Stretch, TarWriter


@dataclass(frozen=True)
class Entry:
    kind: str
    name: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    content: bytes = b""
    link: bytes = b""
    rdev: int = 0
    xattrs: dict[str, bytes] = field(default_factory=dict)


def write(entries: list[Entry]) -> bytes:
    sink = io.BytesIO()
    writer = TarWriter(sink)
    for e in entries:
        if e.kind == "directory":
            writer.directory(e.name, e.mode, e.uid, e.gid, e.mtime, e.xattrs)
        elif e.kind == "file":
            writer.file(e.name, e.mode, e.uid, e.gid, e.mtime, len(e.content), e.content, e.xattrs)
        elif e.kind == "symlink":
            writer.symlink(e.name, e.link, e.uid, e.gid, e.mtime, e.xattrs)
        elif e.kind == "hardlink":
            writer.hardlink(e.name, e.link, e.mode, e.uid, e.gid, e.mtime)
        else:
            writer.device(e.name, e.mode | stat.S_IFCHR, e.uid, e.gid, e.mtime, e.rdev, e.xattrs)
    writer.close()
    return sink.getvalue()


component = st.binary(min_size=1, max_size=90).map(lambda b: b.replace(b"/", b"_").replace(b"\0", b"_"))
text_component = st.text(min_size=1, max_size=40).map(lambda t: t.encode("utf-8", "replace").replace(b"/", b"_"))
names = (
    st.lists(component | text_component, min_size=1, max_size=6)
    .map(b"/".join)
    .map(lambda name: name.replace(b"\0", b"_"))
)
ids = st.sampled_from([0, 1, 0o7777777, 0o10000000, 2**32 - 2])
times = st.sampled_from([-1, 0, 1_700_000_000, 0o77777777777, 0o100000000000])
xattr_sets = st.dictionaries(
    st.sampled_from(["user.a", "user.zeichen-ä", "security.capability"]), st.binary(max_size=700), max_size=3
)
modes = st.integers(0, 0o7777)
entries = st.one_of(
    st.builds(Entry, st.just("directory"), names, modes, ids, ids, times, xattrs=xattr_sets),
    st.builds(Entry, st.just("file"), names, modes, ids, ids, times, st.binary(max_size=2000), xattrs=xattr_sets),
    st.builds(Entry, st.just("symlink"), names, st.just(0o777), ids, ids, times, link=names, xattrs=xattr_sets),
    st.builds(Entry, st.just("hardlink"), names, modes, ids, ids, times, link=names),
    st.builds(Entry, st.just("device"), names, modes, ids, ids, times, rdev=st.just(os.makedev(254, 70000))),
)
KINDS = {
    tarfile.DIRTYPE: "directory",
    tarfile.REGTYPE: "file",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
    tarfile.CHRTYPE: "device",
}


def read_with_tarfile(data: bytes) -> list[Entry]:
    def raw(text: str) -> bytes:
        return text.encode("utf-8", "surrogateescape")

    result = []
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isreg() else None
            xattrs = {
                key.removeprefix("SCHILY.xattr."): raw(value)
                for key, value in member.pax_headers.items()
                if key.startswith("SCHILY.xattr.")
            }
            result.append(
                Entry(
                    KINDS[member.type],
                    raw(member.name),
                    member.mode,
                    member.uid,
                    member.gid,
                    int(member.mtime),
                    file.read() if file else b"",
                    raw(member.linkname),
                    os.makedev(member.devmajor, member.devminor),
                    xattrs,
                )
            )
    return result


def read_with_reader(data: bytes) -> list[Entry]:
    reader = TarReader(io.BytesIO(data))
    result = []
    for e in reader:
        kind = KINDS[e.kind]
        name = e.name.rstrip(b"/") if kind == "directory" else e.name
        content = reader.read(e.size)
        result.append(Entry(kind, name, e.mode, e.uid, e.gid, e.mtime, content, e.link, e.rdev, e.xattrs))
    return result


@settings(max_examples=150, deadline=None)
@given(st.lists(entries, max_size=5))
def test_what_is_written_is_read_back_by_tarfile_and_by_the_reader(written: list[Entry]) -> None:
    data = write(written)
    assert len(data) % 512 == 0
    assert read_with_reader(data) == written
    # tarfile strips trailing slashes of whatever it reads; the strategy makes no such names.
    assert read_with_tarfile(data) == written


SAMPLES = [
    Entry("directory", b"d", 0o1777),
    Entry("directory", b"d/" + b"n" * 99),
    Entry("file", b"d/setuid", 0o6755, 1000, 2097152, 1_700_000_000, b"x" * 513),
    Entry("file", b"d/" + b"long/" * 25 + b"file", content=b"prefix"),
    Entry("file", b"d/" + b"l" * 180, content=b"one long component"),
    Entry("file", "d/grün".encode(), content=b"utf-8"),
    Entry("file", b"d/latin1-\xe9", content=b"not utf-8"),
    Entry(
        "file", b"d/xattr", 0o755, xattrs={"user.key": b"v\0\n=\xff", "security.capability": b"\1\0\0\2" + bytes(16)}
    ),
    Entry("symlink", b"d/link", 0o777, link=b"t" * 150),
    Entry("symlink", "d/lïnk".encode(), 0o777, link=b"\xff\xfe"),
    Entry("hardlink", b"d/hard", 0o6755, 1000, 2097152, 1_700_000_000, link=b"d/setuid"),
    Entry("hardlink", b"d/hard2", link=b"d/" + b"l" * 180),
    Entry("device", b"d/null", 0o666, rdev=os.makedev(1, 3)),
    Entry("file", b"d/old", mtime=-7),
]


def headers(data: bytes) -> Iterator[bytes]:
    at = 0
    while any(header := data[at : at + 512]):
        yield header
        at += 512 + -(-int(header[124:135], 8) // 512) * 512


@pytest.mark.parametrize("length", [98, 99, 100, 154, 155, 156, 255])
def test_a_name_is_never_all_in_the_prefix(length: int) -> None:
    """A reader of old archives knows no prefix, and takes an empty name for the archive's end."""
    directory = Entry("directory", b"n" * length)
    data = write([directory])
    assert all(header[0] for header in headers(data))
    assert read_with_tarfile(data) == [directory]


@pytest.mark.parametrize(("name", "count"), [(b"n" * 99, 1), (b"n" * 100, 1), (b"n" * 101, 3), ("ä".encode() * 5, 3)])
def test_name_that_fits_needs_no_header_of_its_own(name: bytes, count: int) -> None:
    data = write([Entry("file", name)])
    assert len(data.rstrip(b"\0")) <= 512 * count
    assert (next(headers(data))[156:157] == b"x") == (count > 1)
    beside = write([Entry("file", name, uid=0o10000000)])
    assert (b" path=" in beside) == (count > 1), "nor a record, where there is a header for another reason"


def test_gnu_tar_lists_what_was_written() -> None:
    data = write(SAMPLES)
    command = ["tar", "--list", "--null", "--quoting-style=literal", "--file=-"]
    listed = subprocess.run(command, input=data, capture_output=True, check=True)
    assert listed.stderr == b""
    assert [line.rstrip(b"/") for line in listed.stdout.splitlines()] == [e.name for e in SAMPLES]


def test_gnu_tar_extracts_what_was_written(tmp_path: Path) -> None:
    assert os.geteuid() == 0, "this test makes devices: run it as root"
    command = [
        "tar",
        "--extract",
        "--xattrs",
        "--xattrs-include=*",
        "--same-owner",
        "-p",
        "-C",
        str(tmp_path),
        "-f",
        "-",
    ]
    result = subprocess.run(command, input=write(SAMPLES), capture_output=True, check=False)
    assert b"implausibly old" in result.stderr  # the file from before 1970
    root = os.fsencode(tmp_path)
    for e in SAMPLES:
        path = root + b"/" + e.name
        info = os.lstat(path)
        assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (e.uid, e.gid, e.mode)
        if e.kind == "file":
            assert Path(os.fsdecode(path)).read_bytes() == e.content
            assert {name: os.getxattr(path, name) for name in os.listxattr(path)} == e.xattrs
        elif e.kind == "symlink":
            assert os.readlink(path) == e.link
        elif e.kind == "device":
            assert info.st_rdev == e.rdev
    assert os.stat(root + b"/d/hard").st_ino == os.stat(root + b"/d/setuid").st_ino


def test_mkfs_erofs_indexes_what_was_written(tmp_path: Path) -> None:
    assert os.geteuid() == 0, "this test mounts: run it as root"
    tar, image, target = tmp_path / "layer.tar", tmp_path / "image", tmp_path / "mnt"
    tar.write_bytes(write(SAMPLES))
    target.mkdir()
    subprocess.run(["mkfs.erofs", "--quiet", "--tar=i", image, tar], check=True, capture_output=True)
    subprocess.run(["mount", "-t", "erofs", "-o", f"ro,device={tar}", image, target], check=True)
    try:
        root = os.fsencode(target)
        for e in SAMPLES:
            path = root + b"/" + e.name
            info = os.lstat(path)
            assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode), info.st_mtime) == (
                e.uid,
                e.gid,
                e.mode,
                e.mtime,
            )
            if e.kind == "file":
                assert Path(os.fsdecode(path)).read_bytes() == e.content
                assert {name: os.getxattr(path, name) for name in os.listxattr(path)} == e.xattrs
            elif e.kind == "symlink":
                assert os.readlink(path) == e.link
    finally:
        subprocess.run(["umount", target], check=True)


def test_ordinary_entries_take_one_block_and_the_archive_ends_with_two() -> None:
    data = write([Entry("directory", b"a"), Entry("file", b"a/" + b"p/" * 60 + b"f", content=b"x")])
    assert len(data) == 512 + 512 + 512 + 1024
    assert data[-1024:] == bytes(1024)


def test_user_and_group_names_are_empty_and_nothing_depends_on_the_machine() -> None:
    assert write(SAMPLES) == write(SAMPLES)
    with tarfile.open(fileobj=io.BytesIO(write(SAMPLES))) as archive:
        assert {(member.uname, member.gname) for member in archive} == {("", "")}


def test_the_root_directory_is_written_as_dot() -> None:
    assert read_with_reader(write([Entry("directory", b"", 0o755)])) == [Entry("directory", b".", 0o755)]


def test_whiteouts_and_opaque_directories_have_their_names() -> None:
    sink = io.BytesIO()
    writer = TarWriter(sink)
    writer.whiteout(b"gone")
    writer.whiteout(b"d/e/gone")
    writer.opaque(b"d/e")
    writer.opaque(b"d/")
    writer.opaque(b"")
    writer.close()
    names = [e.name for e in read_with_reader(sink.getvalue())]
    assert names == [b".wh.gone", b"d/e/.wh.gone", b"d/e/.wh..wh..opq", b"d/.wh..wh..opq", b".wh..wh..opq"]


class Counter:
    """A sink that keeps only the beginning."""

    def __init__(self) -> None:
        self.size, self.head = 0, b""

    def write(self, data: bytes, /) -> int:
        if len(self.head) < 2048:
            self.head += data[:2048]
        self.size += len(data)
        return len(data)


class Zeros:
    def __init__(self, size: int) -> None:
        self.left = size

    def read(self, size: int, /) -> bytes:
        taken = min(size, self.left)
        self.left -= taken
        return bytes(taken)


def test_a_file_of_over_eight_gib_has_its_size_in_a_pax_header() -> None:
    size = 8 * 1024**3
    sink = Counter()
    writer = TarWriter(sink)
    with pytest.raises(LayerSourceError, match=f"big: .*expected {size} bytes, got 1000"):
        writer.file(b"big", 0o644, 0, 0, 0, size, Zeros(1000))
    entry = TarReader(io.BytesIO(sink.head)).next()
    assert entry is not None
    assert entry.size == size


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 262_144, 262_145, 2_000_001])
def test_content_comes_from_bytes_descriptors_and_readers_alike(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "f").write_bytes(content)
    expected = write([Entry("file", b"f", content=content)])
    with (tmp_path / "f").open("rb", buffering=0) as file:
        for source in (file.fileno(), io.BytesIO(content)):
            sink = io.BytesIO()
            writer = TarWriter(sink)
            writer.file(b"f", 0o644, 0, 0, 0, size, source)
            writer.close()
            assert sink.getvalue() == expected


@pytest.mark.parametrize("size", [0, 5, 1_000_000])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_that_changes_while_it_is_read_is_named(tmp_path: Path, size: int, change: int) -> None:
    (tmp_path / "f").write_bytes(bytes(max(size + change, 0)))
    if size + change < 0:
        return
    with (tmp_path / "f").open("rb", buffering=0) as file:
        writer = TarWriter(io.BytesIO())
        with pytest.raises(LayerSourceError, match=r"some/file: the file changed"):
            writer.file(b"some/file", 0o644, 0, 0, 0, size, file.fileno())


def test_what_no_tar_can_hold_is_refused() -> None:
    writer = TarWriter(io.BytesIO())
    for name in (b"", b"a\0b", b"a\0" + b"b" * 200):
        with pytest.raises(ValueError, match="name that no tar can hold"):
            writer.file(name, 0, 0, 0, 0, 0, b"")
    with pytest.raises(ValueError, match="attribute"):
        writer.file(b"f", 0, 0, 0, 0, 0, b"", {"user.a=b": b""})
    with pytest.raises(ValueError, match="link target"):
        writer.symlink(b"f", b"", 0, 0, 0)


def _again(entries: list[Entry], tar: Path, places: dict[bytes, int]) -> tuple[bytes, int]:
    """The tar of ``entries`` with contents from ``tar`` where they are known; and how many bytes were written."""
    sink = io.BytesIO()
    writer = TarWriter(sink)
    with tar.open("rb") as earlier:
        for e in entries:
            assert writer.offset % 512 == 0
            if e.kind == "file" and (offset := places.get(e.content)) is not None:
                content = Stretch(earlier.fileno(), offset, len(e.content))
                writer.file_from_tar(e.name, e.mode, e.uid, e.gid, e.mtime, content, e.xattrs)
            elif e.kind == "file":
                writer.file(e.name, e.mode, e.uid, e.gid, e.mtime, len(e.content), e.content, e.xattrs)
            else:
                writer.directory(e.name, e.mode, e.uid, e.gid, e.mtime, e.xattrs)
        writer.close()
    assert writer.offset == len(sink.getvalue())
    return sink.getvalue(), writer.entries


def _places(entries: list[Entry], path: Path) -> dict[bytes, int]:
    path.write_bytes(write(entries))
    with tarfile.open(path, errors="surrogateescape") as archive:
        members = [member for member in archive if member.isreg()]
    contents = [e.content for e in entries if e.kind == "file"]
    return {content: member.offset_data for content, member in zip(contents, members, strict=True)}


files = st.builds(Entry, st.just("file"), names, modes, ids, ids, times, st.binary(max_size=2000), xattrs=xattr_sets)
directories = st.builds(Entry, st.just("directory"), names, modes, ids, ids, times, xattrs=xattr_sets)


@given(st.lists(files, max_size=12), st.data())
@settings(max_examples=60, deadline=None)
def test_contents_of_an_earlier_tar_make_the_same_tar(
    tmp_path_factory: pytest.TempPathFactory, before: list[Entry], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("tar") / "earlier.tar"
    places = _places(before, path)
    known = st.sampled_from(before) if before else files
    again = data.draw(st.lists(known | files | directories, max_size=16))
    moved = [Entry(e.kind, b"moved/" + e.name, e.mode, content=e.content) for e in before[:3]]
    assert _again(again + moved, path, places) == (write(again + moved), len(again + moved))


def test_long_runs_and_large_files_come_from_an_earlier_tar_too(tmp_path: Path) -> None:
    before = [Entry("file", b"f%03d" % n, content=os.urandom(size)) for n, size in enumerate([9_000, 600_000, 0] * 12)]
    path = tmp_path / "earlier.tar"
    places = _places(before, path)
    changed = [*before[:20], Entry("file", before[20].name, content=b"changed"), *before[21:]]
    for entries in (before, changed, before[::-1], before[5:], before[:-1]):
        assert _again(entries, path, places) == (write(entries), len(entries))


def test_an_earlier_tar_that_lost_its_end_is_an_error(tmp_path: Path) -> None:
    before = [Entry("file", b"f%d" % n, content=os.urandom(300_000)) for n in range(3)]
    path = tmp_path / "earlier.tar"
    places = _places(before, path)
    os.truncate(path, 500_000)
    with pytest.raises(LayerSourceError, match="lost its end"):
        _again(before, path, places)


@pytest.mark.parametrize("padding", [b"\0" * 412, b"\0" * 411 + b"x"])
def test_a_tar_is_the_same_one_if_its_padding_is_too(tmp_path: Path, padding: bytes) -> None:
    sink = io.BytesIO()
    writer = TarWriter(sink)
    writer.file(b"f", 0o644, 0, 0, 5, 100, b"x" * 100)
    writer.close()
    path = tmp_path / "tar"
    path.write_bytes(sink.getvalue()[:612] + padding + sink.getvalue()[1024:])
    with path.open("rb") as tar:
        matcher = TarMatcher(tar.fileno())
        with contextlib.nullcontext() if not any(padding) else pytest.raises(AnotherTarError):
            matcher.file_from_tar(b"f", 0o644, 0, 0, 5, Stretch(tar.fileno(), 512, 100))
            matcher.close()
