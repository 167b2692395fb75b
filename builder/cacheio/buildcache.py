"""The cache of one build: asks the store's records, then those of ``--cache-from``, and notes which it used."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from core.digests import DiffID
from core.trust import COMMON, Domain, Scope, scoped
from images.errors import MissingBlobError
from images.records import CacheRecord
from images.store import Store

if TYPE_CHECKING:
    from builder.cacheio.classes import StepClass
    from builder.cacheio.importing import CacheImports
    from builder.cacheio.used import UsedCache
    from images.oci import Descriptor


class BuildCache:
    """The cache of one build. Any number of threads may use it.

    A record from elsewhere answers before its layer is here. Call ``provide`` before using the layer's files.
    """

    def __init__(self, store: Store, domain: Domain, imports: CacheImports | None = None) -> None:
        self._store = store
        self._domain = domain
        self._imports = imports
        self._used: dict[str, CacheRecord] = {}
        self._imported: dict[str, tuple[CacheRecord, Scope]] = {}  # as it was found, and under which scope
        self._remote: dict[DiffID, list[CacheRecord]] = {}
        self._lock = threading.Lock()
        self._fetching = threading.Lock()

    def get(self, key: str, step: StepClass) -> CacheRecord | None:
        """The record with this key, from the scopes that the step may ask."""
        record = self._here(key, step) or (None if self._imports is None else self._elsewhere(key, step, self._imports))
        if record is not None:
            self._used[record.key] = record
        return record

    def _here(self, key: str, step: StepClass) -> CacheRecord | None:
        for scope in step.asks:
            record = self._store.cache.get(scoped(key, scope))
            if record is not None:
                return record
        return None

    def _elsewhere(self, key: str, step: StepClass, imports: CacheImports) -> CacheRecord | None:
        """A record from elsewhere. It counts for this domain alone: others did not choose to trust that cache."""
        for scope in step.asks:
            found = imports.get(scoped(key, scope))
            if found is not None:
                record = found._replace(key=scoped(key, step.own), scope=step.own, owner=step.owner)
                self._imported[record.key] = found, scope
                self._remember_remote(record)
                return record
        return None

    def put_as(self, keys: Iterable[str], record: CacheRecord, step: StepClass) -> None:
        """Remember an answer under these further keys."""
        scope = record.scope if record.scope == step.writes else step.own
        imported = self._imported.get(record.key)
        for key in keys:
            known = record._replace(key=scoped(key, scope), scope=scope)
            if imported is not None:
                found, there = imported
                self._imported[known.key] = found._replace(key=scoped(key, there)), there
            self._put(known)

    def put(self, key: str, record: CacheRecord, step: StepClass) -> None:
        """Remember a result that was made here, in the scope for which it counts."""
        self._put(record._replace(key=step.key(key), scope=step.writes, owner=step.owner))

    def _put(self, record: CacheRecord) -> None:
        self._used[record.key] = record
        try:
            self._store.cache.put(record)
        except MissingBlobError:
            if record.diff_id not in self._remote:
                raise
            self._remember_remote(record)

    def has_op(self, op: str, step: StepClass) -> bool:
        """Whether some record that the step may use has this operation digest, with whatever inputs."""
        return self._store.cache.has_op(op, step.asks) or (self._imports is not None and self._imports.has_op(op))

    def provide(self, diff_ids: Iterable[DiffID]) -> None:
        """Bring these layers into the store. After LayerLostError, ask the cache everything again."""
        if self._imports is None or not self._remote:
            return
        with self._fetching:  # another thread may be fetching the same layers
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
        """The layer's blob in the cache elsewhere that named the layer; None when no such cache has the blob."""
        found = self._imports.find_layer(diff_id) if self._imports is not None and diff_id in self._remote else None
        return None if found is None else found[1]

    def has_layer(self, diff_id: DiffID) -> bool:
        """Whether the store, or a cache that answered, has the layer. ``mode=min`` may leave the record alone."""
        return self._store.layers.has(diff_id) or self.imported_layer(diff_id) is not None

    def used(self) -> list[CacheRecord]:
        """The records that answered or were made in this build and may go elsewhere, under each of their keys.

        These are the records that count for this domain, for its project or for everybody. A record that the protected
        lane made, and that answered in another lane, stays where it is: who reads this cache also reads that lane's.
        """
        domain = self._domain
        travels = {domain.scope} if domain.is_fork else {domain.scope, domain.project_scope, COMMON}
        made = [record for record in self._used.values() if record.key not in self._imported]
        known = {record.key: record for record in made if record.scope in travels}
        for record in list(known.values()):
            known.update((other.key, other) for other in self._store.cache.siblings(record))
        for record, _ in self._imported.values():
            assert self._imports is not None
            known[record.key] = record
            known.update((other.key, other) for other in self._imports.siblings(record))
        return list(known.values())

    def leaves(self) -> UsedCache:
        """What is to be written to a cache elsewhere, once the build is over."""
        from builder.cacheio.used import UsedCache

        records = tuple(sorted(self.used()))
        elsewhere = {}
        if self._imports is not None:
            for record in records:
                found = None if record.diff_id is None else self._imports.find_layer(record.diff_id)
                if record.diff_id is not None and found is not None:
                    elsewhere[record.diff_id] = found[1]
        return UsedCache(records, tuple(self._used), elsewhere)

    def answers(self) -> dict[str, CacheRecord]:
        """The records that answered or were made in this build, by key."""
        return dict(self._used)

    def start_again(self) -> None:
        """Forget which records were used: a layer was lost, so everything is asked again."""
        with self._lock:
            self._used.clear()
            self._imported.clear()
            self._remote.clear()

    def _remember_remote(self, record: CacheRecord) -> None:
        if record.diff_id is not None:
            with self._lock:
                self._remote.setdefault(record.diff_id, []).append(record)
