from __future__ import annotations

import contextlib
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import StorageFullError
from images.apply import apply_layer
from images.errors import ImagesError, InvalidLayerError
from images.flatten import unpack_merged, write_merged
from images.tarwriter import TarWriter

Build = Callable[[TarWriter], None]


def layer(build: Build) -> io.BytesIO:
    sink = io.BytesIO()
    writer = TarWriter(sink)
    build(writer)
    writer.close()
    sink.seek(0)
    return sink


@contextlib.contextmanager
def descriptor(path: Path) -> Iterator[int]:
    path.mkdir(exist_ok=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    before = len(os.listdir("/proc/self/fd"))
    try:
        yield fd
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        os.close(fd)


def unpack(root: Path, *builds: Build, overlay: bool = False, **options: bool) -> None:
    with descriptor(root) as fd:
        for build in builds:
            apply_layer(layer(build), fd, overlay=overlay, **options)


def file(writer: TarWriter, name: str, content: bytes = b"", **changes: int) -> None:
    meta = {"mode": 0o644, "uid": 0, "gid": 0, "mtime": 1000} | changes
    writer.file(os.fsencode(name), meta["mode"], meta["uid"], meta["gid"], meta["mtime"], len(content), content)


def directory(writer: TarWriter, name: str, mode: int = 0o755, mtime: int = 1000) -> None:
    writer.directory(os.fsencode(name), mode, 0, 0, mtime)


def tree(root: Path) -> dict[str, object]:
    """What is in a directory, with everything about it that a layer can say."""
    found: dict[str, object] = {}
    inodes: dict[int, str] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        info = path.lstat()
        what: object = info.st_rdev
        if stat.S_ISREG(info.st_mode):
            what = path.read_bytes()
        elif stat.S_ISLNK(info.st_mode):
            what = os.readlink(path)
        elif stat.S_ISDIR(info.st_mode):
            what = "directory"
        same_as = None if stat.S_ISDIR(info.st_mode) else inodes.setdefault(info.st_ino, name)
        xattrs = {
            key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)
        }
        found[name] = (oct(info.st_mode), info.st_uid, info.st_gid, int(info.st_mtime), what, same_as, xattrs)
    return found


@pytest.fixture(autouse=True)
def _root() -> None:
    assert os.geteuid() == 0, "these tests set owners and make devices: run them as root"


def everything(writer: TarWriter) -> None:
    writer.directory(b"", 0o711, 3, 4, 77)
    writer.directory(b"d", 0o2750, 1, 2, 1_500_000_000, {"user.dir": b"1"})
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    xattrs = {"user.key": b"\0v", "security.capability": capability}
    writer.file(b"d/f", 0o6755, 1000, 1001, 1_600_000_000, 3, b"abc", xattrs)
    writer.file(b"d/\xff\n", 0o000, 0, 0, -5, 0, b"")
    writer.symlink(b"d/link", b"/etc/passwd", 7, 8, 99)
    writer.hardlink(b"d/hard", b"d/f", 0o6755, 1000, 1001, 1_600_000_000)
    writer.hardlink(b"d/hard-symlink", b"d/link", 0o777, 7, 8, 99)
    writer.device(b"null", stat.S_IFCHR | 0o666, 0, 5, 1, os.makedev(1, 3))
    writer.device(b"loop", stat.S_IFBLK | 0o660, 0, 6, 1, os.makedev(7, 0))
    writer.device(b"fifo", stat.S_IFIFO | 0o600, 0, 0, 1)


