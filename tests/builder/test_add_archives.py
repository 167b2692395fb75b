"""ADD of local archives: what is unpacked, what is copied as it is, and what hostile archives can not do."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from builder.errors import ArchiveError, ContextChangedError, CopyConflictError, CopyError
from tests.builder.copying_tools import CREATED_AT, Bench, Layer

FILE, LINK, HARD, DIR = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
CHAR, FIFO = tarfile.CHRTYPE, tarfile.FIFOTYPE
TIME = 1_111_111_111


def tar(*members: tuple[Any, ...], format: int = tarfile.PAX_FORMAT) -> bytes:  # noqa: A002 - tarfile's own word
    """Members as (name, type, content or target or device, mode, more TarInfo attributes), all owned by 7:8."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name, kind, what, mode, *more in members:
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.uid, member.gid, member.mtime = kind, mode, 7, 8, TIME
            data = b""
            if kind == FILE:
                data = what.encode()
                member.size = len(data)
            elif kind == CHAR:
                member.devmajor, member.devminor = what
            elif what:
                member.linkname = what
            for attribute, value in (more[0] if more else {}).items():
                setattr(member, attribute, value)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def add(bench: Bench) -> Callable[..., Layer]:
    """``add(tar bytes)`` is ADD of them to /o."""

    def run(data: bytes, destination: str = "/o", **options: object) -> Layer:
        bench.context({"x.tar": data})
        return bench.add("x.tar", destination, **options)

    return run


SIMPLE = tar(("a/b/f", FILE, "1", 0o4755), ("./", DIR, "", 0o700), ("x/", DIR, "", 0o750), ("x/s", LINK, "../a", 0o777))

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_add_unpacks_archives_of_every_compression_whatever_they_are_called(bench: Bench, compression: str) -> None:
    bench.context({"image.png": COMPRESSIONS[compression](SIMPLE)})
    layer = bench.add("image.png", "/o")
    assert layer.names() == ["o", "o/a", "o/a/b", "o/a/b/f", "o/x", "o/x/s"]
    assert (layer["o/a/b/f"].mode, layer.owner("o/a/b/f"), layer["o/a/b/f"].mtime) == (0o4755, (7, 8), TIME)
    assert (layer["o/x"].mode, layer.owner("o/x")) == (0o750, (7, 8))
    assert layer["o/x/s"].linkname == "../a"


def test_copy_never_unpacks(bench: Bench) -> None:
    bench.context({"x.tar": SIMPLE})
    assert bench.copy("x.tar", "/o").names() == ["o"]


@pytest.mark.parametrize(
    "content",
    [b"", b"plain", gzip.compress(b"not a tar"), bytes(10240), tar(), SIMPLE[:511], gzip.compress(SIMPLE)[:20]],
    ids=["empty", "text", "gzip of text", "zeros", "empty tar", "half a header", "gzip cut off"],
)
def test_add_copies_what_is_no_archive(bench: Bench, content: bytes) -> None:
    bench.context({"x.tar": content})
    layer = bench.add("x.tar", "/o/")
    assert layer.names() == ["o", "o/x.tar"]
    assert layer["o/x.tar"].size == len(content)


def test_add_of_files_and_directories_is_copy(bench: Bench) -> None:
    bench.context({"d/x.tar": SIMPLE, "f": "1"})
    assert bench.add("d", "f", "/o/").names() == ["o", "o/f", "o/x.tar"]


def test_add_follows_a_link_to_an_archive(bench: Bench) -> None:
    bench.context({"real.tar": SIMPLE, "l": "-> real.tar"})
    assert "o/a/b/f" in bench.add("l", "/o")


def test_directories_that_the_archive_does_not_name_are_0755_root(add: Callable[..., Layer]) -> None:
    layer = add(SIMPLE)
    for name in ("o", "o/a", "o/a/b"):
        assert (layer[name].mode, layer.owner(name), layer[name].mtime) == (0o755, (0, 0), CREATED_AT)


def test_chown_applies_to_entries_and_chmod_does_not(add: Callable[..., Layer]) -> None:
    layer = add(SIMPLE, "/o/p", chown="3:4", chmod="700")
    assert {layer.owner(name) for name in ("o", "o/p", "o/p/x", "o/p/a/b/f", "o/p/x/s")} == {(3, 4)}
    assert layer["o/p/a/b/f"].mode == 0o4755


