from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images.errors import InvalidLayerError
from images.tarheaders import DIRECTORY, FILE, HARDLINK, MAX_SIZE_BYTES, SYMLINK, normalise
from images.tarreader import TarEntry, TarReader
from images.tarwriter import TarWriter
from images.whiteouts import hidden_name


def read_all(data: bytes, *, seekable: bool = False) -> list[tuple[TarEntry, bytes]]:
    reader = TarReader(io.BytesIO(data), seekable=seekable)
    return [(entry, reader.read(entry.size)) for entry in reader]


def headers(data: bytes, *, seekable: bool = False) -> list[TarEntry]:
    """The entries without their content: who believed a size of years would be at it for years."""
    return list(TarReader(io.BytesIO(data), seekable=seekable))


def sample() -> bytes:
    sink = io.BytesIO()
    writer = TarWriter(sink)
    writer.directory(b"d", 0o755, 0, 0, 1)
    writer.file(b"d/" + b"long" * 50, 0o644, 1, 2, 3, 700, b"x" * 700, {"user.key": b"\0=\n"})
    writer.symlink(b"link", b"t" * 120, 0, 0, 0)
    writer.file(b"last", 0o644, 0, 0, 0, 1, b"!")
    writer.close()
    return sink.getvalue()


@pytest.mark.parametrize("kind", ["v7", "ustar", "gnu", "oldgnu", "pax"])
def test_reads_every_format_that_gnu_tar_writes(tmp_path: Path, kind: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/file").write_bytes(b"content" * 500)
    os.symlink("file", tmp_path / "d/link")
    os.link(tmp_path / "d/file", tmp_path / "d/zhard")
    long = "n" * 60 + "/" + "m" * 95
    if kind != "v7":
        (tmp_path / "d" / long).parent.mkdir()
        (tmp_path / "d" / long).touch()
    if kind in ("gnu", "pax"):
        (tmp_path / "d" / ("x" * 200)).symlink_to("y" * 200)
        os.chown(tmp_path / "d/file", 3_000_000, 4_000_000)
        os.utime(tmp_path / "d/file", ns=(0, -1_500_000_000))
    command = ["tar", "--create", "--sort=name", f"--format={kind}", "-C", str(tmp_path), "d"]
    data = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    found = {entry.name.rstrip(b"/").decode(): (entry, content) for entry, content in read_all(data)}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [member.name for member in archive] == list(found)
    assert found["d"][0].kind == DIRECTORY
    entry, content = found["d/file"]
    assert (entry.kind, content) == (FILE, b"content" * 500)
    assert (found["d/link"][0].kind, found["d/link"][0].link) == (SYMLINK, b"file")
    assert (found["d/zhard"][0].kind, found["d/zhard"][0].link) == (HARDLINK, b"d/file")
    if kind in ("gnu", "pax"):
        assert (entry.uid, entry.gid, entry.mtime) == (3_000_000, 4_000_000, -2)
        assert found["d/" + "x" * 200][0].link == b"y" * 200


@pytest.mark.parametrize(
    "option", ["--format=gnu", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"]
)
def test_reads_sparse_files_with_their_holes_filled(tmp_path: Path, option: str) -> None:
    content = bytearray(4_000_000)
    with (tmp_path / "sparse").open("wb") as file:
        for i in range(60):  # more than fit one header of the old kind
            file.seek(i * 65536 + 4096)
            file.write(b"%04d" % i * 1024)
            content[i * 65536 + 4096 : i * 65536 + 8192] = b"%04d" % i * 1024
        file.truncate(4_000_000)
    (tmp_path / "after").write_bytes(b"after")
    formats = [option] if option.startswith("--format") else ["--format=pax", option]
    command = ["tar", "--create", "--sparse", *formats, "-C", str(tmp_path), "sparse", "after"]
    data = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    assert len(data) < 1_000_000
    for seekable in (False, True):
        (sparse, got), (after, rest) = read_all(data, seekable=seekable)
        assert (sparse.name, sparse.size, got) == (b"sparse", 4_000_000, bytes(content))
        assert (after.name, rest) == (b"after", b"after")


def test_skips_content_that_is_not_read_and_knows_where_it_is() -> None:
    data = sample()
    for seekable in (False, True):
        stream = io.BytesIO(b"before" + data)
        stream.seek(6)
        reader = TarReader(stream, seekable=seekable)
        offsets = [(entry.name[:4], data[reader.offset : reader.offset + 1]) for entry in reader]
        assert offsets[1] == (b"d/lo", b"x")
        assert offsets[3] == (b"last", b"!")


def test_an_archive_may_end_without_zero_blocks_and_with_any_padding() -> None:
    data = sample()
    expected = [entry for entry, _ in read_all(data)]
    assert [entry for entry, _ in read_all(data[:-1024])] == expected
    assert [entry for entry, _ in read_all(data[:-512])] == expected
    assert [entry for entry, _ in read_all(data + bytes(10_000) + b"garbage")] == expected
    assert read_all(b"") == []


@pytest.mark.parametrize("seekable", [False, True])
def test_truncation_inside_an_entry_is_an_error(seekable: bool) -> None:
    data = sample()
    end = len(data) - 1024 - 511  # the last byte that matters
    for length in [*range(1, 512, 100), 513, 1000, 1025, 1600, 2100, end - 1]:
        with pytest.raises(InvalidLayerError, match="damaged tar"):
            read_all(data[:length], seekable=seekable)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damage_gives_entries_or_an_error_and_nothing_else(data: st.DataObject) -> None:
    broken = bytearray(sample())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(broken) - 1))
        broken[at : at + 1] = data.draw(st.binary(min_size=1, max_size=12))
    try:
        for entry, content in read_all(bytes(broken)):
            assert len(content) == entry.size
    except InvalidLayerError:
        pass


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"x", b"g", b"L", b"K", b"S", b"0", b"3"]), st.binary(max_size=90))
def test_any_metadata_gives_entries_or_an_error_and_nothing_else(payload: bytes, kind: bytes, field: bytes) -> None:
    """As above, with valid checksums, so that what is behind them is reached."""

    def block(kind: bytes, size: int, junk: bytes = b"") -> bytes:
        header = bytearray(512)
        header[0:4] = b"name"
        header[124:136] = b"%011o\0" % size
        header[386 : 386 + len(junk)] = junk
        header[156:157] = kind
        header[257:265] = b"ustar\x0000"
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        return bytes(header)

    data = block(kind, len(payload), field) + payload + bytes(-len(payload) % 512) + block(b"0", 0) + bytes(1024)
    try:
        for entry, content in read_all(data):
            assert len(content) == entry.size
    except InvalidLayerError:
        pass


