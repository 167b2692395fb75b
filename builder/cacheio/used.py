"""The records that a build used and made, as data: another process can write them to a cache elsewhere."""

from __future__ import annotations

import msgspec

from core.digests import DiffID
from images.oci import Descriptor
from images.records import CacheRecord


class UsedCache(msgspec.Struct, frozen=True):
    """Everything that is needed to write the cache elsewhere.

    records: those that may leave this machine, sorted.
    keys: keys of the records that answered or were made here; looking them up leases their layers.
    elsewhere: blobs of layers in the caches that this build read. The layers need not be here.
    """

    records: tuple[CacheRecord, ...]
    keys: tuple[str, ...]
    elsewhere: dict[DiffID, Descriptor]