def test_unpacking_to_a_file_is_an_error(bench: Bench, add: Callable[..., Layer]) -> None:
    bench.rootfs({"o": "file"})
    with pytest.raises(CopyConflictError, match="/o is not a directory"):
        add(SIMPLE)


def test_names_are_kept_beneath_the_destination(add: Callable[..., Layer]) -> None:
    layer = add(
        tar(("../../up", FILE, "1", 0o644), ("/abs/y", FILE, "2", 0o644), ("a/../../../b", FILE, "3", 0o644)), "/o/p"
    )
    assert layer.content == {"o/p/up": "1", "o/p/abs/y": "2", "o/p/b": "3"}


def test_a_link_in_the_archive_does_not_lead_out_of_the_destination(bench: Bench, add: Callable[..., Layer]) -> None:
    bench.rootfs({"etc/passwd": "root"})
    for target in ("/etc", "../../etc", "/"):
        data = tar(
            ("l", LINK, target, 0o777),
            ("inside/", DIR, "", 0o755),
            ("etc/", DIR, "", 0o755),
            ("l/passwd", FILE, "x", 0o644),
        )
        layer = add(data, "/o/p")
        assert all(name in ("o", "o/p") or name.startswith("o/p/") for name in layer)
        assert set(layer.content) <= {"o/p/etc/passwd", "o/p/passwd"}


def test_a_name_behind_a_dangling_link_is_an_error(add: Callable[..., Layer]) -> None:
    with pytest.raises(ArchiveError, match="behind the symbolic link l"):
        add(tar(("l", LINK, "/etc", 0o777), ("l/inside", FILE, "3", 0o644)))


def test_links_in_a_circle_are_an_error(add: Callable[..., Layer]) -> None:
    with pytest.raises(CopyError, match="too many levels"):
        add(tar(("a", LINK, "b", 0o777), ("b", LINK, "a", 0o777), ("a/f", FILE, "", 0o644)))


@pytest.mark.parametrize("target", ["../../etc/passwd", "/etc/passwd", "missing", "."])
def test_a_hard_link_out_of_the_archive_is_an_error(bench: Bench, add: Callable[..., Layer], target: str) -> None:
    bench.rootfs({"etc/passwd": "root", "o/etc/passwd": "below"})
    with pytest.raises(ArchiveError, match="is a hard link to"):
        add(tar(("h", HARD, target, 0o644)))


def test_hard_links_inside_the_archive_are_kept(add: Callable[..., Layer]) -> None:
    layer = add(
        tar(("f", FILE, "1", 0o600), ("d/h", HARD, "f", 0o600), ("d/l", LINK, "../f", 0o777), ("m", HARD, "d/l", 0o777))
    )
    assert layer.content == {"o/f": "1"}
    assert (layer["o/d/h"].linkname, layer["o/d/l"].linkname, layer["o/m"].linkname) == ("o/f", "../f", "o/d/l")
    assert layer["o/m"].islnk()


def test_the_header_of_a_hard_link_is_the_files_under_all_its_names(add: Callable[..., Layer]) -> None:
    layer = add(tar(("f", FILE, "1", 0o600), ("h", HARD, "f", 0o640), ("l", LINK, "f", 0o777), ("k", HARD, "l", 0o600)))
    assert [layer[name].mode for name in ("o/f", "o/h", "o/l", "o/k")] == [0o640, 0o640, 0o777, 0o777]


def test_members_that_replace_each_other(add: Callable[..., Layer]) -> None:
    layer = add(tar(("a", FILE, "old", 0o644), ("b", HARD, "a", 0o644), ("a", FILE, "newer", 0o600)))
    assert layer.content == {"o/a": "newer", "o/b": "old"}
    layer = add(tar(("a/f", FILE, "1", 0o644), ("a/g/h", FILE, "1", 0o644), ("a", FILE, "2", 0o600)))
    assert layer.content == {"o/a": "2"}
    assert layer.names() == ["o", "o/a"]


def test_unpacking_over_the_image(bench: Bench, add: Callable[..., Layer]) -> None:
    bench.rootfs({"t/dir/x": "1", "t/dlink": "-> dir", "t/file": "1", "t/keep/y": "1"})
    data = tar(
        ("t/", DIR, "", 0o711),
        ("t/dlink/", DIR, "", 0o700),
        ("t/file", DIR, "", 0o755),
        ("t/dir", FILE, "z", 0o644),
        ("t/keep/", DIR, "", 0o700),
    )
    layer = add(data, "/")
    assert {name: layer[name].type for name in layer} == {
        "t": DIR, "t/dlink": DIR, "t/file": DIR, "t/dir": FILE, "t/keep": DIR,
    }  # fmt: skip
    assert (layer["t"].mode, layer.owner("t"), layer["t/keep"].mode) == (0o711, (7, 8), 0o700)


