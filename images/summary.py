"""An image as the store describes it."""

from __future__ import annotations

from typing import NamedTuple

from core.digests import DiffID, Digest
from core.references import Reference
from images.oci import ImageConfig


class Image(NamedTuple):
    """An image in the store.

    id: the config's digest.
    diff_ids: its layers, base first.
    names: sorted, also those of indexes that it belongs to.
    created_at: when it came into this store, seconds since the epoch.
    size_bytes: of its uncompressed layers, those that are here.
    manifest_is_given: it came with the image, and is kept byte for byte; else it was made here.
    """

    id: Digest
    manifest_digest: Digest
    config: ImageConfig
    diff_ids: tuple[DiffID, ...]
    names: tuple[Reference, ...]
    created_at: float
    size_bytes: int
    manifest_is_given: bool = False
