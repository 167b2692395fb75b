"""A flipped byte in the store: it does not travel, it is named with the way out, and a good copy takes its place."""

from __future__ import annotations

import gzip
import io
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.digests import DiffID, Digest
from core.platforms import Platform
from core.references import Reference
from images.archive import SavedImage, import_rootfs, load, save, save_directory
from images.damage import CheckedReader, same_content
from images.errors import DamagedBlobError, MissingBlobError
from images.oci import ImageConfig
from images.records import CacheRecord
from images.store import Store
from images.summary import Image
from images.tarcopy import clamped_layer
from images.tarwriter import TarWriter
from images.verify import verify
from tests.toolkit.damage import flip_byte

SIZES = pytest.mark.parametrize("size", [1000, 5 << 20], ids=["small", "large"])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


def tar_of(size: int) -> bytes:
    sink = io.BytesIO()
    writer = TarWriter(sink)
    writer.file(b"f", 0o644, 0, 0, 1000, size, random.Random(size).randbytes(size))
    writer.close()
    return sink.getvalue()


def put_layer(store: Store, size: int = 1000) -> DiffID:
    with store.layers.writer() as layer:
        layer.write(tar_of(size))
        return layer.commit()


def put_image(store: Store, size: int = 1000) -> Image:
    return store.images.put(
        ImageConfig.for_platform(Platform.host()), [put_layer(store, size)], names=(Reference.parse("app:latest"),)
    )


def damage(store: Store, digest: Digest) -> Path:
    path = store.root / "blobs" / "sha256" / digest.hex
    flip_byte(path)
    return path


@SIZES
def test_a_damaged_layer_is_not_compressed(store: Store, size: int) -> None:
    diff_id = put_layer(store, size)
    damage(store, diff_id)
    with pytest.raises(DamagedBlobError, match=diff_id) as caught:
        store.layers.compressed(diff_id, "gzip")
    assert "pull or load" in (caught.value.hint or "")
    assert store.database.all("SELECT * FROM compressed") == []
    assert os.listdir(store.tmp) == ["lock"]
    with pytest.raises(DamagedBlobError):  # from now on it is known
        store.layers.open(diff_id)


@SIZES
def test_a_damaged_layer_is_not_saved(store: Store, tmp_path: Path, size: int) -> None:
    image = put_image(store, size)
    damage(store, image.diff_ids[0])
    with pytest.raises(DamagedBlobError, match=image.diff_ids[0]):
        save(store, [SavedImage(image)], io.BytesIO())


def test_a_directory_gets_no_damaged_blob_and_no_index(store: Store, tmp_path: Path) -> None:
    image = put_image(store)
    damage(store, image.diff_ids[0])
    with pytest.raises(DamagedBlobError):
        save_directory(store, [SavedImage(image)], tmp_path / "layout")
    assert not (tmp_path / "layout" / "blobs" / "sha256" / image.diff_ids[0].hex).exists()
    assert not (tmp_path / "layout" / "index.json").exists()


@pytest.mark.parametrize("of", ["config", "manifest"])
def test_a_damaged_document_is_not_saved(store: Store, of: str) -> None:
    image = put_image(store)
    damage(store, image.id if of == "config" else image.manifest_digest)
    with pytest.raises(DamagedBlobError):
        save(store, [SavedImage(image)], io.BytesIO())


def test_a_damaged_layer_is_not_copied_with_other_times(store: Store) -> None:
    diff_id = put_layer(store, 5 << 20)
    damage(store, diff_id)
    with pytest.raises(DamagedBlobError):
        clamped_layer(store, diff_id, 5)
    assert store.database.all("SELECT diff_id FROM layers") == [(diff_id,)]


def test_a_file_that_lost_its_end_is_damaged(store: Store) -> None:
    diff_id = put_layer(store)
    os.truncate(store.layers.path(diff_id), 700)
    with pytest.raises(DamagedBlobError):
        store.layers.open(diff_id)


def save_of(store: Store, image: Image) -> bytes:
    sink = io.BytesIO()
    save(store, [SavedImage(image, image.names)], sink)
    return sink.getvalue()


@SIZES
@pytest.mark.parametrize("noted", [False, True], ids=["unnoticed", "noted"])
def test_loading_a_good_copy_repairs(store: Store, size: int, noted: bool) -> None:
    image = put_image(store, size)
    archive = save_of(store, image)
    for digest in (image.id, image.manifest_digest, image.diff_ids[0]):
        damage(store, digest)
    if noted:
        assert {problem.digest for problem in verify(store)} >= {image.id, image.diff_ids[0]}
    load(store, io.BytesIO(archive))
    assert verify(store) == []
    with store.layers.open(image.diff_ids[0]) as tar:
        assert tar.read() == tar_of(size)


def test_a_config_that_cannot_be_read_is_named_and_comes_back(store: Store) -> None:
    image = put_image(store)
    archive = save_of(store, image)
    store.blobs.path(image.id).write_bytes(b"\0" * store.blobs.size(image.id))
    for look in (lambda: store.images.get(image.id), store.images.list):
        with pytest.raises(DamagedBlobError, match=image.id):
            look()
    load(store, io.BytesIO(archive))
    assert store.images.get(image.id) == image


def test_an_image_is_not_made_of_a_damaged_layer(store: Store) -> None:
    diff_id = put_layer(store)
    damage(store, diff_id)
    verify(store)
    with pytest.raises(DamagedBlobError, match=diff_id):
        store.images.put(ImageConfig.for_platform(Platform.host()), [diff_id])