@pytest.mark.parametrize("overlay", [False, True])
def test_everything_a_layer_says_is_done(tmp_path: Path, overlay: bool) -> None:
    root = tmp_path / "root"
    old_umask = os.umask(0o077)
    try:
        unpack(root, everything, overlay=overlay)
    finally:
        os.umask(old_umask)
    info = root.stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, info.st_mtime) == (0o711, 3, 4, 77)
    d = (root / "d").stat()
    assert (stat.S_IMODE(d.st_mode), d.st_uid, d.st_gid, d.st_mtime) == (0o2750, 1, 2, 1_500_000_000)
    f = (root / "d/f").stat()
    assert (stat.S_IMODE(f.st_mode), f.st_uid, f.st_gid, f.st_mtime, f.st_nlink) == (0o6755, 1000, 1001, 1.6e9, 2)
    assert (root / "d/f").read_bytes() == b"abc"
    assert os.getxattr(root / "d/f", "user.key") == b"\0v"
    assert len(os.getxattr(root / "d/f", "security.capability")) == 20
    assert os.getxattr(root / "d", "user.dir") == b"1"
    assert os.lstat(os.fsencode(root) + b"/d/\xff\n").st_mtime == -5
    link = (root / "d/link").lstat()
    assert (os.readlink(root / "d/link"), link.st_uid, link.st_gid, link.st_mtime) == ("/etc/passwd", 7, 8, 99)
    assert (root / "d/hard-symlink").lstat().st_ino == link.st_ino
    assert (root / "null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_ISBLK((root / "loop").stat().st_mode)
    assert (stat.S_IMODE((root / "null").stat().st_mode), (root / "null").stat().st_gid) == (0o666, 5)
    assert stat.S_ISFIFO((root / "fifo").stat().st_mode)


def test_without_owners_and_devices_all_files_are_this_users_own(tmp_path: Path) -> None:
    unpack(tmp_path / "root", everything, owners=False, devices=False)
    f = (tmp_path / "root/d/f").stat()
    assert (stat.S_IMODE(f.st_mode), f.st_uid, f.st_gid) == (0o755, os.geteuid(), os.getegid())
    assert os.listxattr(tmp_path / "root/d/f") == ["user.key"]
    assert not (tmp_path / "root/null").exists()
    assert stat.S_ISFIFO((tmp_path / "root/fifo").stat().st_mode)


# Whiteouts.


def base(writer: TarWriter) -> None:
    for name in ("d", "d/sub", "d/sub/deep", "e"):
        directory(writer, name)
    for name in ("d/a", "d/sub/b", "d/sub/deep/c", "e/x", "top"):
        file(writer, name, name.encode())


def test_whiteouts_remove_what_is_below_in_the_plain_form(tmp_path: Path) -> None:
    def change(writer: TarWriter) -> None:
        writer.whiteout(b"top")
        writer.whiteout(b"d/sub")
        writer.whiteout(b"never/was")
        writer.opaque(b"e")
        file(writer, "e/new")

    unpack(tmp_path / "root", base, change)
    assert sorted(tree(tmp_path / "root")) == ["d", "d/a", "e", "e/new"]


@pytest.mark.parametrize("whiteout_first", [True, False])
def test_whiteout_does_not_remove_entry_from_same_layer(tmp_path: Path, whiteout_first: bool) -> None:
    def change(writer: TarWriter) -> None:
        if whiteout_first:
            writer.whiteout(b"d")
            writer.opaque(b"e")
        directory(writer, "d")
        file(writer, "d/new")
        file(writer, "e/new")
        if not whiteout_first:
            writer.whiteout(b"d")
            writer.opaque(b"e")

    expected = ["d", "d/new", "e", "e/new", "top"]
    unpack(tmp_path / "plain", base, change)
    assert sorted(tree(tmp_path / "plain")) == expected
    with descriptor(tmp_path / "merged") as fd:
        unpack_merged([layer(base), layer(change)], fd)
    assert sorted(tree(tmp_path / "merged")) == expected
    with mounted_overlay(tmp_path, [base, change]) as view:
        assert sorted(tree(view)) == expected


def test_whiteouts_in_the_overlay_form_are_what_overlayfs_wants(tmp_path: Path) -> None:
    def change(writer: TarWriter) -> None:
        directory(writer, "d")
        writer.whiteout(b"d/gone")
        writer.opaque(b"d")
        writer.file(b"d/.wh..wh.plnk", 0, 0, 0, 0, 0, b"")

    unpack(tmp_path / "root", change, overlay=True)
    gone = (tmp_path / "root/d/gone").lstat()
    assert (stat.S_ISCHR(gone.st_mode), gone.st_rdev) == (True, 0)
    assert os.getxattr(tmp_path / "root/d", "user.overlay.opaque") == b"y"
    assert sorted(tree(tmp_path / "root")) == ["d", "d/gone"]


def test_an_implied_directory_takes_its_metadata_from_below(tmp_path: Path) -> None:
    below = tmp_path / "below"
    (below / "a/b").mkdir(parents=True)
    os.chown(below / "a/b", 5, 6)
    (below / "a/b").chmod(0o1777)
    with descriptor(tmp_path / "root") as root, descriptor(below) as below_fd:
        apply_layer(layer(lambda w: file(w, "a/b/c/f")), root, overlay=True, below=below_fd)
    info = (tmp_path / "root/a/b").stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o1777, 5, 6)
    assert stat.S_IMODE((tmp_path / "root/a/b/c").stat().st_mode) == 0o755


