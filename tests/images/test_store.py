"""Sessions, blobs, layers, cache records."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import lzma
import math
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from core import kernel, writeback
from core.digests import DiffID, Digest
from core.errors import StorageFullError
from images.errors import (
    CompressedDataError,
    DigestMismatchError,
    ImagesError,
    MissingBlobError,
    StoreAccessError,
    StoreCorruptError,
    StoreVersionError,
)
from images.oci import OCI_LAYER_GZIP, Descriptor
from images.records import CacheRecord
from images.sessions import reclaim_all
from images.store import Store


def layer(store: Store, content: bytes) -> DiffID:
    with store.layers.writer() as writer:
        writer.write(content)
        return writer.commit()


def files_of(root: Path) -> list[str]:
    return sorted(os.listdir(root / "blobs" / "sha256"))


def record(key: str, diff_id: DiffID | None, op: str = "op", created_at: float = 1.0) -> CacheRecord:
    return CacheRecord(key, op, diff_id, created_at, 0.5, "RUN true", b"detail")


def test_what_was_put_can_be_read_by_another_session(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        digest = store.blobs.put(b"hello")
    assert digest == Digest.of(b"hello")
    with Store.open(tmp_path) as store:
        assert store.blobs.has(digest)
        assert store.blobs.size(digest) == 5
        assert store.blobs.read(digest) == b"hello"
        assert store.blobs.path(digest).read_bytes() == b"hello"


def test_a_blob_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    absent = Digest.of(b"absent")
    with Store.open(tmp_path) as store:
        assert not store.blobs.has(absent)
        with pytest.raises(MissingBlobError, match=absent):
            store.blobs.open(absent)
        with pytest.raises(MissingBlobError, match=absent):
            store.layers.size(DiffID(absent))


@pytest.mark.parametrize("piece", [1, 512, 65_535, 65_536, 300_000, 2_000_000])
def test_pieces_of_every_size_give_the_same_blob(tmp_path: Path, piece: int) -> None:
    content = os.urandom(1_000_000) if piece > 1 else os.urandom(2000)
    with Store.open(tmp_path) as store, store.blobs.writer() as writer:
        view = memoryview(content)
        for at in range(0, len(content), piece):
            assert writer.write(view[at : at + piece]) == len(view[at : at + piece])
        assert writer.size == len(content)
        assert store.blobs.read(writer.commit()) == content


@pytest.mark.parametrize("size", [0, 100, 70_000, 3_000_000])
def test_copy_from_fd_mixes_with_writes_and_tells_how_much_there_was(tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    with Store.open(tmp_path / "root") as store, store.blobs.writer() as writer, source.open("rb", buffering=0) as file:
        writer.write(b"head")
        assert writer.copy_from_fd(file.fileno(), size + 10) == size
        writer.write(b"tail")
        assert store.blobs.read(writer.commit()) == b"head" + source.read_bytes() + b"tail"


def test_a_writer_that_is_left_or_contradicted_keeps_nothing(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        with store.blobs.writer() as writer:
            writer.write(b"x" * 100_000)
        with store.blobs.writer() as writer:
            writer.write(b"x")
            with pytest.raises(DigestMismatchError, match="expected sha256:"):
                writer.commit(Digest.of(b"y"))
        assert files_of(tmp_path) == []
        assert os.listdir(store.tmp) == ["lock"]


def test_writing_the_same_blob_again_changes_nothing(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        first = store.blobs.path(store.blobs.put(b"same")).stat().st_ino
        with store.blobs.writer() as writer:
            writer.write(b"same")
            assert store.blobs.path(writer.commit()).stat().st_ino == first


def test_a_layer_is_a_blob_that_is_known_as_a_layer(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        blob = store.blobs.put(b"no layer")
        assert not store.layers.has(DiffID(blob))
        diff_id = layer(store, b"tar")
        assert store.layers.size(diff_id) == 3
        assert store.layers.missing([diff_id, DiffID(blob)]) == [blob]
        with store.layers.open(diff_id) as file:
            assert file.read() == b"tar"
        assert abs(store.layers.created_at(diff_id) - time.time()) < 100


def test_unsynced_blobs_are_forgotten_by_a_reboot_and_made_durable_ones_are_not(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        with store.layers.writer(sync=False) as writer:
            writer.write(b"lost")
            lost = writer.commit()
        with store.layers.writer(sync=False) as writer:
            writer.write(b"kept")
            kept = writer.commit()
        store.blobs.make_durable([kept])
        with store.layers.writer(sync=False) as writer:  # again, with sync
            writer.write(b"synced later")
            later = writer.commit()
        assert layer(store, b"synced later") == later
        store.cache.put(record("lost", lost))
        assert store.layers.has(lost)
    reboot(tmp_path)
    with Store.open(tmp_path) as store:
        assert not store.layers.has(lost)
        assert store.cache.get("lost") is None
        assert store.layers.has(kept)
        assert store.layers.has(later)


def reboot(root: Path) -> None:
    with sqlite3.connect(root / "store.db") as connection:
        connection.execute("UPDATE meta SET value = 'another boot' WHERE key = 'boot_id'")
    connection.close()


def test_a_layer_is_compressed_once_and_decompresses_to_itself(tmp_path: Path) -> None:
    content = b"layer " * 100_000
    with Store.open(tmp_path) as store:
        diff_id = layer(store, content)
        made = store.layers.compressed(diff_id, "gzip")
        assert made.media_type == OCI_LAYER_GZIP
        assert gzip.decompress(store.blobs.read(made.digest)) == content
        assert made.size == store.blobs.size(made.digest) < len(content)
        assert store.layers.compressed(diff_id, "gzip") == made
        assert store.layers.compressed(diff_id, "gzip", 1) == made
        assert store.layers.compressed(diff_id, "gzip", 3) != made
        assert store.layers.compressed(diff_id, "zstd").media_type.endswith("+zstd")


def test_threads_that_want_the_same_compressed_layer_get_one(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        diff_id = layer(store, os.urandom(100_000) * 5)
        made: list[Descriptor] = []
        threads = [
            threading.Thread(target=lambda: made.append(store.layers.compressed(diff_id, "gzip"))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 8
        assert len(set(files_of(tmp_path))) == 2


@pytest.mark.parametrize("how", ["none", "gzip", "xz"])
def test_an_imported_layer_has_the_diff_id_of_its_tar_whatever_its_compression(tmp_path: Path, how: str) -> None:
    content = b"a tar, let us say" * 1000
    packed = {"none": content, "gzip": gzip.compress(content), "xz": lzma.compress(content)}[how]
    expected = Descriptor(media_type="", digest=Digest.of(packed), size=len(packed))
    with Store.open(tmp_path) as store:
        diff_id = store.layers.import_compressed(io.BytesIO(packed), expected=expected)
        assert diff_id == DiffID.of(content)
        kept = store.layers.compressed(diff_id, "gzip")
        assert (kept.digest == expected.digest) == (how == "gzip")  # what came as gzip is pushed as it came


def test_a_large_layer_is_written_behind_its_decompression(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(1 << 20) * 50  # the disk begins before the end
    packed = gzip.compress(content, 0)
    expected = Descriptor(media_type="", digest=Digest.of(packed), size=len(packed))
    with Store.open(tmp_path) as store:
        with pytest.raises(CompressedDataError):
            store.layers.import_compressed(io.BytesIO(packed[:-9]), expected=expected)
        assert files_of(tmp_path) == []
        diff_id = store.layers.import_compressed(io.BytesIO(packed), expected=expected)
        assert diff_id == DiffID.of(content)
        assert store.layers.path(diff_id).read_bytes() == content
        original = store.layers.original(diff_id)
        assert original == store.layers.compressed(diff_id, "gzip")
        assert original is not None
        assert store.blobs.read(original.digest) == packed
        assert "writer" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("keeps_up", [True, False])
def test_the_disk_begins_before_the_end_unless_it_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeps_up: bool
) -> None:
    begun = []
    monkeypatch.setattr(kernel, "start_writeback", lambda fd, start, size: begun.append((start, size)))
    monkeypatch.setattr(writeback, "_SLOW_S", 60 if keeps_up else -1)
    piece = os.urandom(3 << 20)
    with Store.open(tmp_path) as store, store.blobs.writer(cached=False) as writer:
        for _ in range(20):
            writer.write(piece)
        digest = writer.commit()
        assert digest == Digest.of(piece * 20)
        assert store.blobs.read(digest) == piece * 20
    assert begun == [(number * 18 << 20, 18 << 20) for number in range(3 if keeps_up else 1)]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOSPC])
def test_a_file_system_that_cannot_begin_early_does_without_and_a_full_disk_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(fd: int, start: int, size: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(kernel, "start_writeback", fail)
    piece = os.urandom(9 << 20)
    with Store.open(tmp_path) as store, store.blobs.writer() as writer:
        if number == errno.ENOSPC:
            with pytest.raises(StorageFullError):
                writer.write(piece * 2)
            return
        for _ in range(4):
            writer.write(piece)
        assert store.blobs.read(writer.commit()) == piece * 4


def test_an_import_that_is_not_what_was_announced_keeps_nothing(tmp_path: Path) -> None:
    packed = gzip.compress(b"content")
    wrong = [
        {"diff_id": DiffID.of(b"other")},
        {"expected": Descriptor(media_type="", digest=Digest.of(b"other"), size=len(packed))},
        {"expected": Descriptor(media_type="", digest=Digest.of(packed), size=1)},
    ]
    with Store.open(tmp_path) as store:
        for keywords in wrong:
            with pytest.raises(DigestMismatchError):
                store.layers.import_compressed(io.BytesIO(packed), **keywords)  # type: ignore[arg-type]
        with pytest.raises(ImagesError):
            store.layers.import_compressed(io.BytesIO(packed[:-6]))
        assert files_of(tmp_path) == []


def test_a_record_comes_back_as_it_was_put_and_a_new_one_replaces_it(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        diff_id = layer(store, b"tar")
        store.cache.put(record("k", diff_id))
        store.cache.put(record("none", None, op="other", created_at=2.0))
        assert store.cache.get("k") == record("k", diff_id)
        assert store.cache.get("none") == record("none", None, op="other", created_at=2.0)
        assert store.cache.get("absent") is None
        assert store.cache.has_op("op")
        assert not store.cache.has_op("nothing")
        latest = store.cache.latest_for(description="RUN true", before=math.inf)
        assert latest is not None
        assert latest.key == "none"
        earlier = store.cache.latest_for(description="RUN true", before=latest.created_at)
        assert earlier is not None
        assert earlier.key == "k"
        assert store.cache.latest_for(op="nothing", before=math.inf) is None


def test_a_record_needs_its_layer(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store, pytest.raises(MissingBlobError):
        store.cache.put(record("k", DiffID.of(b"absent")))


def test_the_memo_remembers_per_kind(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.cache.memo_put("a", "k", b"1")
        store.cache.memo_put("b", "k", b"2")
        store.cache.memo_put("a", "k", b"3")
    with Store.open(tmp_path) as store:
        assert store.cache.memo_get("a", "k") == b"3"
        assert store.cache.memo_get("b", "k") == b"2"
        assert store.cache.memo_get("c", "k") is None


def test_leases_of_a_session_whose_directory_a_power_loss_took_are_dropped(tmp_path: Path) -> None:
    with Store.open(tmp_path) as living:
        living.blobs.put(b"leased")
        (mine,) = {session for (session,) in living.database.all("SELECT session FROM leases")}
        with living.database.transaction() as connection:
            connection.execute("INSERT INTO leases VALUES ('0123456789abcdef', ?)", (Digest.of(b"leased"),))
        reclaim_all(tmp_path, living.database)
        assert living.database.all("SELECT session, object FROM leases") == [(mine, Digest.of(b"leased"))]


def test_closing_removes_the_session_and_closing_twice_is_fine(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    assert store.tmp.is_dir()
    upper = store.snapshots.new_upper()
    store.close()
    store.close()
    assert not store.tmp.exists()
    assert not os.path.exists(upper.path)


def test_closing_does_not_look_through_the_snapshots_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    scandir = os.scandir

    def counting(path: str | os.PathLike[str] | int = ".") -> object:
        listed.append(str(path))
        return scandir(path)

    with Store.open(tmp_path) as other:
        kept = other.snapshots.new_upper()
        store = Store.open(tmp_path)
        mine = store.snapshots.new_upper()
        monkeypatch.setattr(os, "scandir", counting)
        store.close()
        assert os.path.isdir(kept.path)
        assert not os.path.exists(mine.path)
    assert str(tmp_path / "snapshots") not in listed


def test_what_a_killed_process_left_is_reclaimed_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    code = """
import sys, os, signal
from pathlib import Path
from images.store import Store
store = Store.open(Path(sys.argv[1]))
writer = store.blobs.writer(); writer.write(b"x" * 1000000)
upper = store.snapshots.new_upper(); open(upper.path + "/fs/file", "w").close()
store.blobs.put(b"leased")
print(store.tmp, upper.path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with Store.open(tmp_path) as living:
        mine = living.snapshots.new_upper()
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        left = done.stdout.split()
        assert done.returncode == -9
        assert all(os.path.exists(path) for path in left)
        with Store.open(tmp_path) as store:
            assert not any(os.path.exists(path) for path in left)
            assert living.tmp.is_dir()
            assert os.path.isdir(mine.path)
            assert store.database.all("SELECT * FROM leases") == []


def test_a_newer_schema_is_refused_with_the_way_out(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    with sqlite3.connect(tmp_path / "store.db") as connection:
        connection.execute("PRAGMA user_version=999")
    connection.close()
    with pytest.raises(StoreVersionError, match="schema 999") as caught:
        Store.open(tmp_path)
    assert caught.value.hint


def test_a_damaged_database_and_an_unusable_place_are_named(tmp_path: Path) -> None:
    Store.open(tmp_path / "damaged").close()
    (tmp_path / "damaged" / "store.db").write_bytes(b"no database at all" * 1000)
    with pytest.raises(StoreCorruptError):
        Store.open(tmp_path / "damaged")
    (tmp_path / "file").touch()
    with pytest.raises(StoreAccessError):
        Store.open(tmp_path / "file")


def test_a_blob_whose_file_was_removed_by_hand_is_missing_not_a_traceback(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        digest = store.blobs.put(b"gone")
        store.blobs.path(digest).unlink()
        with pytest.raises(MissingBlobError, match="lost its file"):
            store.blobs.read(digest)


def test_writers_in_many_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    failures: list[object] = []

    def work(number: int, store: Store) -> None:
        try:
            for turn in range(20):
                content = b"%d" % (turn % 7) * 5000 if number % 2 else os.urandom(3000)
                diff_id = layer(store, content)
                store.cache.put(record(f"{number}-{turn}", diff_id))
                assert store.blobs.read(diff_id) == content
                assert hashlib.sha256(content).hexdigest() == diff_id.hex
        except BaseException as error:
            failures.append(error)
            raise

    with Store.open(tmp_path) as store:
        threads = [threading.Thread(target=work, args=(number, store)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_what_a_session_has_leased_costs_no_second_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(tmp_path) as store:
        with store.blobs.writer() as blob:
            blob.write(b"mine")
            digest = blob.commit()
        store.blobs.lease([Digest.of(b"another")])

        def none(**_named: object) -> None:
            raise AssertionError("a transaction")

        with monkeypatch.context() as patched:
            patched.setattr(store.database, "transaction", none)
            store.blobs.lease([digest, Digest.of(b"another"), digest])
