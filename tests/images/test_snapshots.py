"""Snapshots: what lowers() gives, mounted the way containers does it, is the filesystem that the layers mean."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.digests import DiffID
from core.rootfs import DirectoryLayer, ErofsLayer, RootLayer
from images import erofs
from images.erofs import Indexer
from images.errors import InvalidLayerError, MissingBlobError
from images.records import CacheRecord
from images.store import Store

pytestmark = pytest.mark.usefixtures("privileged")

KINDS = {"f": tarfile.REGTYPE, "d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE, "h": tarfile.LNKTYPE, "c": tarfile.CHRTYPE}


def entry(name: str, kind: str = "f", data: bytes = b"", **members: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mtime = KINDS[kind], len(data), 1_700_000_000
    info.mode = {"d": 0o755, "l": 0o777}.get(kind, 0o644)
    for key, value in members.items():
        setattr(info, key, value)
    return info, data


def layer(store: Store, *entries: tuple[tarfile.TarInfo, bytes]) -> DiffID:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    with store.layers.writer() as writer:
        writer.write(made.getvalue())
        return writer.commit()


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


@contextlib.contextmanager
def mounted(lowers: tuple[RootLayer, ...], tmp: Path) -> Iterator[Path]:
    """The layers below a new upper directory, as an overlay with ``userxattr``."""
    place = Path(tempfile.mkdtemp(dir=tmp))
    with contextlib.ExitStack() as stack:
        stack.callback(os.chdir, os.getcwd())
        os.chdir(place)  # the options of a mount must fit a page: short names
        for number, lower in enumerate(lowers):
            if isinstance(lower, DirectoryLayer):
                os.symlink(lower.path, str(number))
                continue
            os.mkdir(str(number))
            mount("-t", "erofs", "-o", f"ro,device={lower.device}", lower.image, str(number))
            stack.callback(subprocess.run, ["umount", str(place / str(number))], check=True)
        for name in ("upper", "work", "merged"):
            os.mkdir(name)
        names = ":".join(str(number) for number in reversed(range(len(lowers))))
        mount("-t", "overlay", "overlay", "-o", f"lowerdir={names},upperdir=upper,workdir=work,userxattr", "merged")
        stack.callback(subprocess.run, ["umount", str(place / "merged")], check=True)
        yield place / "merged"


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything that a container could see, except the times of directories and link counts of directories."""
    seen: dict[str, tuple[object, ...]] = {}
    for directory, names, files in os.walk(root):
        for name in [*names, *files]:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            link = os.readlink(path) if os.path.islink(path) else ""
            is_file = os.path.isfile(path) and not link
            content = Path(path).read_bytes() if is_file else b""
            xattrs = {
                key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)
            }
            xattrs = {key: value for key, value in xattrs.items() if ".overlay." not in key}
            seen[os.path.relpath(path, root)] = (
                oct(status.st_mode),
                status.st_uid,
                status.st_gid,
                status.st_nlink if is_file else 0,
                int(status.st_mtime) if is_file else 0,
                status.st_rdev,
                link,
                content,
                tuple(sorted(xattrs.items())),
            )
    return seen


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "root") as store:
        yield store