@contextlib.contextmanager
def mounted_overlay(folder: Path, builds: list[Build]) -> Iterator[Path]:
    lowers: list[str] = []
    for number, build in enumerate(builds):
        unpack(folder / f"layer{number}", build, overlay=True)
        lowers.insert(0, f"layer{number}")  # relative: mount(8) takes 256 bytes at a time
    (folder / "empty").mkdir(exist_ok=True)
    (folder / "view").mkdir(exist_ok=True)
    options = "userxattr,lowerdir=" + ":".join([*lowers, "empty"])
    subprocess.run(["mount", "-t", "overlay", "-o", options, "none", "view"], cwd=folder, check=True)
    try:
        yield folder / "view"
    finally:
        subprocess.run(["umount", folder / "view"], check=True)


NAMES = ["a", "b", "a/a", "a/b", "b/a", "b/b", "a/a/a", "a/a/b"]
KINDS = ["none", "file", "directory", "symlink", "hardlink", "whiteout", "opaque"]
layer_plans = st.lists(st.tuples(*(st.sampled_from(KINDS) for _ in NAMES)), min_size=1, max_size=4)


def planned(plan: tuple[str, ...], number: int) -> Build:
    """A layer that is consistent in itself: nothing inside what is no directory, all parents named."""

    def build(writer: TarWriter) -> None:
        directories = {""}
        files: list[bytes] = []
        for name, kind in zip(NAMES, plan, strict=True):
            path = name.encode()
            if name.rpartition("/")[0] not in directories or kind == "none":
                continue
            if kind in ("directory", "opaque"):
                directory(writer, name, 0o700 + number, mtime=number)
                directories.add(name)
                if kind == "opaque":
                    writer.opaque(path)
            elif kind == "file" or (kind == "hardlink" and not files):
                file(writer, name, b"%d" % number, mode=0o600 + number)
                files.append(path)
            elif kind == "hardlink":
                writer.hardlink(path, files[-1], 0o600 + number, 0, 0, 1000)
            elif kind == "symlink":
                writer.symlink(path, b"dangling", 0, 0, number)
            else:
                writer.whiteout(path)

    return build


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layer_plans)
def test_all_ways_of_applying_layers_agree_with_the_kernel(
    tmp_path_factory: pytest.TempPathFactory, plans: list[tuple[str, ...]]
) -> None:
    folder = tmp_path_factory.mktemp("agree")
    builds = [planned(plan, number) for number, plan in enumerate(plans)]
    unpack(folder / "plain", *builds)
    with descriptor(folder / "merged") as fd:
        unpack_merged([layer(build) for build in builds], fd)
    sink = io.BytesIO()
    writer = TarWriter(sink)
    write_merged([layer(build) for build in builds], writer)
    writer.close()
    sink.seek(0)
    with descriptor(folder / "flat") as fd:
        apply_layer(sink, fd, overlay=False)
    with mounted_overlay(folder, builds) as view:
        expected = tree(view)
    assert tree(folder / "plain") == expected
    assert tree(folder / "merged") == expected
    assert tree(folder / "flat") == expected


