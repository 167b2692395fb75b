"""A layer that is indexed while it is written; what is left of it is removed behind who waits for it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.digests import DiffID
from core.rootfs import DirectoryLayer, ErofsLayer
from images.store import Store
from images.survey import Survey
from images.tarwriter import TarWriter
from tests.images.test_snapshots import mounted, tree

pytestmark = pytest.mark.usefixtures("privileged")
FILES = {f"d/{number}": os.urandom(5000) for number in range(40)}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "root") as store:
        yield store


@pytest.fixture(autouse=True)
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is written in these tests is large enough."""
    monkeypatch.setattr("images.feeding._BEGINS_AT", 10_000)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a program of this text in the place of mkfs.erofs."""

    def put(text: str) -> None:
        file = tmp_path / "bin" / "mkfs.erofs"
        file.parent.mkdir()
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
        monkeypatch.setenv("PATH", f"{file.parent}:{os.environ['PATH']}")

    return put


def written(store: Store) -> tuple[DiffID, bool]:
    """A layer of the files, and whether it was indexed meanwhile."""
    with store.layers.writer() as blob, store.snapshots.feed(blob) as feed:
        writer = TarWriter(feed)
        writer.directory(b"d", 0o755, 0, 0, 0)
        for name, data in FILES.items():
            writer.file(name.encode(), 0o644, 0, 0, 0, len(data), data)
            writer._flush()
        writer.close()
        layer = blob.commit()
        store.snapshots.note_survey(layer, Survey(writer.entries, {}, False, False, None))
        return layer, store.snapshots.fed(layer, feed)


def contents(store: Store, layer: DiffID, tmp_path: Path) -> dict[str, bytes]:
    with mounted(store.snapshots.lowers((layer,)), tmp_path) as root:
        assert len(tree(root)) == len(FILES) + 1
        return {name: (root / name).read_bytes() for name in FILES}


def test_a_layer_is_indexed_while_it_is_written(store: Store, tmp_path: Path) -> None:
    layer, is_fed = written(store)
    assert is_fed
    (lower,) = store.snapshots.lowers((layer,))
    assert isinstance(lower, ErofsLayer)
    assert contents(store, layer, tmp_path) == FILES


@pytest.mark.parametrize("text", ["exit 1", "head -c 20000 >/dev/null; exit 1", "cat >/dev/null; exit 1"])
def test_a_program_that_fails_costs_no_layer(
    store: Store, tmp_path: Path, program: Callable[[str], None], text: str
) -> None:
    program(text)
    layer, _ = written(store)
    (lower,) = store.snapshots.lowers((layer,))
    assert isinstance(lower, DirectoryLayer)
    assert contents(store, layer, tmp_path) == FILES


def test_a_program_that_reads_nothing_is_not_waited_for(
    store: Store, program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("images.feeding._PATIENCE_MS", 50)
    monkeypatch.setattr("images.feeding._AHEAD", 4096)
    program("exec sleep 600")
    before = len(os.listdir("/proc/self/fd"))
    layer, is_fed = written(store)
    assert not is_fed
    assert store.layers.has(layer)
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_room_for_an_index_costs_no_layer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(store.snapshots, "_new_directory", full)
    layer, is_fed = written(store)
    assert not is_fed
    assert store.layers.has(layer)
    assert len(os.listdir("/proc/self/fd")) == before


def test_who_fails_while_writing_leaves_no_program(store: Store, program: Callable[[str], None]) -> None:
    program("exec sleep 600")
    with store.layers.writer() as blob, store.snapshots.feed(blob) as feed:
        feed.write(bytes(20_000))
        begun = feed._begun
    assert begun is not None
    with pytest.raises(ChildProcessError):
        os.waitpid(begun.indexer._pid, os.WNOHANG)


def test_what_is_left_behind_is_gone_with_the_heir(store: Store, tmp_path: Path) -> None:
    with Store.open(tmp_path / "root") as own:
        own.snapshots.heir = store.snapshots
        upper = own.snapshots.new_upper()
        (Path(upper.path) / "fs" / "file").write_text("x")
        own.snapshots.leave(upper)
        assert not Path(upper.path).exists()
    store.close()
    assert [name for name in os.listdir(tmp_path / "root" / "snapshots") if not name.startswith(".")] == []
