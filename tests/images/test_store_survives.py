"""What the store must survive: SIGKILL at any instant, several processes at once, a full disk."""

from __future__ import annotations

import gzip
import io
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.digests import Digest
from core.errors import StorageFullError
from core.platforms import Platform
from core.references import Reference
from images.oci import Descriptor, ImageConfig
from images.records import CacheRecord
from images.store import Store
from images.verify import verify
from tests.toolkit.bounds import Deadline, stretched

# Writes, tags, looks up, indexes, prunes and removes, for ever; any error but the expected ones ends it with status 1.
WORKLOAD = """
import io, os, random, sys, tarfile
from pathlib import Path
from core.platforms import Platform
from core.references import Reference
from images.errors import ImageNotFoundError
from images.oci import ImageConfig
from images.records import CacheRecord
from images.store import Store

seed, root, turns = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
random.seed(seed)

def tar(number):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as file:
        info = tarfile.TarInfo(f"file{number}")
        info.size = 20_000
        file.addfile(info, io.BytesIO(bytes([number]) * info.size))
    return made.getvalue()

print("ready", flush=True)
while turns:
    turns -= 1
    with Store.open(root) as store:
        diff_ids = []
        for _ in range(3):
            number = random.randrange(8)
            with store.layers.writer(sync=random.random() < 0.5) as writer:
                writer.write(tar(number))
                diff_id = writer.commit()
            if random.random() < 0.3:
                upper = store.snapshots.new_upper()
                Path(upper.path, "fs", f"file{number}").write_bytes(bytes([number]) * 20_000)
                if random.random() < 0.7:
                    store.snapshots.adopt(upper, diff_id, ())
            diff_ids.append(diff_id)
            store.cache.put(CacheRecord(f"key{number}", "op", diff_id, 1.0, 1.0, "RUN"))
        store.snapshots.lowers(diff_ids)
        if random.random() < 0.3:
            store.layers.compressed(diff_ids[0], "gzip")
        image = store.images.put(ImageConfig.for_platform(Platform.host()), diff_ids)
        store.images.tag(Reference.parse(f"app:{random.randrange(4)}"), image.id)
        found = store.cache.get(f"key{random.randrange(8)}")
        if found is not None:
            with store.layers.open(found.diff_id) as file:
                assert len(file.read()) > 20_000
        if random.random() < 0.4:
            store.images.prune(all_unused=random.random() < 0.3, cache=random.random() < 0.3)
        if random.random() < 0.3:
            try:
                store.images.remove(f"app:{random.randrange(4)}")
            except ImageNotFoundError:
                pass
        # What this session wrote is still there, whatever the others prune.
        for diff_id in diff_ids:
            with store.layers.open(diff_id) as file:
                assert len(file.read()) > 20_000, diff_id
"""


def start(seed: int, root: Path, turns: int = -1) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKLOAD, str(seed), str(root), str(turns)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def assert_sound(root: Path) -> None:
    """Nothing left over but what rows mention, and all of it right."""
    until = Deadline(5)
    while True:
        with Store.open(root) as store:
            sessions = [name for name in os.listdir(root / "tmp") if not name.startswith(".")]
        # A child of the killed process has its lock, too, from being forked until it is another program.
        if sessions == [store.tmp.name] or until.passed():
            break
        time.sleep(0.01)
    assert sessions == [store.tmp.name]
    with Store.open(root) as store:
        assert verify(store) == []
        for image in store.images.list():
            for diff_id in image.diff_ids:
                assert store.layers.has(diff_id)
    with Store.open(root) as store:
        while True:
            store.images.prune()
            digests = store.database.all("SELECT digest FROM blobs")
            rows = {digest.removeprefix("sha256:") for (digest,) in digests}
            files = set(os.listdir(root / "blobs" / "sha256"))
            if files == rows or until.passed():  # such a child may have a blob's lock as well
                break
            time.sleep(0.01)
        assert files == rows
        snapshots = {path for (path,) in store.database.all("SELECT path FROM snapshots WHERE path IS NOT NULL")}
        assert set(os.listdir(root / "snapshots")) - {".locks"} == snapshots
        assert verify(store) == []


def test_sigkill_at_any_moment_leaves_a_sound_store(tmp_path: Path) -> None:
    moments = random.Random(1)
    for number in range(50):
        process = start(number, tmp_path)
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(moments.random() * 0.12)
        process.kill()
        _, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors
        if number % 5 == 4:
            assert_sound(tmp_path)
    assert_sound(tmp_path)
    with Store.open(tmp_path) as store:
        store.images.prune(all_unused=True, cache=True)
    assert os.listdir(tmp_path / "blobs" / "sha256") == []