def test_unpacking_through_a_link_of_the_image(bench: Bench, add: Callable[..., Layer]) -> None:
    bench.rootfs({"usr/lib/": None, "lib": "-> usr/lib"})
    assert add(tar(("lib/new.so", FILE, "n", 0o644)), "/").content == {"usr/lib/new.so": "n"}


def test_directory_that_replaces_a_file_that_replaced_a_directory_is_opaque(
    bench: Bench, add: Callable[..., Layer]
) -> None:
    bench.rootfs({"o/d/old": "1"})
    layer = add(tar(("d", FILE, "1", 0o644), ("d/", DIR, "", 0o755), ("d/new", FILE, "2", 0o644)))
    assert layer.names() == ["o", "o/d", "o/d/.wh..wh..opq", "o/d/new"]


def test_devices_and_fifos_are_entries_and_nothing_else(add: Callable[..., Layer]) -> None:
    layer = add(tar(("null", CHAR, (1, 3), 0o666), ("p", FIFO, "", 0o644)))
    assert (layer["o/null"].devmajor, layer["o/null"].devminor, layer["o/p"].isfifo()) == (1, 3, True)


def test_the_device_that_means_deleted_is_refused(add: Callable[..., Layer]) -> None:
    with pytest.raises(ArchiveError, match="0/0"):
        add(tar(("gone", CHAR, (0, 0), 0o666)))


def test_names_that_mean_deleted_are_refused(add: Callable[..., Layer]) -> None:
    with pytest.raises(CopyError, match=r"/o/d/\.wh\.f"):
        add(tar(("d/.wh.f", FILE, "", 0o644)))


def test_attributes_of_members_are_kept_but_overlay_s(add: Callable[..., Layer]) -> None:
    headers = {"SCHILY.xattr.user.a": "1", "SCHILY.xattr.user.overlay.opaque": "y", "SCHILY.xattr.trusted.x": "1"}
    layer = add(tar(("d/", DIR, "", 0o755, {"pax_headers": headers})))
    assert layer["o/d"].pax_headers == {"SCHILY.xattr.user.a": "1"}


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_and_foreign_names(add: Callable[..., Layer], format: int) -> None:  # noqa: A002 - tarfile's own word
    names = ["d/" * 60 + "f", "ü" * 80, "x" * 250]
    layer = add(tar(*((name, FILE, "1", 0o644) for name in names), format=format))
    assert set(layer.content) == {f"o/{name}" for name in names}


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_damaged_archive_is_an_error_that_names_it(add: Callable[..., Layer], compression: str) -> None:
    data = COMPRESSIONS[compression](tar(*((f"f{n}", FILE, os.urandom(3000).hex(), 0o644) for n in range(400))))
    with pytest.raises(ArchiveError, match=r"ADD x\.tar") as caught:
        add(data[: len(data) * 2 // 3])
    assert "COPY" in (caught.value.hint or "")


def test_archive_bomb_is_an_error(add: Callable[..., Layer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builder.copying.archives._FREE_BYTES", 1 << 20)
    with pytest.raises(ArchiveError, match="more than"):
        add(zstandard.ZstdCompressor().compress(tar(("zeros", FILE, "\0" * (64 << 20), 0o644))))


def test_sparse_bomb_is_an_error(add: Callable[..., Layer]) -> None:
    headers = {"GNU.sparse.name": "s", "GNU.sparse.size": str(1 << 50), "GNU.sparse.map": f"{1 << 50},0"}
    huge = {"size": 0, "pax_headers": headers}
    with pytest.raises(ArchiveError, match=r"bomb|more than"):
        add(tar(("s", FILE, "", 0o644, huge)))


def test_archive_that_changes_between_plan_and_write_is_an_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from builder.copying.archives import Archive

    bench.context({"x.tar": tar(("f", FILE, "1" * 5000, 0o644))})
    plan = Archive.plan

    def plan_and_change(self: Archive, *arguments: Any, **options: Any) -> None:
        plan(self, *arguments, **options)
        bench.context({"x.tar": tar(("f", FILE, "2" * 5000, 0o644))})

    monkeypatch.setattr(Archive, "plan", plan_and_change)
    with pytest.raises(ContextChangedError, match=r"x\.tar"):
        bench.add("x.tar", "/o")
