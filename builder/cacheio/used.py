"""What a build has used and made of the cache, apart from the build: it can be handed to another process."""

from __future__ import annotations

import msgspec

from core.digests import DiffID
from images.oci import Descriptor
from images.records import CacheRecord


class UsedCache(msgspec.Struct, frozen=True):
    """All that writing the cache elsewhere takes.

    records: that may travel, sorted.
    keys: of the records that answered here, or were made; looking them up leases their layers.
    elsewhere: blobs of layers as a cache has them that this build read. The layers need not be here.
    """

    records: tuple[CacheRecord, ...]
    keys: tuple[str, ...]
    elsewhere: dict[DiffID, Descriptor]