def test_processes_that_write_and_prune_at_once_never_lose_what_they_lease(tmp_path: Path) -> None:
    processes = [start(100 + number, tmp_path, turns=15) for number in range(4)]
    for process in processes:
        _, errors = process.communicate(timeout=stretched(200))
        assert process.returncode == 0, errors
    assert_sound(tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path, privileged: None) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


def until_full(write: Callable[[], object]) -> None:
    for _ in range(10_000):
        write()


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


def test_a_blob_that_does_not_fit_is_an_error_and_leaves_no_trace(small_disk: Path) -> None:
    with Store.open(small_disk / "root") as store:
        kept = store.blobs.put(b"kept")
        with store.layers.writer() as writer, pytest.raises(StorageFullError, match="no space left") as caught:
            until_full(lambda: writer.write(os.urandom(1 << 20)))
        assert caught.value.hint
        assert os.listdir(store.tmp) == ["lock"]
        assert store.blobs.read(kept) == b"kept"
        assert store.blobs.read(store.blobs.put(b"and on it goes")) == b"and on it goes"
        assert verify(store) == []


def test_a_large_layer_that_does_not_fit_is_an_error_and_leaves_no_trace(small_disk: Path) -> None:
    packed = gzip.compress(random.Random(1).randbytes(20 << 20), 0)
    expected = Descriptor(media_type="", digest=Digest.of(packed), size=len(packed))
    with Store.open(small_disk / "root") as store:
        with pytest.raises(StorageFullError, match="no space left"):
            store.layers.import_compressed(io.BytesIO(packed), expected=expected)
        assert os.listdir(store.tmp) == ["lock"]
        assert os.listdir(small_disk / "root" / "blobs" / "sha256") == []


def test_a_snapshot_that_does_not_fit_leaves_no_trace(small_disk: Path) -> None:
    with Store.open(small_disk / "root") as store:
        source = small_disk / "source"
        source.mkdir()
        for number in range(2000):
            (source / f"{number}").touch()
        with store.layers.writer() as writer:
            made = subprocess.run(["tar", "-C", str(source), "-cf", "-", "."], stdout=subprocess.PIPE, check=True)
            writer.write(made.stdout)
            diff_id = writer.commit()
        fill(small_disk / "ballast")
        with pytest.raises(StorageFullError):
            store.snapshots.lowers([diff_id])
        assert [name for name in os.listdir(store.root / "snapshots") if name != ".locks"] == []
        (small_disk / "ballast").unlink()
        assert len(store.snapshots.lowers([diff_id])) == 1


@pytest.mark.parametrize("opened", ["before", "after"])
def test_a_full_disk_can_be_cleaned_up(small_disk: Path, opened: str) -> None:
    root = small_disk / "root"
    with Store.open(root) as store:
        for number in range(3):
            with store.layers.writer() as writer:
                writer.write(os.urandom(1 << 20))
                diff_id = writer.commit()
            store.cache.put(CacheRecord(f"{number}", "op", diff_id, 1.0, 1.0, "RUN"))
            image = store.images.put(ImageConfig.for_platform(Platform.host()), [diff_id])
            store.images.tag(Reference.parse("app"), image.id)
    dead = start(1, root)
    assert dead.stdout is not None
    assert dead.stdout.readline() == "ready\n"
    dead.kill()
    dead.communicate()
    if opened == "after":
        fill(small_disk / "others")
    with Store.open(root) as store:
        if opened == "before":
            fill(small_disk / "others")
            with pytest.raises(StorageFullError):
                until_full(lambda: store.cache.memo_put("kind", os.urandom(9).hex(), os.urandom(10_000)))
        report = store.images.prune(all_unused=True, cache=True)
        assert report.freed_bytes >= 3 << 20
        assert store.blobs.has(store.blobs.put(b"there is room again"))
        assert not store.blobs.has(Digest.of(b"never written"))
    assert (root / "store.db.ballast").exists()


def test_a_store_can_be_made_by_several_processes_at_once(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from images.store import Store\n"
    code += "with Store.open(Path(sys.argv[1])) as store: store.blobs.put(b'x')"
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "root")]) for _ in range(6)]
    assert [process.wait() for process in processes] == [0] * 6
    assert_sound(tmp_path / "root")