@pytest.fixture(params=["erofs", "unpacked"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to derive a snapshot; the second is what a host without erofs-utils gets."""
    if request.param == "unpacked":
        monkeypatch.setattr("images.erofs._MKFS", "mkfs.erofs-is-not-installed")
    return str(request.param)


def kind_of(way: str) -> type[RootLayer]:
    return ErofsLayer if way == "erofs" else DirectoryLayer


def test_a_layer_has_the_files_that_gnu_tar_extracts(store: Store, tmp_path: Path, way: str) -> None:
    capability = "\x01\x00\x00\x02\x00\x04" + "\x00" * 14
    diff_id = layer(
        store,
        entry("./", "d", mode=0o755),
        entry("d/", "d", mode=0o1777, uid=5, gid=6),
        entry("d/suid", data=b"s", mode=0o4755, uid=70_000, gid=3_000_000),
        entry("link", "l", linkname="/d/suid"),
        entry("one", data=b"linked", uid=2**31 + 5, gid=2**32 - 2),
        entry("two", "h", linkname="one"),
        entry("n" * 120, "d"),
        entry("n" * 120 + "/" + "m" * 200, data=b"long"),
        entry("ünïcödé", data=b"u"),
        entry("long-link", "l", linkname="t" * 300),
        entry("cap", data=b"#!", mode=0o755, pax_headers={"SCHILY.xattr.security.capability": capability}),
        entry("xattr", "d", pax_headers={"SCHILY.xattr.user.key": "value"}),
        entry("null", "c", devmajor=1, devminor=3),
        entry("before-1970", mtime=-5),
        entry("big", data=os.urandom(3_000_001)),
    )
    expected = tmp_path / "expected"
    expected.mkdir()
    command = ["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-p", "-C", str(expected), "-xf"]
    subprocess.run([*command, str(store.layers.path(diff_id))], check=True, stderr=subprocess.DEVNULL)
    lowers = store.snapshots.lowers([diff_id])
    assert [type(lower) for lower in lowers] == [kind_of(way)]
    with mounted(lowers, tmp_path) as root:
        assert tree(root) == tree(expected)


@pytest.mark.parametrize("sparse", ["0.0", "0.1", "1.0", "gnu"])
def test_sparse_files_are_whole(store: Store, tmp_path: Path, sparse: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        file.truncate(3_000_000)
        file.seek(1_000_000)
        file.write(b"island")
    form = ["--format=gnu"] if sparse == "gnu" else ["--format=posix", f"--sparse-version={sparse}"]
    subprocess.run(["tar", "-C", str(source), "--sparse", *form, "-cf", str(tmp_path / "tar"), "."], check=True)
    with (tmp_path / "tar").open("rb") as tar:
        diff_id = store.layers.import_compressed(tar)
    with mounted(store.snapshots.lowers([diff_id]), tmp_path) as root:
        assert (root / "sparse").read_bytes() == (source / "sparse").read_bytes()
        assert os.listdir(root) == ["sparse"]


def test_whiteouts_and_opaque_directories_hide_what_is_below_and_nothing_else(
    store: Store, tmp_path: Path, way: str
) -> None:
    base = layer(
        store,
        entry("gone", data=b"1"),
        entry("dir", "d"),
        entry("dir/old", data=b"1"),
        entry("dir/sub", "d"),
        entry("dir/sub/old", data=b"1"),
        entry("stays", data=b"1"),
        entry("whole", "d"),
        entry("whole/x", data=b"1"),
        entry("refilled", "d"),
        entry("refilled/old", data=b"1"),
    )
    top = layer(
        store,
        entry(".wh.gone"),
        entry(".wh.never-was"),
        entry("dir", "d"),
        entry("dir/.wh..wh..opq"),
        entry("dir/new", data=b"2"),
        entry(".wh.whole"),
        entry("fresh", "d"),
        entry("fresh/.wh.nothing"),
        entry("fresh/file", data=b"2"),
        entry("refilled", "d"),
        entry("refilled/.wh.old"),
    )
    with mounted(store.snapshots.lowers([base, top]), tmp_path) as root:
        assert sorted(tree(root)) == ["dir", "dir/new", "fresh", "fresh/file", "refilled", "stays"]
        assert os.listdir(root / "fresh") == ["file"]  # not even the name of a whiteout of nothing
        subprocess.run(["rm", "-r", str(root / "dir"), str(root / "fresh"), str(root / "refilled")], check=True)
        assert sorted(tree(root)) == ["stays"]


def test_a_whiteout_does_not_remove_the_entry_of_its_own_layer(store: Store, tmp_path: Path, way: str) -> None:
    base = layer(store, entry("d", "d"), entry("d/old", data=b"1"), entry("f", data=b"1"))
    top = layer(store, entry("f", data=b"2"), entry(".wh.f"), entry(".wh.d"), entry("d/new", data=b"2"))
    with mounted(store.snapshots.lowers([base, top]), tmp_path) as root:
        assert (root / "f").read_bytes() == b"2"
        assert os.listdir(root / "d") == ["new"]


def test_directories_that_a_layer_only_implies_look_as_below(store: Store, tmp_path: Path, way: str) -> None:
    base = layer(
        store, entry("tmp", "d", mode=0o1777), entry("home", "d"), entry("home/me", "d", mode=0o700, uid=7, gid=8)
    )
    other = layer(store, entry("tmp", "d", mode=0o711))
    nothing = layer(store, entry(".wh.tmp"))
    top = layer(store, entry("tmp/file"), entry("home/me/.cache/file"), entry("fresh/file"))

    def modes(*diff_ids: DiffID) -> dict[str, tuple[int, int, int]]:
        with mounted(store.snapshots.lowers(diff_ids), tmp_path) as root:
            found = {name: (root / name).stat() for name in ("tmp", "home/me", "home/me/.cache", "fresh")}
        return {name: (status.st_mode & 0o7777, status.st_uid, status.st_gid) for name, status in found.items()}

    plain = (0o755, 0, 0)
    assert modes(base, top) == {
        "tmp": (0o1777, 0, 0),
        "home/me": (0o700, 7, 8),
        "home/me/.cache": plain,
        "fresh": plain,
    }
    assert modes(base, other, top)["tmp"] == (0o711, 0, 0)
    assert modes(base, nothing, top)["tmp"] == plain
    assert modes(top)["tmp"] == plain
    assert store.snapshots.lowers([base, top]) == store.snapshots.lowers([base, top])


def test_implied_directory_in_one_with_attributes_looks_as_below_and_needs_no_unpacking(store: Store) -> None:
    """In the index, the entries of a directory stand behind its attributes."""
    base = layer(store, entry("d", "d"), entry("d/private", "d", mode=0o700, uid=7, gid=8))
    top = layer(store, entry("d", "d", pax_headers={"SCHILY.xattr.user.key": "value"}), entry("d/private/file"))
    lower = store.snapshots.lowers([base, top])[-1]
    assert isinstance(lower, ErofsLayer)
    with mounted((lower,), Path(store.tmp)) as root:
        status = (root / "d" / "private").stat()
        assert os.getxattr(root / "d", "user.key") == b"value"
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o700, 7, 8)


def test_a_device_that_poses_as_a_whiteout_hides_nothing(store: Store, tmp_path: Path) -> None:
    base = layer(store, entry("file", data=b"1"))
    top = layer(store, entry("file", "c", devmajor=0, devminor=0), entry("x"))
    with mounted(store.snapshots.lowers([base, top]), tmp_path) as root:
        assert sorted(tree(root)) == ["file", "x"]


def test_overlays_own_attributes_are_not_taken_from_a_layer(store: Store, tmp_path: Path, way: str) -> None:
    base = layer(store, entry("d", "d"), entry("d/file", data=b"1"))
    top = layer(store, entry("d", "d", pax_headers={"SCHILY.xattr.user.overlay.opaque": "y"}))
    with mounted(store.snapshots.lowers([base, top]), tmp_path) as root:
        assert os.listdir(root / "d") == ["file"]


def test_layers_without_entries_are_skipped_and_missing_ones_are_named(store: Store) -> None:
    empty = layer(store)
    full = layer(store, entry("x"))
    assert store.snapshots.lowers([]) == ()
    assert store.snapshots.lowers([empty]) == ()
    assert len(store.snapshots.lowers([empty, full, empty])) == 1
    absent = DiffID.of(b"absent")
    with pytest.raises(MissingBlobError, match=absent):
        store.snapshots.lowers([full, absent])


@pytest.mark.parametrize("content", [b"no tar, no tar" * 1000, b"\x80" * 512])
def test_what_is_no_tar_is_an_error_of_ours_and_leaves_nothing(store: Store, content: bytes) -> None:
    with store.layers.writer() as writer:
        writer.write(content)
        diff_id = writer.commit()
    with pytest.raises(InvalidLayerError):
        store.snapshots.lowers([diff_id])
    assert [name for name in os.listdir(store.root / "snapshots") if name != ".locks"] == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "etc/../../../etc/passwd", "etc//../../passwd"])
def test_a_layer_that_leads_outside_is_refused(store: Store, name: str, way: str) -> None:
    diff_id = layer(store, entry(name, data=b"x"))
    with pytest.raises(InvalidLayerError, match="outside"):
        store.snapshots.lowers([diff_id])


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("user." + "n" * 300, "v", "its name has 305 bytes, at most 255 are possible"),
        ("user.large", "v" * 70_000, "its value of 70000 bytes is more than the file system takes"),
    ],
)
@pytest.mark.usefixtures("way")
def test_attribute_that_no_file_system_takes_is_named_with_its_layer(
    store: Store, name: str, value: str, reason: str
) -> None:
    diff_id = layer(store, entry("d/f", data=b"1", pax_headers={f"SCHILY.xattr.{name}": value}))
    with pytest.raises(InvalidLayerError) as caught:
        store.snapshots.lowers([diff_id])
    assert caught.value.message.startswith(f"layer {diff_id}: 'd/f' has an extended attribute '{name[:100]}")
    assert caught.value.message.endswith(reason)


def test_threads_and_processes_asking_together_get_one_snapshot(store: Store) -> None:
    diff_id = layer(store, *(entry(f"f{number}", data=b"x") for number in range(300)))
    code = "import sys; from pathlib import Path; from images.store import Store; from core.digests import DiffID\n"
    code += "with Store.open(Path(sys.argv[1])) as s: s.snapshots.lowers([DiffID(sys.argv[2])])"
    others = [subprocess.Popen([sys.executable, "-c", code, str(store.root), diff_id]) for _ in range(3)]
    found: list[tuple[RootLayer, ...]] = []
    threads = [threading.Thread(target=lambda: found.append(store.snapshots.lowers([diff_id]))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in others] == [0, 0, 0]
    assert len(found) == 6
    assert len(set(found)) == 1
    assert len([name for name in os.listdir(store.root / "snapshots") if name != ".locks"]) == 1


def test_an_adopted_upper_is_the_snapshot_until_a_reboot(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        diff_id = layer(store, entry("made", data=b"by a step"))
        upper = store.snapshots.new_upper()
        assert os.listdir(upper.path) in (["fs", "work"], ["work", "fs"])
        Path(upper.path, "fs", "made").write_bytes(b"by a step")
        store.snapshots.adopt(upper, diff_id, ())
        assert store.snapshots.lowers([diff_id]) == (DirectoryLayer(f"{upper.path}/fs"),)
    with Store.open(tmp_path) as store:
        assert store.snapshots.lowers([diff_id]) == (DirectoryLayer(f"{upper.path}/fs"),)
        with store.database.transaction() as connection:
            connection.execute("UPDATE meta SET value = 'another boot' WHERE key = 'boot_id'")
    with Store.open(tmp_path) as store:
        assert not os.path.exists(upper.path)
        assert store.snapshots.lowers([diff_id])


def test_a_second_upper_of_the_same_layer_stays_for_its_session_only(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        diff_id = layer(store, entry("made"))
        uppers = [store.snapshots.new_upper() for _ in range(2)]
        for upper in uppers:
            Path(upper.path, "fs", "made").touch()
            store.snapshots.adopt(upper, diff_id, ())
        discarded = store.snapshots.new_upper()
        store.snapshots.discard(discarded)
        assert not os.path.exists(discarded.path)
        assert store.snapshots.lowers([diff_id]) == (DirectoryLayer(f"{uppers[0].path}/fs"),)
        assert os.path.exists(f"{uppers[1].path}/fs/made")
    assert os.path.exists(f"{uppers[0].path}/fs/made")
    assert not os.path.exists(uppers[1].path)


@pytest.mark.parametrize("pruned", [True, False])
@pytest.mark.parametrize("works", [True, False])
def test_prune_lets_go_what_a_step_wrote_where_its_layer_can_be_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works: bool, pruned: bool
) -> None:
    """Not what a living session has; and where layers are unpacked anyway, nothing would be won."""
    if not works:
        monkeypatch.setattr(erofs, "works", lambda path: False)
    with Store.open(tmp_path) as store, Store.open(tmp_path) as cleaner:
        diff_id = layer(store, entry("made", data=b"by a step"))
        upper = store.snapshots.new_upper()
        Path(upper.path, "fs", "made").write_bytes(b"by a step")
        store.snapshots.adopt(upper, diff_id, ())
        store.cache.put(CacheRecord("key", "op", diff_id, 1.0, 0.5, "RUN make"))
        cleaner.images.prune()
        assert cleaner.remove_uppers(before=time.time() + 1) == 0
        assert os.path.exists(f"{upper.path}/fs/made")
    with Store.open(tmp_path) as store:
        assert store.remove_uppers(before=time.time() - 3600) == 0
        if pruned:
            store.images.prune()
        else:
            assert (store.remove_uppers(before=time.time() + 1) > 0) is works
        assert os.path.exists(upper.path) is not works
        (lower,) = store.snapshots.lowers([diff_id])
        assert isinstance(lower, ErofsLayer if works else DirectoryLayer)


def test_an_upper_without_changes_is_no_layer_to_mount(store: Store) -> None:
    diff_id = layer(store)
    store.snapshots.adopt(store.snapshots.new_upper(), diff_id, ())
    assert store.snapshots.lowers([diff_id]) == ()


def test_a_snapshot_removed_by_hand_is_made_again(store: Store) -> None:
    diff_id = layer(store, entry("x"))
    (found,) = store.snapshots.lowers([diff_id])
    assert isinstance(found, ErofsLayer)
    directory = Path(found.image).parent
    subprocess.run(["rm", "-r", str(directory)], check=True)
    (again,) = store.snapshots.lowers([diff_id])
    assert isinstance(again, ErofsLayer)
    assert os.path.exists(again.image)


def test_what_was_found_once_is_not_looked_up_again(store: Store) -> None:
    """Each step asks for all layers below it."""
    diff_ids = [layer(store, entry("x")), layer(store), layer(store, entry("y"))]
    found = store.snapshots.lowers(diff_ids)
    asked: list[str] = []
    store.database._connection.set_trace_callback(asked.append)
    assert store.snapshots.lowers(diff_ids) == found
    assert asked == []


def test_more_than_a_hundred_layers_are_given_as_few_and_mean_the_same(store: Store, tmp_path: Path) -> None:
    diff_ids = [layer(store, entry("counter", data=b"0"), entry("f0"))]
    diff_ids += [
        layer(store, entry("counter", data=b"%d" % number), entry(f"f{number}"), entry(f".wh.f{number - 1}"))
        for number in range(1, 150)
    ]
    assert len(store.snapshots.lowers(diff_ids[:100])) == 100
    lowers = store.snapshots.lowers(diff_ids[:101])
    assert len(lowers) == 52
    with mounted(lowers, tmp_path) as root:
        assert {path.name: path.read_bytes() for path in root.iterdir()} == {"counter": b"100", "f100": b""}
    assert len(store.snapshots.lowers(diff_ids)) <= 100
    assert store.snapshots.lowers(diff_ids[:120])[0] == lowers[0]  # the same flattened prefix serves a longer chain


def test_prune_drops_unused_snapshots_and_those_in_use_stay(tmp_path: Path) -> None:
    with Store.open(tmp_path) as maker:
        diff_ids = [layer(maker, entry(f"f{number}")) for number in range(102)]
        (used,) = maker.snapshots.lowers(diff_ids[:1])
        maker.snapshots.lowers(diff_ids)
        assert isinstance(used, ErofsLayer)
        there = sorted(os.listdir(tmp_path / "snapshots"))
        with Store.open(tmp_path) as cleaner:
            cleaner.images.prune(cache=True, all_unused=True)
            assert os.path.exists(used.image)
            assert sorted(os.listdir(tmp_path / "snapshots")) == there, "the flattened one, too, is in use"
            assert len(maker.snapshots.lowers(diff_ids)) == 53
    with Store.open(tmp_path) as cleaner:
        cleaner.images.prune()
    assert os.listdir(tmp_path / "snapshots") == [".locks"]
    assert os.listdir(tmp_path / "blobs" / "sha256") == []


def test_the_debian_base_is_what_gnu_tar_makes_of_it(store: Store, tmp_path: Path, debian_tar: Path) -> None:
    with debian_tar.open("rb") as file:
        diff_id = store.layers.import_compressed(file, sync=False)
    lowers = store.snapshots.lowers([diff_id])
    assert [type(lower) for lower in lowers] == [ErofsLayer]
    expected = tmp_path / "expected"
    expected.mkdir()
    subprocess.run(["tar", "--numeric-owner", "-p", "-C", str(expected), "-xf", str(debian_tar)], check=True)
    with mounted(lowers, tmp_path) as root:
        assert tree(root) == tree(expected)


_BROKEN = {
    "no permission": (b"#!/bin/sh\n", 0o600),
    "a directory": (None, 0o755),
    "no program": (b"\0\0\0\0", 0o755),
    "an interpreter that is missing": (b"#!/lib/ld-musl-nowhere.so.1\n", 0o755),
    "a loader's refusal": (b"#!/bin/sh\necho 'libz.so.9: cannot open shared object file' >&2; exit 127\n", 0o755),
    "another processor's": (b"#!/bin/sh\nkill -ILL $$\n", 0o755),
}


@pytest.mark.parametrize("kind", _BROKEN)
def test_mkfs_erofs_that_does_not_start_is_told_once_and_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    content, mode = _BROKEN[kind]
    program = tmp_path / "bin" / "mkfs.erofs"
    program.parent.mkdir()
    if content is None:
        program.mkdir()
    else:
        program.write_bytes(content)
    program.chmod(mode)
    monkeypatch.setattr("images.erofs._MKFS", str(program))
    monkeypatch.setattr("images.erofs._told", set())
    for root in ("one", "two"):
        with Store.open(tmp_path / root) as store:
            diff_ids = [layer(store, entry("./", "d", mode=0o755), entry(name)) for name in ("a", "b")]
            lowers = store.snapshots.lowers(diff_ids)
            assert [type(lower) for lower in lowers] == [DirectoryLayer] * 2
            with mounted(lowers, tmp_path) as merged:
                assert sorted(tree(merged)) == ["a", "b"]
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "mkfs.erofs cannot be executed" in said


def test_no_file_for_mkfs_erofs_s_messages_is_no_fault_of_the_program(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Indexer(str(tmp_path / "layer.tar"), str(tmp_path / "nowhere" / "index"))
