"""The uppers of these tests are written by the kernel's overlayfs, mounted as ``containers`` mounts it."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import socket
import struct
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from images.diff import DiffSummary, write_upper
from images.errors import LayerSourceError
from images.tarwriter import TarWriter
from tests.toolkit.overlays import OverlayStep

CAPABILITY = struct.pack("<5I", 0x02000001, 0x2000, 0, 0, 0)  # cap_net_raw+ep, revision 2


class Step(OverlayStep):
    """A step whose upper directory is written as a layer."""

    def diff(self, *, lower: bool = True) -> tuple[DiffSummary, dict[str, tarfile.TarInfo]]:
        summary, data = self.tar(lower=lower)
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            members = archive.getmembers()
        assert len({member.name for member in members}) == len(members) == summary.entries
        return summary, {member.name: member for member in members}

    def tar(self, *, lower: bool = True) -> tuple[DiffSummary, bytes]:
        sink = io.BytesIO()
        writer = TarWriter(sink)
        with directory_fd(self.lower) as fd:
            descriptors = len(os.listdir("/proc/self/fd"))
            summary = write_upper(str(self.upper), lambda: fd if lower else None, writer)
            assert len(os.listdir("/proc/self/fd")) == descriptors
        writer.close()
        return summary, sink.getvalue()


@contextlib.contextmanager
def directory_fd(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.fixture
def step() -> Iterator[Step]:
    # Not tmp_path: nobody but root may enter that, and the container's root is nobody here.
    with tempfile.TemporaryDirectory(prefix="shiplap-test-") as folder:
        os.chmod(folder, 0o755)
        yield Step(Path(folder))


def names(step: Step) -> list[str]:
    return list(step.diff()[1])


def test_nothing_changed_is_no_entry(step: Step) -> None:
    (step.lower / "f").write_text("f")
    step.run(lambda: None)
    assert step.diff() == (DiffSummary(0), {})


def test_the_view_below_is_asked_for_only_by_directories_and_deletions(step: Step) -> None:
    def write(path: str) -> int:
        asked = []
        step.run(lambda: Path(path).touch())
        write_upper(str(step.upper), lambda: asked.append(path), TarWriter(io.BytesIO()))
        return len(asked)

    (step.lower / "a/b").mkdir(parents=True)
    assert write("top") == 0
    assert write("a/b/deep") == 1


def test_new_files_come_sorted_and_after_their_directories(step: Step) -> None:
    def action() -> None:
        os.makedirs("z/deep")
        for path in ("z/deep/f", "z/a", "b", "z-", "A"):
            Path(path).write_text(path)

    step.run(action)
    assert names(step) == ["A", "b", "z", "z/a", "z/deep", "z/deep/f", "z-"]


def test_metadata_and_content_are_those_that_the_container_sees(step: Step) -> None:
    def action() -> None:
        Path("f").write_bytes(b"content" * 100_000)
        os.chown("f", 1000, 2000)
        os.chmod("f", 0o6751)
        os.utime("f", ns=(0, 1_600_000_000_999_999_999))
        os.symlink("/some/where", "link")
        os.chown("link", 5, 6, follow_symlinks=False)
        os.mkfifo("fifo", 0o600)

    step.run(action)
    _, data = step.tar()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        f, link, fifo = archive.getmember("f"), archive.getmember("link"), archive.getmember("fifo")
        assert (f.uid, f.gid, f.mode, f.mtime) == (1000, 2000, 0o6751, 1_600_000_000)
        content = archive.extractfile(f)
        assert content is not None
        assert content.read() == b"content" * 100_000
    assert (link.issym(), link.linkname, link.uid, link.gid) == (True, "/some/where", 5, 6)
    assert (fifo.isfifo(), fifo.mode) == (True, 0o600)


def test_a_directory_copied_up_for_a_change_inside_is_written_with_its_own_metadata(step: Step) -> None:
    (step.lower / "a/b/c").mkdir(parents=True)
    (step.lower / "a/unrelated").mkdir()
    os.chown(step.lower / "a", 7, 8)
    (step.lower / "a/b").chmod(0o1777)
    step.run(lambda: Path("a/b/c/new").touch())
    members = step.diff()[1]
    assert list(members) == ["a", "a/b", "a/b/c", "a/b/c/new"]
    assert (members["a"].uid, members["a"].gid, members["a/b"].mode) == (7, 8, 0o1777)


def test_a_directory_copied_up_without_a_change_is_left_out(step: Step) -> None:
    (step.lower / "d/e").mkdir(parents=True)

    def action() -> None:
        Path("d/e/temporary").touch()
        os.unlink("d/e/temporary")
        os.utime("d")

    step.run(action)
    assert (step.upper / "d/e").is_dir()
    assert names(step) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda: os.chmod("d", 0o700),
        lambda: os.chown("d", 1, 0),
        lambda: os.chown("d", 0, 1),
        lambda: os.setxattr("d", "user.key", b"value"),
        lambda: os.removexattr("d", "user.old"),
    ],
)
def test_a_directory_whose_metadata_changed_is_written_alone(step: Step, change: Callable[[], None]) -> None:
    (step.lower / "d/e").mkdir(parents=True)
    (step.lower / "d/f").touch()
    os.setxattr(step.lower / "d", "user.old", b"")
    step.run(change)
    assert names(step) == ["d"]


def test_a_file_that_was_only_touched_counts_as_changed(step: Step) -> None:
    (step.lower / "f").write_text("same")
    step.run(lambda: os.utime("f"))
    assert names(step) == ["f"]


def test_removed_files_and_directories_become_whiteouts(step: Step) -> None:
    (step.lower / "d/tree/x").mkdir(parents=True)
    (step.lower / "d/file").touch()
    (step.lower / "top").touch()

    def action() -> None:
        shutil.rmtree("d/tree")
        os.unlink("d/file")
        os.unlink("top")

    step.run(action)
    assert names(step) == ["d", "d/.wh.file", "d/.wh.tree", ".wh.top"]


def test_a_whiteout_of_what_is_not_below_is_left_out(step: Step) -> None:
    (step.lower / "d").mkdir()
    (step.lower / "d/there").touch()
    step.run(lambda: os.unlink("d/there"))
    assert names(step) == ["d", "d/.wh.there"]
    (step.lower / "d/there").unlink()
    assert names(step) == []
    assert step.diff(lower=False)[0].entries == 1  # without layers below there is just a new directory


def test_an_empty_file_with_the_whiteout_attribute_is_a_whiteout(step: Step) -> None:
    (step.lower / "gone").touch()
    (step.upper / "gone").touch()
    os.setxattr(step.upper / "gone", "user.overlay.whiteout", b"y")
    assert names(step) == [".wh.gone"]


def test_a_replaced_directory_is_opaque_and_a_new_one_is_not(step: Step) -> None:
    (step.lower / "d/sub").mkdir(parents=True)
    (step.lower / "d/sub/old").touch()

    def action() -> None:
        shutil.rmtree("d")
        os.makedirs("d/sub")
        Path("d/sub/new").touch()
        os.makedirs("brand/new")

    step.run(action)
    assert os.getxattr(step.upper / "d", "user.overlay.opaque") == b"y"
    members = step.diff()[1]
    assert list(members) == ["brand", "brand/new", "d", "d/.wh..wh..opq", "d/sub", "d/sub/new"]
    assert all(not member.pax_headers for member in members.values())


def test_a_directory_becomes_a_file_and_a_file_a_directory(step: Step) -> None:
    (step.lower / "d/inside").mkdir(parents=True)
    (step.lower / "f").touch()

    def action() -> None:
        shutil.rmtree("d")
        Path("d").write_text("file")
        os.unlink("f")
        os.mkdir("f")
        Path("f/new").touch()

    step.run(action)
    members = step.diff()[1]
    assert [(name, member.isdir()) for name, member in members.items()] == [("d", False), ("f", True), ("f/new", False)]


def test_renaming_a_directory_from_below_is_refused_by_the_kernel_so_no_redirect_can_appear(step: Step) -> None:
    (step.lower / "old").mkdir()
    (step.lower / "old/f").touch()

    def action() -> None:
        with pytest.raises(OSError, match="cross-device"):
            os.rename("old", "new")
        shutil.move("old", "new")

    step.run(action)
    assert names(step) == ["new", "new/f", ".wh.old"]


def test_hard_links_are_kept_across_directories_and_the_first_name_is_the_file(step: Step) -> None:
    def action() -> None:
        os.makedirs("z")
        os.makedirs("a")
        Path("z/original").write_text("content")
        os.link("z/original", "a/link")
        os.link("z/original", "z/another")
        os.symlink("x", "a/symlink")
        os.link("a/symlink", "z/symlink", follow_symlinks=False)

    step.run(action)
    members = step.diff()[1]
    assert members["a/link"].isreg()
    assert members["a/link"].size == 7
    for name, target in (("z/original", "a/link"), ("z/another", "a/link"), ("z/symlink", "a/symlink")):
        assert (members[name].islnk(), members[name].linkname) == (True, target)


def test_a_capability_set_in_the_container_ships_as_revision_2(step: Step) -> None:
    def action() -> None:
        Path("program").touch()
        os.setxattr("program", "security.capability", CAPABILITY)
        os.makedirs("d")
        Path("d/other").touch()
        subprocess.run(["setcap", "cap_net_raw+ep", "d/other"], check=True)

    step.run(action)
    members = step.diff()[1]
    for name in ("program", "d/other"):
        value = members[name].pax_headers["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape")
        assert value == CAPABILITY


def test_a_capability_of_another_namespace_ships_as_revision_2(step: Step) -> None:
    program = step.upper / "program"
    program.touch()
    revision_3 = struct.pack("<6I", 0x03000001, 0x2000, 0, 0, 0, 100000)
    os.setxattr(program, "security.capability", revision_3)
    assert os.getxattr(program, "security.capability") == revision_3
    shipped = step.diff()[1]["program"].pax_headers["SCHILY.xattr.security.capability"]
    assert shipped.encode("utf-8", "surrogateescape") == CAPABILITY


def test_user_attributes_ship_and_overlayfs_own_do_not(step: Step) -> None:
    (step.lower / "below").touch()
    (step.lower / "d").mkdir()

    def action() -> None:
        Path("f").touch()
        os.setxattr("f", "user.key", b"\0value\n")
        os.setxattr("f", "user.overlay.opaque", b"y")  # escaped by overlayfs: still none of the layer's business
        os.chmod("below", 0o600)
        Path("d/new").touch()

    step.run(action)
    assert os.listxattr(step.upper / "d")
    headers = {name: member.pax_headers for name, member in step.diff()[1].items()}
    assert headers == {"f": {"SCHILY.xattr.user.key": "\0value\n"}, "below": {}, "d": {}, "d/new": {}}


def test_sockets_are_dropped(step: Step) -> None:
    def action() -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket")

    step.run(action)
    assert (step.upper / "socket").is_socket()
    assert names(step) == []


def test_device_nodes_are_kept(step: Step) -> None:
    os.mknod(step.upper / "null", 0o020666, os.makedev(1, 3))
    member = step.diff()[1]["null"]
    assert (member.ischr(), member.devmajor, member.devminor) == (True, 1, 3)


def test_names_that_would_be_whiteouts_are_reported_and_left_out(step: Step) -> None:
    def action() -> None:
        os.mkdir("d")
        Path("d/.wh.file").touch()
        os.mkdir(".wh.directory")

    step.run(action)
    summary, members = step.diff()
    assert list(members) == ["d"]
    assert set(summary.unrepresentable) == {b".wh.directory", b"d/.wh.file"}


def test_names_that_are_not_utf_8_survive(step: Step) -> None:
    def action() -> None:
        os.mkdir(b"\xff")
        with open(b"\xff/\xe9\n", "wb"):
            pass

    step.run(action)
    assert [name.encode("utf-8", "surrogateescape") for name in names(step)] == [b"\xff", b"\xff/\xe9\n"]


def test_a_tree_deeper_than_there_are_descriptors_is_walked_to_the_end(step: Step) -> None:
    depth = 500
    for side in (step.lower, step.upper):
        with directory_fd(side) as start:
            fd = os.dup(start)
            for _ in range(depth):
                os.mkdir("d", dir_fd=fd)
                deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
                os.close(fd)
                fd = deeper
                if side == step.upper:
                    os.close(os.open("z", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
            os.close(fd)
    summary, _ = step.tar()
    assert summary.entries == 2 * depth
    assert write_upper(str(step.upper), lambda: None, TarWriter(io.BytesIO())).entries == 2 * depth


def test_the_same_upper_gives_the_same_bytes(step: Step) -> None:
    def action() -> None:
        for i in range(50):
            Path(f"f{i}").write_text(str(i))

    step.run(action)
    assert step.tar() == step.tar()


def test_a_file_that_cannot_be_read_is_named(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    (step.upper / "broken").touch()

    def fail(*args: object, **kwargs: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("images.upperwalk.open_file", fail)
    with pytest.raises(LayerSourceError, match=r"'broken' into a layer: Input/output error"):
        step.diff()
