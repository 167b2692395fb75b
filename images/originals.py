"""The compressed blobs that layers came in. A push of an image sends just these bytes again: no digest changes.

Each is kept beside its layer's tar, unless it can be had again: where the tar was compressed again and just these bytes
came of it, or where an administrator said so and the registry that it came from answers
(``SHIPLAP_KEEP_PULLED_GZIP``).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from core.cancellation import check
from core.digests import DiffID, Digest
from images.errors import ImagesError
from images.matching import AnotherTarError, Compared

if TYPE_CHECKING:
    from images.layers import Compression
    from images.oci import Descriptor
    from images.store import Store

_TRIED: Final = "gzip.tried"  # memo: by library and blob, whether it makes the blob
_LEVEL: Final = 1  # of the bytes that we make
_CHUNK_BYTES: Final = 1 << 20
_KEPT_AS_THEY_CAME: Final = (
    "SELECT c.diff_id, c.digest FROM compressed c JOIN sound_blobs b ON b.digest = c.digest"
    " JOIN sound_layers l ON l.diff_id = c.diff_id WHERE c.level IS NULL AND c.compression = 'gzip' ORDER BY b.size"
)
_LOST: Final = (
    "SELECT c.digest FROM compressed c WHERE c.diff_id = ? AND c.level IS NULL"
    " AND NOT EXISTS (SELECT 1 FROM sound_blobs b WHERE b.digest = c.digest)"
    " AND NOT EXISTS (SELECT 1 FROM origins o WHERE o.diff_id = c.diff_id AND o.digest = c.digest)"
)


def release(store: Store) -> int:
    """Remove those gzips that are made again, byte for byte, of their layers. Returns the bytes that this frees.

    Each is tried once; most that others made differ at their beginning. Asks whether the work has to end.
    """
    rows = store.database.all(_KEPT_AS_THEY_CAME)
    pairs = [(DiffID(diff_id), Digest(digest)) for diff_id, digest in rows]
    return store.remove_remade([pair for pair in pairs if _is_remade(store, *pair)], _LEVEL)


def bring_back(store: Store, diff_id: DiffID, blob: Digest) -> bool:
    """Have the layer's compressed blob here again, if it can be made of the layer. Returns whether it was made of it.

    Who holds the layer could make the blob as well: that it is here for others gives nobody a right to it.
    """
    row = store.database.one(
        "SELECT compression, level FROM compressed WHERE diff_id = ? AND digest = ? AND level IS NOT NULL",
        (diff_id, blob),
    )
    if row is None or not store.layers.has(diff_id):
        return False
    compression: Compression = row[0]
    return store.layers.compressed(diff_id, compression, row[1]).digest == blob


def lost(store: Store, diff_ids: Iterable[DiffID]) -> set[Digest]:
    """Blobs that these layers came as that are not here, are not made again, and that no place is known to have."""
    return {Digest(digest) for each in set(diff_ids) for (digest,) in store.database.all(_LOST, (each,))}


def left(store: Store, diff_id: DiffID, compression: Compression) -> Descriptor | None:
    """The blob that a layer came as and that its registry alone has by now; None where it is here, or never was."""
    from images.oci import Descriptor

    row = store.database.one(
        "SELECT o.media_type, o.digest, o.size FROM compressed c JOIN origins o"
        " ON o.diff_id = c.diff_id AND o.digest = c.digest WHERE c.diff_id = ? AND c.compression = ?"
        " AND c.level IS NULL AND c.digest NOT IN (SELECT digest FROM sound_blobs) ORDER BY o.noted_at DESC LIMIT 1",
        (diff_id, compression),
    )
    return None if row is None else Descriptor(media_type=row[0], digest=Digest(row[1]), size=row[2])


def _is_remade(store: Store, diff_id: DiffID, digest: Digest) -> bool:
    import isal

    from images.gzipping import VERSION

    key = f"{isal.__version__} {VERSION} {digest}"
    known = store.cache.memo_get(_TRIED, key)
    if known is None:
        try:
            known = b"same" if _try(store, diff_id, digest) else b"another"
        except (ImagesError, OSError):  # the layer is damaged, or one of the two is gone: that says nothing of the blob
            return False
        store.cache.memo_put(_TRIED, key, known)
    return known == b"same"


def _try(store: Store, diff_id: DiffID, digest: Digest) -> bool:
    """Whether compressing the layer makes the blob. Without a lease of the blob: it may go.

    Raises ImagesErrors and OSError.
    """
    from images.compression import CompressingWriter

    with (
        contextlib.suppress(AnotherTarError),
        Path(store.root / "blobs" / "sha256" / digest.hex).open("rb") as blob,
        store.layers.open_checked([diff_id]) as (tar,),
    ):
        sink = _Hashed(Compared(blob.fileno()))
        with CompressingWriter(sink, "gzip", _LEVEL) as writer:
            while data := tar.read(_CHUNK_BYTES):
                check()
                writer.write(data)
        return sink.digest() == digest
    return False


class _Hashed:
    """Compares first, for that ends early."""

    def __init__(self, sink: Compared) -> None:
        self._sink = sink
        self._hash = hashlib.sha256()

    def write(self, data: bytes, /) -> None:
        self._sink.write(data)
        self._hash.update(data)

    def digest(self) -> Digest:
        return Digest.from_hex(self._hash.hexdigest())
