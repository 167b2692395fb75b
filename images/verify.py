"""Reads everything in the store again and compares: every digest, and every row that refers to another."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from core.digests import DiffID, Digest
from images.damage import hash_file
from images.errors import InvalidDocumentError, MissingBlobError
from images.oci import decode_config, decode_manifest
from images.store import Store


class Problem(NamedTuple):
    """One thing in the store that is not right.

    digest: of the blob or image that is not right; or a name or key. what: one line.
    """

    digest: str
    what: str


def verify(store: Store) -> list[Problem]:
    """Check all content; takes as long as reading it. Empty when all is well.

    What others remove during the check is no problem.
    Blobs that are damaged count as absent from here on (damage.py), and those that are right again as here.
    """
    blobs = store.database.all(_BLOBS)
    problems = [problem for row in blobs if (problem := _check_blob(store, *row)) is not None]
    damaged = {problem.digest for problem in problems}
    for digest in damaged:
        store.blobs.note_damaged(Digest(digest))
    store.blobs.damage().note_sound([Digest(digest) for digest, _ in blobs if digest not in damaged])
    for image_id, manifest_digest in store.database.all("SELECT id, manifest_digest FROM images"):
        if image_id not in damaged and manifest_digest not in damaged:
            problem = _check_image(store, Digest(image_id), Digest(manifest_digest))
            problems += [problem] if problem is not None else []
    for sql, what in _DANGLING:
        problems += [Problem(key, what) for (key,) in store.database.all(sql)]
    return problems


_BLOBS: Final = "SELECT digest, size FROM blobs ORDER BY digest"
_UNMET_PINS: Final = (
    "SELECT DISTINCT holder FROM container_pins WHERE object LIKE 'sha256:%'"
    " AND object NOT IN (SELECT digest FROM blobs) AND object NOT IN (SELECT diff_id FROM origins)"
)
_LOST_ORIGINALS: Final = (  # those that nobody can make, or ask for, again
    "SELECT digest FROM compressed c WHERE level IS NULL AND digest NOT IN (SELECT digest FROM blobs)"
    " AND NOT EXISTS (SELECT 1 FROM origins o WHERE o.diff_id = c.diff_id AND o.digest = c.digest)"
)
_DANGLING: Final = (
    ("SELECT name FROM names WHERE image_id NOT IN (SELECT id FROM images)", "the name of no image"),
    ("SELECT diff_id FROM layers WHERE diff_id NOT IN (SELECT digest FROM blobs)", "a layer without its tar"),
    (_LOST_ORIGINALS, "a compressed layer without blob"),
    ("SELECT id FROM images WHERE id NOT IN (SELECT digest FROM blobs)", "an image without its config"),
    ("SELECT id FROM images WHERE manifest_digest NOT IN (SELECT digest FROM blobs)", "an image without its manifest"),
    (_UNMET_PINS, "a container needs what is not there"),
    ("SELECT name FROM kept_objects WHERE object NOT IN (SELECT digest FROM blobs)", "a run keeps what is not there"),
    ("SELECT digest FROM pins WHERE digest NOT IN (SELECT digest FROM blobs)", "pinned content that is not there"),
    (
        "SELECT image_id FROM image_layers WHERE diff_id NOT IN (SELECT diff_id FROM known_layers)",
        "an image that lacks a layer",
    ),
    ("SELECT digest FROM indexes WHERE digest NOT IN (SELECT digest FROM blobs)", "an index without its document"),
    (
        "SELECT index_digest FROM index_blobs WHERE digest NOT IN (SELECT digest FROM blobs)",
        "an index that lacks a manifest or artifact",
    ),
    (
        "SELECT index_digest FROM index_entries WHERE image_id IS NOT NULL AND image_id NOT IN (SELECT id FROM images)",
        "an index that lacks an image",
    ),
    (
        "SELECT name FROM names WHERE index_digest IS NOT NULL AND index_digest NOT IN (SELECT digest FROM indexes)",
        "the name of no index",
    ),
)


def _check_blob(store: Store, digest: str, size: int) -> Problem | None:
    path = store.root / "blobs" / "sha256" / digest.removeprefix("sha256:")
    try:
        actual = os.stat(path).st_size
        if actual != size:
            return Problem(digest, f"{actual} bytes, expected {size}")
        found = "sha256:" + hash_file(str(path))
    except FileNotFoundError:
        if store.database.one("SELECT 1 FROM blobs WHERE digest = ?", (digest,)) is None:
            return None  # removed since we listed it
        return Problem(digest, "the file is missing")
    except OSError as error:
        return Problem(digest, f"cannot be read: {error.strerror}")
    return None if found == digest else Problem(digest, f"the content has digest {found}")


def _check_image(store: Store, image_id: Digest, manifest_digest: Digest) -> Problem | None:
    rows = store.database.all("SELECT diff_id FROM image_layers WHERE image_id = ? ORDER BY position", (image_id,))
    layers = tuple(DiffID(diff_id) for (diff_id,) in rows)
    try:
        config = decode_config(store.blobs.read(image_id))
        manifest = decode_manifest(store.blobs.read(manifest_digest))
    except MissingBlobError:
        if store.database.one("SELECT 1 FROM images WHERE id = ?", (image_id,)) is None:
            return None
        return Problem(image_id, "config or manifest is missing")
    except InvalidDocumentError as error:
        return Problem(image_id, error.message)
    if config.rootfs.diff_ids != layers:
        return Problem(image_id, "the config names other layers than the store")
    # (The manifest of a pulled image names compressed layers, which need not be here.)
    if manifest.config.digest != image_id or len(manifest.layers) != len(layers):
        return Problem(image_id, "the manifest names another config or other layers")
    return None