# Hostile layers.


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory beside the root that nothing may touch."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "secret").write_text("secret")
    before = tree(path)
    yield path
    assert tree(path) == before


@pytest.mark.parametrize("overlay", [False, True])
@pytest.mark.parametrize("name", ["../outside/new", "a/../../outside/new", "..", "a/../.."])
def test_names_that_climb_out_are_refused(tmp_path: Path, outside: Path, name: str, overlay: bool) -> None:
    with pytest.raises(InvalidLayerError, match="leads outside"):
        unpack(tmp_path / "root", lambda w: file(w, name), overlay=overlay)


def test_absolute_names_and_inner_dots_count_from_the_root(tmp_path: Path) -> None:
    unpack(tmp_path / "root", lambda w: file(w, "/abs/./x/../f"), lambda w: file(w, "./b//c"))
    assert sorted(tree(tmp_path / "root")) == ["abs", "abs/f", "b", "b/c"]


@pytest.mark.parametrize("overlay", [False, True])
@pytest.mark.parametrize("target", ["/", "../outside", "../../../../../../..", "{outside}"])
def test_a_symlink_among_the_parents_is_followed_inside_the_root_only(
    tmp_path: Path, outside: Path, target: str, overlay: bool
) -> None:
    def build(writer: TarWriter) -> None:
        writer.symlink(b"link", os.fsencode(target.format(outside=outside)), 0, 0, 0)
        directory(writer, "outside")
        directory(writer, str(outside)[1:])
        file(writer, "link/planted")

    unpack(tmp_path / "root", build, overlay=overlay)
    planted = [name for name in tree(tmp_path / "root") if name.endswith("planted")]
    assert len(planted) == 1
    assert not planted[0].startswith("link")


@pytest.mark.parametrize("overlay", [False, True])
def test_a_file_is_not_written_through_a_symlink_or_a_hard_link(tmp_path: Path, outside: Path, overlay: bool) -> None:
    def build(writer: TarWriter) -> None:
        writer.symlink(b"link", os.fsencode(outside / "secret"), 0, 0, 0)
        file(writer, "link", b"mine")
        file(writer, "first", b"1")
        writer.hardlink(b"second", b"first", 0o644, 0, 0, 0)
        file(writer, "second", b"2")

    unpack(tmp_path / "root", build, overlay=overlay)
    root = tmp_path / "root"
    assert [(root / name).read_bytes() for name in ("link", "first", "second")] == [b"mine", b"1", b"2"]


@pytest.mark.parametrize("target", ["../outside/secret", "{outside}/secret", "nowhere", "link/secret", "self", "dir"])
def test_a_hard_link_reaches_nothing_outside_and_no_directory(tmp_path: Path, outside: Path, target: str) -> None:
    def build(writer: TarWriter) -> None:
        directory(writer, "dir")
        writer.symlink(b"link", os.fsencode(outside), 0, 0, 0)
        writer.hardlink(b"self", os.fsencode(target.format(outside=outside)), 0o644, 0, 0, 0)

    with pytest.raises(ImagesError):
        unpack(tmp_path / "root", build)
    with descriptor(tmp_path / "merged") as fd, pytest.raises(InvalidLayerError):
        unpack_merged([layer(build)], fd)


@pytest.mark.parametrize("overlay", [False, True])
@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh..", "d/.wh..."])
def test_a_whiteout_of_the_directory_itself_or_its_parent_is_refused(
    tmp_path: Path, outside: Path, name: str, overlay: bool
) -> None:
    root = tmp_path / "root"
    if not overlay:
        unpack(root, base)
    with pytest.raises(InvalidLayerError, match="whiteout"):
        unpack(root, lambda w: file(w, name), overlay=overlay)
    with pytest.raises(InvalidLayerError, match="whiteout"):
        write_merged([layer(base), layer(lambda w: file(w, name))], TarWriter(io.BytesIO()))


