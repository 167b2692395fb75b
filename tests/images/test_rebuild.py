"""A store whose database was lost, emptied, damaged or put back from a backup: refused, kept, and made again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.digests import DiffID, Digest
from core.platforms import Platform
from core.references import Reference
from images.errors import StoreBusyError, StoreCorruptError, StoreError, StoreLostError
from images.oci import OCI_INDEX, ImageConfig, Index
from images.packing import pack
from images.rebuild import rebuild
from images.store import Store
from images.summary import Image
from images.verify import verify
from tests.images.test_damage import tar_of
from tests.toolkit.damage import flip_byte


def put_layer(store: Store, number: int) -> DiffID:
    with store.layers.writer() as layer:
        layer.write(tar_of(1000 + number))
        return layer.commit()


def put_image(store: Store, name: str, *numbers: int) -> Image:
    diff_ids = [put_layer(store, number) for number in numbers]
    config = ImageConfig.for_platform(Platform.host())
    return store.images.put(config, diff_ids, names=(Reference.parse(name),))


def fill(root: Path) -> list[Digest]:
    """A store with an image that was made here, one that came with its manifest, and an index. Returns their IDs."""
    with Store.open(root.parent / f"{root.name}-elsewhere") as elsewhere:
        image = put_image(elsewhere, "came", 2, 3)
        manifest = elsewhere.blobs.read(pack(elsewhere, image).digest)
        with Store.open(root) as store:
            for diff_id in image.diff_ids:
                with elsewhere.blobs.open(elsewhere.layers.compressed(diff_id, "gzip").digest) as packed:
                    store.layers.import_compressed(packed, diff_id=diff_id)
            config = elsewhere.blobs.read(image.id)
            came = store.images.put(config, image.diff_ids, names=image.names, manifest=manifest)
            own = put_image(store, "own", 1, 2)
            index = Index(schema_version=2, media_type=OCI_INDEX, manifests=(pack(store, own),))
            store.images.indexes.put(index, names=(Reference.parse("both"),))
            return [own.id, came.id]


def files(root: Path) -> set[str]:
    return set(os.listdir(root / "blobs" / "sha256"))


def lose(root: Path, how: str) -> None:
    for suffix in ("-wal", "-shm"):
        (root / f"store.db{suffix}").unlink(missing_ok=True)
    path = root / "store.db"
    if how == "deleted":
        path.unlink()
    elif how == "emptied":
        os.truncate(path, 0)
    elif how == "without-schema":
        path.unlink()
        subprocess.run(
            [sys.executable, "-c", "import sqlite3,sys; sqlite3.connect(sys.argv[1]).execute('VACUUM')", path],
            check=True,
        )
        assert path.stat().st_size
    elif how == "garbage":
        path.write_bytes(random.Random(1).randbytes(20_000))
    else:
        os.truncate(path, path.stat().st_size // 8192 * 4096)


LOST = pytest.mark.parametrize("how", ["deleted", "emptied", "without-schema", "garbage", "cut"])


@LOST
def test_a_store_without_its_database_is_refused_and_loses_nothing(tmp_path: Path, how: str) -> None:
    fill(tmp_path)
    before = files(tmp_path)
    lose(tmp_path, how)
    with pytest.raises((StoreLostError, StoreCorruptError), match=r"store\.db") as caught:
        Store.open(tmp_path)
    assert "--rebuild" in (caught.value.hint or "")
    assert files(tmp_path) == before
    if how == "deleted":
        assert not (tmp_path / "store.db").exists()


@LOST
def test_all_but_the_names_comes_back(tmp_path: Path, how: str) -> None:
    ids = fill(tmp_path)
    lose(tmp_path, how)
    report = rebuild(tmp_path)
    assert report.anew == (how != "without-schema") or report.blobs
    assert (report.set_aside is not None) == (how in ("garbage", "cut"))
    assert {image.id for image in report.images} == set(ids)
    assert len(report.indexes) == 1
    assert (report.damaged, report.incomplete) == ([], [])
    with Store.open(tmp_path) as store:
        assert verify(store) == []
        store.images.prune()  # without names they are what a prune removes, but what it leaves is whole
        assert verify(store) == []
    again = rebuild(tmp_path)
    assert (again.anew, again.blobs, again.images) == (False, 0, [])


def test_what_came_back_survives_a_prune_once_it_has_a_name(tmp_path: Path) -> None:
    ids = fill(tmp_path)
    lose(tmp_path, "emptied")
    rebuild(tmp_path)
    with Store.open(tmp_path) as store:
        for number, image_id in enumerate(ids):
            store.images.tag(Reference.parse(f"again:{number}"), image_id)
    with Store.open(tmp_path) as store:
        store.images.prune()
        assert {image.id for image in store.images.list()} == set(ids)
        assert verify(store) == []
        for image in store.images.list():
            for diff_id in image.diff_ids:
                with store.layers.open_checked([diff_id]) as (tar,):
                    assert tar.read(1)


def test_a_manifest_that_came_with_its_image_is_still_its_own(tmp_path: Path) -> None:
    own, came = fill(tmp_path)
    with Store.open(tmp_path) as store:
        before, made_here = store.images.get(came), store.images.get(own)
        packed = [store.layers.original(diff_id) for diff_id in before.diff_ids]
    lose(tmp_path, "emptied")
    rebuild(tmp_path)
    with Store.open(tmp_path) as store:
        after = store.images.get(came)
        assert after._replace(names=(), created_at=0) == before._replace(names=(), created_at=0)
        assert store.images.get(own).manifest_digest == made_here.manifest_digest
        assert [store.layers.original(diff_id) for diff_id in after.diff_ids] == packed


def test_a_layer_that_is_there_compressed_only_is_unpacked(tmp_path: Path) -> None:
    """As in the root of a registry."""
    with Store.open(tmp_path) as store:
        image = put_image(store, "app", 1)
        entry = pack(store, image)
        manifest = store.blobs.read(entry.digest)
        store.images.put(store.blobs.read(image.id), image.diff_ids, manifest=manifest)
        tar = store.layers.path(image.diff_ids[0])
    tar.unlink()
    lose(tmp_path, "emptied")
    assert [each.id for each in rebuild(tmp_path).images] == [image.id]
    with Store.open(tmp_path) as store:
        assert verify(store) == []
    assert tar.exists()


def test_a_damaged_layer_is_told_and_does_not_take_its_image_along(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        image = put_image(store, "app", 1, 2)
        flip_byte(store.layers.path(image.diff_ids[0]))
    lose(tmp_path, "emptied")
    report = rebuild(tmp_path)
    assert report.damaged == [image.diff_ids[0]]
    with Store.open(tmp_path) as store:
        assert [each.id for each in store.images.list()] == [image.id]
        assert store.layers.missing(image.diff_ids) == [image.diff_ids[0]]


def test_an_image_without_a_layer_is_told(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        image = put_image(store, "app", 1, 2)
        store.layers.path(image.diff_ids[0]).unlink()
    lose(tmp_path, "emptied")
    report = rebuild(tmp_path)
    ((digest, what),) = report.incomplete
    assert digest == image.id
    assert image.diff_ids[0] in what


def test_an_older_database_loses_no_newer_image(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        older = put_image(store, "older", 1, 2)
    shutil.copy(tmp_path / "store.db", tmp_path / "backup")
    with Store.open(tmp_path) as store:
        newer = put_image(store, "newer", 2, 3)
        index = Index(schema_version=2, media_type=OCI_INDEX, manifests=(pack(store, newer),))
        store.images.indexes.put(index, names=(Reference.parse("both"),))
        put_layer(store, 9)  # of no image: garbage, whichever database one asks
    lose(tmp_path, "deleted")
    shutil.move(tmp_path / "backup", tmp_path / "store.db")
    before = files(tmp_path)
    with Store.open(tmp_path) as store:
        report = store.images.prune(all_unused=False, cache=True)
    (told,) = [line for line in report.lines if line.startswith("kept:")]
    assert "--rebuild" in told
    assert len(before - files(tmp_path)) == 1
    made = rebuild(tmp_path)
    assert (made.anew, [image.id for image in made.images], len(made.indexes)) == (False, [newer.id], 1)
    with Store.open(tmp_path) as store:
        assert {image.id for image in store.images.list()} == {older.id, newer.id}
        assert store.images.resolve("older").id == older.id
        assert verify(store) == []
    with Store.open(tmp_path) as store:
        assert store.images.prune().lines == [f"deleted: {made.indexes[0]}", f"deleted: {newer.id}"]


def test_what_a_killed_process_leaves_is_garbage_as_before(tmp_path: Path) -> None:
    """One file without a row, be it a manifest."""
    with Store.open(tmp_path) as store:
        image = put_image(store, "app", 1)
        manifest = store.blobs.path(image.manifest_digest).read_bytes() + b"\n"
        config = store.blobs.path(image.id).read_bytes() + b"\n"
        for data in (manifest, config, b"{}", b"{", b"", b"x" * 100):
            (tmp_path / "blobs" / "sha256" / Digest.of(data).hex).write_bytes(data)
        assert not [line for line in store.images.prune().lines if line.startswith("kept:")]
        assert len(files(tmp_path)) == 3
        assert verify(store) == []


def test_what_a_killed_removal_leaves_is_garbage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows are gone, and a manifest and its config are there without them: that is no image which was lost."""
    fill(tmp_path / "root")

    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    with Store.open(tmp_path / "root") as store:
        before = files(tmp_path / "root")
        with monkeypatch.context() as patched:
            patched.setattr("images.collect.Collector._remove_files", killed)
            with pytest.raises(KeyboardInterrupt):
                store.images.remove("came")
        assert files(tmp_path / "root") == before
    with Store.open(tmp_path / "root") as store:
        assert not [line for line in store.images.prune().lines if line.startswith("kept:")]
        rows = {digest.removeprefix("sha256:") for (digest,) in store.database.all("SELECT digest FROM blobs")}
        assert files(tmp_path / "root") == rows
        assert store.database.all("SELECT key FROM meta WHERE key LIKE 'doomed:%'") == []