def pax(**records: bytes) -> bytes:
    return b"".join(
        next(b"%d %b" % (n, rest) for n in range(1000) if n == len(b"%d %b" % (n, rest)))
        for rest in (key.replace("__", ".").encode() + b"=" + value + b"\n" for key, value in records.items())
    )


@pytest.mark.parametrize(
    "records",
    [
        {"path": b"a\0b"},
        {"uid": b"-1"},
        {"uid": b"4294967295"},
        {"size": b"99999999999999999999"},
        {"size": b"1x"},
        {"mtime": b"never"},
        {"GNU__sparse__map": b"5,10,0,5", "GNU__sparse__size": b"100"},
        {"GNU__sparse__map": b"0,1000", "GNU__sparse__size": b"1000"},
        {"GNU__sparse__map": b"0", "GNU__sparse__size": b"1000"},
        {"GNU__sparse__major": b"1", "GNU__sparse__realsize": b"10"},
    ],
)
def test_pax_records_that_make_no_sense_are_errors(records: dict[str, bytes]) -> None:
    with pytest.raises(InvalidLayerError, match="damaged tar"):
        read_all(after_records(pax(**records)))


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ({"map": b"0,%d", "size": b"4"}, "exceeds the file"),
        ({"map": b"0,%d,7", "size": b"600"}, "exceeds the file"),
        ({"map": b"0,%d", "size": b"9223372036854775808"}, "exceeds the file"),
        ({"map": b"0,%d,590,11", "size": b"600"}, "exceeds the file"),
        ({"map": b"0,2,1,%d", "size": b"600"}, "is out of order"),
        ({"map": b"0,%d,520,1", "size": b"600"}, "does not match its content"),
    ],
    ids=["size", "odd", "huge", "behind the end", "order", "content"],
)
def test_map_of_a_sparse_file_is_held_to_file_and_content(records: dict[str, bytes], why: str) -> None:
    stored = 512
    fields = {f"GNU__sparse__{key}": value.replace(b"%d", b"%d" % stored) for key, value in records.items()}
    with pytest.raises(InvalidLayerError, match=f"the map of a sparse file {why}"):
        headers(after_records(pax(**fields)))
    ((entry, got),) = read_all(after_records(pax(GNU__sparse__map=b"2,%d" % stored, GNU__sparse__size=b"600")))
    assert (entry.size, got) == (600, (bytes(2) + b"9" * 512).ljust(600, b"\0"))


