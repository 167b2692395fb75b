"""What a build asks for results: the store's records, then those of ``--cache-from``; and what of them it has used."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from core.digests import DiffID
from images.errors import MissingBlobError
from images.records import CacheRecord
from images.store import Store

if TYPE_CHECKING:
    from builder.cacheio.importing import CacheImports
    from images.oci import Descriptor


class BuildCache:
    """The cache of one build; any number of threads may use it.

    A record from elsewhere answers before its layer is here: whoever needs the files calls ``provide`` first.
    """

    def __init__(self, store: Store, imports: CacheImports | None = None) -> None:
        self._store = store
        self._imports = imports
        self._used: dict[str, CacheRecord] = {}
        self._remote: dict[DiffID, list[CacheRecord]] = {}
        self._lock = threading.Lock()
        self._fetching = threading.Lock()

    def get(self, key: str) -> CacheRecord | None:
        """The result that has this key."""
        record = self._store.cache.get(key)
        if record is None and self._imports is not None:
            record = self._imports.get(key)
            if record is not None:
                self._remember_remote(record)
        if record is not None:
            self._used[key] = record
        return record

    def put(self, record: CacheRecord) -> None:
        """Remember a result: made here, or found under another key."""
        self._used[record.key] = record
        try:
            self._store.cache.put(record)
        except MissingBlobError:
            if record.diff_id not in self._remote:
                raise
            self._remember_remote(record)

    def has_op(self, op: str) -> bool:
        """Whether any record has this operation digest, whatever its inputs were."""
        return self._store.cache.has_op(op) or (self._imports is not None and self._imports.has_op(op))

    def provide(self, diff_ids: Iterable[DiffID]) -> None:
        """Have these layers in the store. Raises LayerLostError, after which everything is to be asked again."""
        if self._imports is None or not self._remote:
            return
        with self._fetching:  # another thread may be at the same layers
            wanted = [diff_id for diff_id in diff_ids if diff_id in self._remote]
            missing = self._store.layers.missing(wanted)
            if missing:
                self._imports.fetch(missing)
            for diff_id in wanted:
                with self._lock:
                    records = self._remote.pop(diff_id, [])
                for record in records:
                    self._store.cache.put(record)

    def imported_layer(self, diff_id: DiffID) -> Descriptor | None:
        """The blob of a layer in the cache that it was found in, if it was and that has it."""
        found = self._imports.find_layer(diff_id) if self._imports is not None and diff_id in self._remote else None
        return None if found is None else found[1]

    def has_layer(self, diff_id: DiffID) -> bool:
        """Whether the layer is in the store or in a cache that answered: with ``mode=min`` a record is all there is."""
        return self._store.layers.has(diff_id) or self.imported_layer(diff_id) is not None

    def used(self) -> list[CacheRecord]:
        """All that answered or was made in this build, under every key that it is known by."""
        known = dict(self._used)
        for record in self._used.values():
            others = self._store.cache.siblings(record)
            others += self._imports.siblings(record) if self._imports is not None else ()
            known.update((other.key, other) for other in others)
        return list(known.values())

    def answers(self) -> dict[str, CacheRecord]:
        """What answered or was made in this build, by the keys under which it was."""
        return dict(self._used)

    def start_again(self) -> None:
        """Forget what was used: a layer was lost, and everything is asked anew."""
        with self._lock:
            self._used.clear()
            self._remote.clear()

    def _remember_remote(self, record: CacheRecord) -> None:
        if record.diff_id is not None:
            with self._lock:
                self._remote.setdefault(record.diff_id, []).append(record)