def test_an_empty_store_may_be_begun_again(tmp_path: Path) -> None:
    with Store.open(tmp_path):
        pass
    lose(tmp_path, "deleted")
    with Store.open(tmp_path) as store:
        assert store.images.list() == []


def test_a_database_that_somebody_uses_is_not_replaced(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        put_image(store, "app", 1)
        (tmp_path / "store.db").unlink()
        with pytest.raises(StoreBusyError, match="running processes"):
            rebuild(tmp_path)
    with pytest.raises(StoreLostError, match="missing or empty"):
        Store.open(tmp_path)
    assert len(rebuild(tmp_path).images) == 1


def test_a_place_without_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        rebuild(tmp_path / "nowhere")
    assert os.listdir(tmp_path) == []


KILLED_AT = """
import os, signal, sys
from pathlib import Path
from images import rebuild

def killed(*arguments, **more):
    os.kill(os.getpid(), signal.SIGKILL)

where = sys.argv[2]
target = {"note": (rebuild, "_take_in"), "images": (rebuild, "_make_images"), "indexes": (rebuild, "_make_indexes"),
          "end": (Path, "unlink"), "open": (rebuild.Store, "open_for_rebuild")}[where]
setattr(*target, killed)
rebuild.rebuild(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("older", [False, True], ids=["lost", "older"])
@pytest.mark.parametrize("where", ["open", "note", "images", "indexes", "end"])
def test_an_interrupted_rebuild_is_refused_and_runs_again(tmp_path: Path, where: str, older: bool) -> None:
    with Store.open(tmp_path):
        pass
    shutil.copy(tmp_path / "store.db", tmp_path / "backup")
    ids = fill(tmp_path)
    lose(tmp_path, "deleted")
    if older:
        shutil.move(tmp_path / "backup", tmp_path / "store.db")
    process = subprocess.run([sys.executable, "-c", KILLED_AT, str(tmp_path), where])
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(StoreLostError, match="interrupted"):
        Store.open(tmp_path)
    rebuild(tmp_path)
    with Store.open(tmp_path) as store:
        assert {image.id for image in store.images.list()} == set(ids)
        assert len(store.images.indexes.list()) == 1
        assert verify(store) == []