def test_a_whiteout_behind_a_symlink_removes_nothing_outside(tmp_path: Path, outside: Path) -> None:
    unpack(tmp_path / "root", lambda w: w.symlink(b"link", os.fsencode(outside), 0, 0, 0))
    unpack(tmp_path / "root", lambda w: w.whiteout(b"link/secret"), lambda w: w.opaque(b"link"))
    unpack(tmp_path / "root", lambda w: w.whiteout(b"link"))
    assert tree(tmp_path / "root") == {}


@pytest.mark.parametrize("overlay", [False, True])
def test_overlayfs_attributes_and_whiteout_devices_are_not_taken_from_a_tar(tmp_path: Path, overlay: bool) -> None:
    bad = {
        "user.overlay.redirect": b"/etc",
        "user.overlay.opaque": b"y",
        "trusted.overlay.metacopy": b"",
        "system.x": b"",
    }

    def build(writer: TarWriter) -> None:
        writer.directory(b"d", 0o755, 0, 0, 0, bad)
        writer.file(b"f", 0o644, 0, 0, 0, 0, b"", bad)
        writer.device(b"w", stat.S_IFCHR, 0, 0, 0, 0)

    unpack(tmp_path / "root", build, overlay=overlay)
    assert sorted(tree(tmp_path / "root")) == ["d", "f"]
    assert os.listxattr(tmp_path / "root/d") == os.listxattr(tmp_path / "root/f") == []


def test_entries_replace_each_other_whatever_they_are(tmp_path: Path) -> None:
    makers: list[Build] = [
        lambda w: file(w, "x", b"file"),
        lambda w: directory(w, "x"),
        lambda w: file(w, "x/inside/deep"),
        lambda w: w.symlink(b"x", b"d", 0, 0, 0),
        lambda w: w.hardlink(b"x", b"d/a", 0o644, 0, 0, 0),
        lambda w: w.device(b"x", stat.S_IFIFO, 0, 0, 0),
    ]
    for i, first in enumerate(makers):
        for j, second in enumerate(makers):
            if j == 2 and i not in (1, 2):
                continue  # inside what is no directory: refused, or inside the link's target
            root = tmp_path / f"{i}-{j}"
            unpack(root, base, first, second)
            alone = tmp_path / f"{j}"
            if not alone.exists():
                unpack(alone, base, second)
            found, expected = tree(root), tree(alone)
            if (i, j) == (2, 1):  # a directory leaves what is in it
                assert [found.pop(name) for name in ("x/inside", "x/inside/deep")]
            if j == 2:  # no entries for the directories, so no times
                for name in ("x", "x/inside"):
                    assert found.pop(name)
                    assert expected.pop(name)
            assert found == expected


def test_a_later_duplicate_wins_and_directories_keep_the_last_metadata(tmp_path: Path) -> None:
    def build(writer: TarWriter) -> None:
        file(writer, "d/f", b"1")
        directory(writer, "d", 0o700, mtime=5)
        file(writer, "d/f", b"2")
        directory(writer, "d", 0o711, mtime=6)

    unpack(tmp_path / "root", build)
    info = (tmp_path / "root/d").stat()
    assert (stat.S_IMODE(info.st_mode), info.st_mtime) == (0o711, 6)
    assert (tmp_path / "root/d/f").read_bytes() == b"2"


def test_a_file_among_the_parents_is_an_error(tmp_path: Path) -> None:
    def build(writer: TarWriter) -> None:
        file(writer, "f")
        file(writer, "f/inside")

    with pytest.raises(InvalidLayerError, match="'f/inside'"):
        unpack(tmp_path / "root", build)
    with pytest.raises(InvalidLayerError, match="no directory"):
        write_merged([layer(build)], TarWriter(io.BytesIO()))