def test_importing_a_good_copy_repairs(store: Store) -> None:
    config = ImageConfig.for_platform(Platform.host())
    image = import_rootfs(store, io.BytesIO(tar_of(1000)), config)
    damage(store, image.diff_ids[0])
    import_rootfs(store, io.BytesIO(tar_of(1000)), config)
    assert verify(store) == []


def test_what_came_compressed_repairs_both_forms(store: Store) -> None:
    packed = gzip.compress(tar_of(100_000), 1, mtime=0)
    diff_id = store.layers.import_compressed(io.BytesIO(packed))
    original = store.layers.original(diff_id)
    assert original is not None
    damage(store, original.digest)
    damage(store, diff_id)
    assert len(verify(store)) == 2
    assert store.layers.original(diff_id) is None
    store.layers.import_compressed(io.BytesIO(packed))
    assert verify(store) == []
    assert store.layers.original(diff_id) == original


def test_a_damaged_compressed_layer_is_made_anew(store: Store) -> None:
    diff_id = put_layer(store, 100_000)
    made = store.layers.compressed(diff_id, "gzip")
    damage(store, made.digest)
    with pytest.raises(DamagedBlobError, match=made.digest) as caught:
        store.blobs.check(made.digest)
    assert caught.value.hint == "run the same command again: it is made anew from the layer"
    assert store.layers.compressed(diff_id, "gzip") == made
    assert verify(store) == []


def test_a_file_that_is_gone_comes_back(store: Store) -> None:
    diff_id = put_layer(store)
    store.layers.path(diff_id).unlink()
    put_layer(store)
    with store.layers.open(diff_id) as tar:
        assert tar.read() == tar_of(1000)


def test_a_damaged_layer_counts_as_absent_and_its_step_runs_again(store: Store) -> None:
    diff_id = put_layer(store)
    store.cache.put(CacheRecord("key", "op", diff_id, 1.0, 1.0, "RUN"))
    path = damage(store, diff_id)
    assert len(verify(store)) == 1
    assert store.layers.missing([diff_id]) == [diff_id]
    assert not store.blobs.has(diff_id)
    assert store.cache.get("key") is None
    assert store.cache.results(["key"]) == {}
    assert path.exists()  # it may be all that there is
    store.images.prune()
    assert path.exists()
    put_layer(store)
    assert store.layers.has(diff_id)
    assert store.cache.get("key") is not None


def test_what_was_derived_from_a_damaged_layer_is_derived_anew(store: Store) -> None:
    diff_id = put_layer(store)
    store.snapshots.lowers([diff_id])
    assert store.database.all("SELECT 1 FROM snapshots WHERE diff_id = ?", (diff_id,))
    damage(store, diff_id)
    verify(store)
    assert store.database.all("SELECT 1 FROM snapshots WHERE diff_id = ?", (diff_id,)) == []


def test_a_file_that_was_put_right_by_hand_is_noticed(store: Store) -> None:
    diff_id = put_layer(store)
    path = damage(store, diff_id)
    assert verify(store)
    flip_byte(path)
    assert verify(store) == []
    assert store.layers.has(diff_id)


def test_what_is_pruned_is_damaged_no_more(store: Store) -> None:
    diff_id = put_layer(store)
    damage(store, diff_id)
    verify(store)
    store.close()
    with Store.open(store.root) as again:
        again.images.prune(all_unused=True, cache=True)
        assert again.database.all("SELECT * FROM damaged") == []
        with pytest.raises(MissingBlobError, match="is not in the store"):
            again.layers.open(diff_id)


def test_a_repaired_blob_is_durable_though_its_copy_was_not_to_be(store: Store) -> None:
    diff_id = put_layer(store)
    damage(store, diff_id)
    with store.layers.writer(sync=False) as layer:
        layer.write(tar_of(1000))
        layer.commit()
    assert store.database.all("SELECT volatile FROM blobs WHERE digest = ?", (diff_id,)) == [(0,)]


@pytest.mark.parametrize("size", [0, 10, 3 << 20])
def test_a_reader_tells_the_end_only_of_what_is_right(tmp_path: Path, size: int) -> None:
    data = random.Random(1).randbytes(size)
    (tmp_path / "f").write_bytes(data)
    told: list[Digest] = []

    def damaged(digest: Digest) -> DamagedBlobError:
        told.append(digest)
        return DamagedBlobError("damaged")

    def read(expected: Digest, read_all: Callable[[CheckedReader], object]) -> None:
        with CheckedReader(open(tmp_path / "f", "rb", buffering=0), expected, damaged) as reader:
            read_all(reader)

    wrong = Digest.of(b"other")
    read(Digest.of(data), lambda reader: b"".join(iter(lambda: reader.read(70_000), b"")))
    read(Digest.of(data), lambda reader: reader.read(5))
    assert told == []
    with pytest.raises(DamagedBlobError):
        read(wrong, lambda reader: reader.read(5))
    with pytest.raises(DamagedBlobError):
        read(wrong, lambda reader: list(iter(lambda: reader.read(70_000), b"")))
    assert told == [wrong, wrong]


def test_blob_stays_while_its_successor_is_compared_with_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diff_id = put_layer(store)
    leased = []

    def compare(good: str, known: str) -> bool:
        leased.append(other.database.one("SELECT count(*) FROM leases WHERE object = ?", (diff_id,)))
        return same_content(good, known)

    monkeypatch.setattr("images.damage.same_content", compare)
    with store.database.transaction() as connection:
        connection.execute("DELETE FROM leases")
    with Store.open(store.root) as other:
        assert put_layer(other) == diff_id
    assert leased == [(1,)]