@pytest.mark.parametrize("seekable", [False, True])
def test_file_that_claims_to_be_longer_than_any_is_refused_by_its_header(seekable: bool) -> None:
    with pytest.raises(InvalidLayerError, match="an entry of 9223372036854775808 bytes"):
        headers(after_records(pax(size=b"9223372036854775808")), seekable=seekable)


def test_file_of_the_most_bytes_that_there_may_be_is_only_too_short() -> None:
    for size, why in (
        (MAX_SIZE_BYTES, "it ends in the middle of a file"),
        (MAX_SIZE_BYTES + 1, f"an entry of {1 << 62}"),
    ):
        with pytest.raises(InvalidLayerError, match=f"damaged tar.*{why}"):
            headers(after_records(pax(size=b"%d" % size)), seekable=True)


@pytest.mark.parametrize(
    "rest", [b"no blank, so no length=", b"nolengthhereatall=1", b"0 key=value\n", b"9999 key=value\n"]
)
def test_pax_record_without_its_length_is_an_error(rest: bytes) -> None:
    with pytest.raises(InvalidLayerError, match="damaged tar"):
        read_all(after_records(pax(comment=b"fine") + rest))


def after_records(body: bytes) -> bytes:
    """An archive of a file for which a PAX header says ``body``."""
    sink = io.BytesIO()
    writer = TarWriter(sink)
    writer.file(b"pax", 0o644, 0, 0, 0, len(body), body)
    writer.file(b"f", 0o644, 0, 0, 0, 512, b"9" * 512)
    writer.close()
    data = bytearray(sink.getvalue())
    data[148:156] = b"%06o\0 " % (sum(data[:148]) + sum(data[156:512]) + 256 + ord("x") - ord("0"))
    data[156:157] = b"x"
    return bytes(data)


def test_global_records_hold_until_they_are_overridden() -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"uid": "77"}) as tar:
        tar.addfile(tarfile.TarInfo("one"))
        two = tarfile.TarInfo("two")
        two.uid = 3_000_000
        tar.addfile(two)
    assert [entry.uid for entry, _ in read_all(archive.getvalue())] == [77, 3_000_000]


def test_names_are_normalised_without_leaving_the_root() -> None:
    for name, expected in [(b"./a//b/./c/", b"a/b/c"), (b"/a/../b", b"b"), (b"./", b""), (b"a/..", b""), (b"a", b"a")]:
        assert normalise(name) == expected
    for name in (b"..", b"a/../../b", b"/..", b"x/" * 3000):
        with pytest.raises(InvalidLayerError):
            normalise(name)


def test_whiteouts_name_what_they_hide() -> None:
    assert hidden_name(b".wh.name") == b"name"
    assert hidden_name(b".wh..hidden") == b".hidden"
    assert hidden_name(b".wh..wh..opq") == b""
    for name in (b".wh.", b".wh..", b".wh..."):
        with pytest.raises(InvalidLayerError):
            hidden_name(name)
