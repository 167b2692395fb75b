"""Making the database again from what is on disk: after it was lost, emptied, damaged, or replaced by an older copy.

    ROOT/store.db.rebuilding    flock: held by the process that is at it. Holds what had no row when it began. While it
                                is there the store does not open: what is not an image yet is garbage to others
    ROOT/store.db.damaged-N     a database that could not be read, with its WAL, set aside

Files whose content is what they are named for get their rows; configs and manifests make images, indexes make indexes.
A rebuild that was interrupted is run again. What only the database knew does not come back: see ``LOST``.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from core.digests import DiffID, Digest
from core.files import fsync_directory, fsync_file, try_lock
from images.damage import hash_file
from images.database import Database
from images.errors import ImagesError, StoreAccessError, StoreBusyError, StoreCorruptError
from images.found import Documents, blob_names, read_documents
from images.locks import exclusive
from images.oci import DOCKER_LAYER_GZIP, DOCKER_LAYER_ZSTD, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Manifest
from images.sessions import find_dead
from images.store import Store, has_lost_its_database, rebuilding_file
from images.summary import Image

LOST: Final = (
    "names of images",
    "what registries call images, and layers that had stayed there",
    "the build cache",
    "what runs keep: outputs of jobs, which the next prune removes, and which a retry makes again",
    "repositories, tags and artifacts of a registry that is kept in this root",
)
_BATCH: Final = 500  # rows per transaction
_END: Final = "."  # the last line of a list that is whole
_COMPRESSIONS: Final = {
    OCI_LAYER_GZIP: "gzip",
    DOCKER_LAYER_GZIP: "gzip",
    OCI_LAYER_ZSTD: "zstd",
    DOCKER_LAYER_ZSTD: "zstd",
}


@dataclass(slots=True)
class Rebuilt:
    """What came of a rebuild.

    anew: the database was lost, so that all that only it knew is gone.
    set_aside: where a damaged database is now; None when there was none.
    blobs: how many got a row.
    images: those that came back, without names.
    indexes: those that came back.
    damaged: files without the content that they are named for; they stay as they are.
    incomplete: configs and indexes that lack something, and what they lack.
    """

    anew: bool = False
    set_aside: Path | None = None
    blobs: int = 0
    images: list[Image] = field(default_factory=list)
    indexes: list[Digest] = field(default_factory=list)
    damaged: list[Digest] = field(default_factory=list)
    incomplete: list[tuple[Digest, str]] = field(default_factory=list)


def rebuild(root: Path) -> Rebuilt:
    """Give everything on disk its rows again; what has rows is left as it is. Takes as long as reading what has none.

    Raises StoreBusyError when a lost database is still in use or another process is at it, and as ``Store.open``.
    """
    root = root.absolute()
    if not (root / "blobs" / "sha256").is_dir():
        raise StoreAccessError(f"there is no store at {root}", hint="--root names the directory of one")
    report = Rebuilt(anew=has_lost_its_database(root))
    damaged = _is_damaged(root / "store.db")
    if damaged or report.anew:
        _refuse_if_used(root)
    with _alone(root), contextlib.ExitStack() as stack:
        if damaged:
            report.anew, report.set_aside = True, _set_aside(root / "store.db")
        store = stack.enter_context(Store.open_for_rebuild(root))
        wanted = _noted_orphans(store)
        found = read_documents(_directory(store), wanted)
        _take_in(store, wanted, report)
        _make_images(store, found, report)
        _make_indexes(store, found, report)
        for digest in report.damaged:  # last: an image may have a damaged layer, and is not made of one
            store.blobs.note_damaged(digest)
    return report


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """While the block runs, and after it when it is cut short, nobody else opens the store."""
    marker = rebuilding_file(root)
    lock_fd = try_lock(marker)
    if lock_fd is None:
        raise StoreBusyError(f"another process is making {root}/store.db again", hint="wait until it has ended")
    try:
        fsync_directory(root)
        yield
        marker.unlink()
        fsync_directory(root)
    finally:
        os.close(lock_fd)


def _noted_orphans(store: Store) -> list[Digest]:
    """The files that had no row when this rebuild began, also if that was in a run that was interrupted."""
    marker = rebuilding_file(store.root)
    noted = marker.read_text().split("\n")
    if noted[-1] != _END:
        known = {digest for (digest,) in store.database.all("SELECT digest FROM blobs")}
        noted = [*sorted(set(blob_names(_directory(store))) - known), _END]
        with open(marker, "r+") as file:  # in place: the lock is on this file
            file.truncate()
            file.write("\n".join(noted))
            file.flush()
            os.fsync(file.fileno())
    return [Digest(digest) for digest in noted[:-1]]


def _is_damaged(path: Path) -> bool:
    """Whether there is a database that SQLite finds fault with."""
    if not path.exists() or not path.stat().st_size:
        return False
    try:
        database = Database(path)
        try:
            return bool(database.one("PRAGMA quick_check(1)")[0] != "ok")
        finally:
            database.close()
    except StoreCorruptError:
        return True


def _refuse_if_used(root: Path) -> None:
    """Raises StoreBusyError when a process is alive that writes to the database that is lost."""
    if not (root / "tmp").is_dir():
        return
    with exclusive(root / "tmp" / ".lock"):
        dead = find_dead(root)
        with os.scandir(root / "tmp") as entries:
            alive = {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)} - set(dead)
    for lock_fd in dead.values():
        if lock_fd is not None:
            os.close(lock_fd)
    if alive:
        raise StoreBusyError(
            f"running processes ({len(alive)}) use {root}, whose database is lost", hint="end them, then rebuild"
        )


def _set_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    os.rename(path, aside)
    for suffix in ("-wal", "-shm"):  # SQLite would take what is in it for the new database's
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{path}{suffix}", f"{aside}{suffix}")
    return aside


def _take_in(store: Store, wanted: Sequence[Digest], report: Rebuilt) -> None:
    """Give these files rows, and note which are damaged."""
    directory = _directory(store)
    for at in range(0, len(wanted), _BATCH):
        some = wanted[at : at + _BATCH]
        store.blobs.lease(some)
        rows = []
        for digest in some:
            path = f"{directory}/{digest.hex}"
            with contextlib.suppress(FileNotFoundError):  # pruned before the lease was there
                if hash_file(path) != digest.hex:
                    report.damaged.append(digest)
                fsync_file(path)
                st = os.stat(path)
                rows.append((digest, st.st_size, st.st_mtime, 0))
        fsync_directory(directory)
        with store.database.transaction(durable=True) as connection:
            connection.executemany("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?)", rows)
        report.blobs += len(rows)


def _directory(store: Store) -> str:
    return str(store.root / "blobs" / "sha256")


def _make_images(store: Store, found: Documents, report: Rebuilt) -> None:
    manifests: dict[Digest, list[tuple[Manifest, bytes]]] = {}
    for manifest, data in found.manifests.values():
        manifests.setdefault(manifest.config.digest, []).append((manifest, data))
    for image_id, (config, data) in found.configs.items():
        diff_ids = config.rootfs.diff_ids
        fitting = [each for each in manifests.get(image_id, ()) if len(each[0].layers) == len(diff_ids)]
        if not fitting:
            continue  # a config by itself is what an interrupted build or pull left
        own = any(all(layer.digest in diff_ids for layer in manifest.layers) for manifest, _ in fitting)
        given = None if own else fitting[0][1]  # pulled images have no manifest but the one that they came with
        try:
            _have_layers(store, diff_ids, fitting)
            image = store.images.put(data, diff_ids, manifest=given)
        except ImagesError as error:
            report.incomplete.append((image_id, error.message))
        else:
            report.images.append(image)


def _have_layers(store: Store, diff_ids: tuple[DiffID, ...], manifests: list[tuple[Manifest, bytes]]) -> None:
    """Register the image's layers, each by its tar, or unpacked from a compressed blob. Raises ImagesErrors."""
    for position, diff_id in enumerate(diff_ids):
        packed = [manifest.layers[position] for manifest, _ in manifests]
        if not store.layers.has(diff_id) and not store.blobs.has(diff_id):
            blob = next((each for each in packed if store.blobs.has(each.digest)), None)
            if blob is None:
                raise store.blobs.absent(diff_id, "layer")
            with store.blobs.open(blob.digest) as stream:
                store.layers.import_compressed(stream, diff_id=diff_id)
        with store.database.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO layers (diff_id, size, created_at) VALUES (?, ?, ?)",
                (diff_id, store.blobs.size(diff_id), time.time()),
            )
            connection.executemany(
                "INSERT OR IGNORE INTO compressed VALUES (?, ?, ?, ?, NULL)",
                [
                    (diff_id, each.digest, each.size, _COMPRESSIONS[each.media_type])
                    for each in packed
                    if each.media_type in _COMPRESSIONS and store.blobs.has(each.digest)
                ],
            )


def _make_indexes(store: Store, found: Documents, report: Rebuilt) -> None:
    for digest, (_, data) in found.indexes.items():
        try:
            store.images.indexes.put(data)
        except ImagesError as error:
            report.incomplete.append((digest, error.message))
        else:
            report.indexes.append(digest)