def test_symlink_loops_are_an_error(tmp_path: Path) -> None:
    def build(writer: TarWriter) -> None:
        writer.symlink(b"a", b"b", 0, 0, 0)
        writer.symlink(b"b", b"a", 0, 0, 0)
        file(writer, "a/f")

    with pytest.raises(InvalidLayerError):
        unpack(tmp_path / "root", build)
    with pytest.raises(InvalidLayerError):
        write_merged([layer(build)], TarWriter(io.BytesIO()))


def test_names_longer_than_the_kernel_takes_are_an_error(tmp_path: Path) -> None:
    for name in ("n" * 300, "d/" * 3000 + "f"):
        with pytest.raises(InvalidLayerError, match=r"too long|6001 bytes"):
            unpack(tmp_path / "root", lambda w, name=name: file(w, name))  # type: ignore[misc]


def test_very_deep_trees_are_made_and_removed(tmp_path: Path) -> None:
    deep = "d/" * 1500
    unpack(tmp_path / "root", lambda w: file(w, deep + "f"))
    unpack(tmp_path / "root", lambda w: w.whiteout(b"d"))
    assert list((tmp_path / "root").iterdir()) == []
    write_merged([layer(lambda w: file(w, deep + "f")), layer(lambda w: w.opaque(b"d"))], TarWriter(io.BytesIO()))


def test_a_sparse_file_takes_no_room_for_its_holes(tmp_path: Path) -> None:
    source = tmp_path / "sparse"
    with source.open("wb") as out:
        out.seek(1 << 40)
        out.write(b"end")
    for kind in ("--format=gnu", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"):
        options = ["--format=pax", kind] if kind.startswith("--sparse") else [kind]
        command = ["tar", "--create", "--sparse", *options, "-C", str(tmp_path), "sparse"]
        data = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        root = tmp_path / kind
        with descriptor(root) as fd:
            apply_layer(io.BytesIO(data), fd, overlay=False)
        info = (root / "sparse").stat()
        assert info.st_size == (1 << 40) + 3
        assert info.st_blocks < 100
        with (root / "sparse").open("rb") as made:
            made.seek(1 << 40)
            assert made.read() == b"end"


def test_a_full_disk_is_reported_as_such(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], check=True)
    try:
        with pytest.raises(StorageFullError):
            unpack(small, lambda w: file(w, "f", bytes(2_000_000)))
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize("cut", [100, 512, 700, 1100])
def test_a_truncated_layer_is_an_error(tmp_path: Path, cut: int) -> None:
    data = layer(lambda w: file(w, "f", bytes(1000))).getvalue()
    if cut == 512:
        data, cut = data[:512], 512
    with descriptor(tmp_path / "root") as fd, pytest.raises(InvalidLayerError, match="ends in the middle"):
        apply_layer(io.BytesIO(data[:cut]), fd, overlay=False)


def test_a_merged_tar_reads_the_same_as_the_layers(tmp_path: Path) -> None:
    def change(writer: TarWriter) -> None:
        writer.symlink(b"usr-merged", b"d/sub", 0, 0, 0)
        file(writer, "usr-merged/through", b"link")
        writer.hardlink(b"zz", b"d/a", 0o644, 0, 0, 1000)
        writer.whiteout(b"d/a")

    sink = io.BytesIO()
    writer = TarWriter(sink)
    write_merged([layer(base), layer(change)], writer)
    writer.close()
    sink.seek(0)
    with tarfile.open(fileobj=sink) as archive:
        names = archive.getnames()
        moved = archive.getmember("zz")
        content = archive.extractfile(moved)
        assert content is not None
        assert (moved.isreg(), content.read()) == (True, b"d/a")
    assert names == [
        "d",
        "d/sub",
        "d/sub/b",
        "d/sub/deep",
        "d/sub/deep/c",
        "d/sub/through",
        "e",
        "e/x",
        "top",
        "usr-merged",
        "zz",
    ]
