"""What BuildKit's clients send and ask for, without a client: files that lie, kept directories, exporters."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from core.errors import ShiplapError, StorageFullError
from core.files import try_lock
from dockerapi.buildkit import keeping, messages, receiving
from dockerapi.buildkit.listing import Listing
from dockerapi.buildkit.receiving import DATA, ERR, FIN, IS_DIRECTORY, IS_LINK, REQ, STAT, _Receiver
from dockerapi.buildkit.rpc import Code, RpcError, _Messages
from dockerapi.buildkit.wanted import read_exports


class Script(_Messages):
    """Another side of a transfer, which says what it was told to say."""

    def __init__(self, packets: list[Any]) -> None:
        super().__init__(self)  # type: ignore[arg-type]  # it is its own stream
        self.packets = packets
        self.sent: list[Any] = []

    def read(self, _timeout_s: float | None) -> bytes:
        if not self.packets:
            return b""
        data: bytes = self.packets.pop(0).SerializeToString()
        return b"\0" + len(data).to_bytes(4, "big") + data

    def send(self, packet: Any) -> None:
        self.sent.append(packet)

    def send_all(self, packets: Iterable[Any]) -> None:
        self.sent += packets

    def receive_into(self, tree: Path, listing: str = "") -> list[Any]:
        _Receiver(self, os.fsencode(tree), Listing(listing), lambda _size: None).run()  # type: ignore[arg-type]
        return [each.ID if each.type == REQ else each.type for each in self.sent]


def _file(path: str, mode: int = 0o644, **members: Any) -> Any:
    return messages.Packet(type=STAT, stat={"path": path.encode(), "mode": mode, **members})


_END, _FIN = messages.Packet(type=STAT), messages.Packet(type=FIN)


@pytest.mark.parametrize(
    "packets",
    [
        [_file("../x")],
        [_file("/etc/x")],
        [
            _file("/d", 0o755 | IS_DIRECTORY),
            _file("d", 0o777 | IS_LINK, linkname=b".."),  # "/d" would be within it
            _file("/d/out"),
            _END,
            messages.Packet(type=DATA, ID=2, data=b"x"),
            messages.Packet(type=DATA, ID=2),
            _FIN,
        ],
        [_file("/".join("d" * depth), 0o755 | IS_DIRECTORY) for depth in range(1, 400)],
        [_file("a/b")],
        [_file("")],
        [_file("."), _END],
        [_file("d", 0o755 | IS_DIRECTORY), _file("d/.."), _END],
        [_file("l", 0o777 | IS_LINK, linkname=b"/etc"), _file("l/passwd"), _END],
        [_file("a"), _file("a")],
        [_file("a\0b")],
        [_file("x" * 5000)],
        [_file("h", linkname=b"../../etc/passwd"), _END, _FIN],
        [_file("h", linkname=b"nothing"), _END, _FIN],
        [_file("a"), messages.Packet(type=DATA, ID=7, data=b"x")],
        [_file("a"), _END, messages.Packet(type=DATA, ID=0), messages.Packet(type=DATA, ID=0, data=b"again")],
        [_file("a"), _END, _FIN],
        [_END, _file("a")],
        [messages.Packet(type=REQ)],
        [messages.Packet(type=ERR, data=b"disk on fire")],
        [messages.Packet(type=99)],
        [_file("a"), _END],
        [],
    ],
)
def test_a_transfer_that_lies_is_refused_and_writes_nowhere_else(tmp_path: Path, packets: list[Any]) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    with pytest.raises(RpcError):
        Script(list(packets)).receive_into(tree)
    assert os.listdir(tmp_path) == ["tree"]


def test_names_are_kept_in_memory_and_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "_MOST_NAMES", 1000)
    packets = [_file(f"link-{number}", 0o777 | IS_LINK, linkname=b"x" * 100) for number in range(20)]
    with pytest.raises(RpcError, match="too much") as refused:
        Script(packets).receive_into(tmp_path)
    assert refused.value.code == Code.RESOURCE_EXHAUSTED
    assert len(list(tmp_path.iterdir())) == 9


def test_a_full_disk_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.write", full)
    packets = [_file("a"), _END, messages.Packet(type=DATA, ID=0, data=b"x")]
    with pytest.raises(StorageFullError, match="a directory of the client's"):
        Script(packets).receive_into(tmp_path)


def test_files_that_were_made_ahead_are_closed_when_the_transfer_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened() -> int:
        return sum(str(tmp_path) in os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd"))

    names = [_file(f"f{number:03}", size=1) for number in range(300)]
    some = [messages.Packet(type=DATA, ID=7, data=b"x"), messages.Packet(type=DATA, ID=8, data=b"y")]
    with pytest.raises(RpcError, match="before its end"):
        Script([*names, _END, *some]).receive_into(tmp_path)
    assert opened() == 0

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("dockerapi.buildkit.making.os.open", full)
    (tmp_path / "other").mkdir()
    with pytest.raises(StorageFullError):
        Script([*names, _END, *some]).receive_into(tmp_path / "other")


def test_a_transfer_makes_the_directory_equal(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").write_text("x")
    (tmp_path / "kind").mkdir()
    (tmp_path / "link").write_text("was a file")
    second = 1_700_000_000 * 10**9
    packets = [
        _file("dir", 0o2755 & 0o777 | 1 << 22 | IS_DIRECTORY, modTime=second),
        _file("dir/one", 0o600, size=3, modTime=second),
        _file("dir/pipe", 0o600 | 1 << 25),
        _file("dir/two", 0o600, linkname=b"dir/one"),
        _file("kind", 0o755, size=0, modTime=second),
        _file("link", 0o777 | IS_LINK, linkname=b"../../out"),
        _END,
        messages.Packet(type=DATA, ID=1, data=b"ab"),
        messages.Packet(type=DATA, ID=4),
        messages.Packet(type=DATA, ID=1, data=b"c"),
        messages.Packet(type=DATA, ID=1),
        _FIN,
    ]
    assert Script(packets).receive_into(tmp_path) == [1, 4, FIN]
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "dir", "dir/one", "dir/two", "kind", "link",
    ]  # fmt: skip
    assert (tmp_path / "dir" / "two").read_bytes() == b"abc"
    assert (tmp_path / "dir" / "one").stat().st_mtime_ns == second
    assert (tmp_path / "dir").stat().st_mode & 0o7777 == 0o2755
    assert os.readlink(tmp_path / "link") == "../../out"


def test_no_file_is_looked_at_when_the_same_is_listed_again(tmp_path: Path) -> None:
    tree, listing = tmp_path / "tree", tmp_path / "listing"
    tree.mkdir()

    def transferred(*end: Any, changed: int = 1) -> list[Any]:
        packets = [
            _file("d", 0o755 | IS_DIRECTORY),
            _file("d/a", size=1, modTime=1),
            _file("z", size=1, modTime=changed),
        ]
        return Script([*packets, *end]).receive_into(tree, str(listing))

    def content(number: int, data: bytes) -> list[Any]:
        return [messages.Packet(type=DATA, ID=number, data=data), messages.Packet(type=DATA, ID=number)]

    assert transferred(_END, *content(1, b"1"), *content(2, b"2"), _FIN) == [1, 2, FIN]
    (tree / "d" / "a").write_text("by somebody who may not")
    assert transferred(_END, _FIN) == [FIN]
    assert transferred(_END, *content(1, b"1"), *content(2, b"3"), _FIN, changed=2) == [1, 2, FIN]
    assert transferred(_END, _FIN, changed=2) == [FIN]
    with pytest.raises(RpcError, match="the file"):
        transferred(_file("../x"), changed=2)
    assert not listing.exists()  # it might have changed something
    assert transferred(_END, _FIN, changed=2) == [FIN]
    assert listing.exists()
    with pytest.raises(RpcError, match="before all files"):
        transferred(_file("zz", size=1), _END, _FIN, changed=2)
    assert not listing.exists()
    assert (tree / "d" / "a").read_bytes() + (tree / "z").read_bytes() == b"13"


@pytest.mark.parametrize(
    ("kind", "attributes", "told"),
    [
        ("image", {"dest": "/etc/cron.d/x"}, "unsupported option 'dest'"),
        ("image", {"type": "local", "dest": "/etc/cron.d/x"}, "type is given twice"),
        ("image", {" Type": "local"}, "type is given twice"),
        ("image,type=local", {}, "not done"),
        ("oci", {"tar": "0"}, "tar=false"),
        ("image", {"name": "x" * 200_000}, "more than"),
    ],
)
def test_an_exporter_writes_nowhere_on_the_host(kind: str, attributes: dict[str, str], told: str) -> None:
    with pytest.raises(ShiplapError, match=told):
        read_exports([(kind, attributes)])


def test_an_annotation_has_lines() -> None:
    (export,) = read_exports([("image", {"annotation.a": 'one, "two"\nthree\r'})])
    assert export.output.packaging.annotations[0].value == 'one, "two"\nthree\r'


def test_a_directory_whose_removal_was_killed_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = [_file("a", size=1, modTime=1), _END]
    content = [messages.Packet(type=DATA, ID=0, data=b"1"), messages.Packet(type=DATA, ID=0)]

    def received() -> list[Any]:
        with keeping.place_for(tmp_path, tmp_path, "k", "context") as place:
            return Script([*described, *content, _FIN]).receive_into(Path(place.path), place.listing)

    assert received() == [0, FIN]

    def killed(kept: Path, **_: Any) -> None:
        (kept / "tree" / "a").unlink()
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", killed)
        with pytest.raises(SystemExit):
            keeping.prune(tmp_path)
    assert received() == [0, FIN]


def test_directories_that_are_pruned_leave_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "contexts"
    with keeping.place_for(tmp_path, tmp_path, "k", "context") as place:
        assert place.is_kept
        Path(place.path, "file").write_text("x" * 5000)
        keeping.prune(tmp_path)
        assert Path(place.path, "file").exists()  # it is in use
    (folder / "0123.lock").touch()  # a killed process's
    assert keeping.prune(tmp_path, stopped=lambda: True) == 0
    assert keeping.prune(tmp_path) >= 5000
    assert os.listdir(folder) == []
    removed: list[Path] = []

    def late(path: Path) -> int | None:
        fd = try_lock(path)
        if not removed:
            removed.append(path)
            path.unlink()  # as a prune that had it first
        return fd

    monkeypatch.setattr(keeping, "try_lock", late)
    with keeping.place_for(tmp_path, tmp_path, "k", "context"):
        assert try_lock(removed[0]) is None  # the one that it holds is the one that others see
