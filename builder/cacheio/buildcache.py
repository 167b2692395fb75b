"""What a build asks for results: the store's records, then those of ``--cache-from``; and what of them it has used."""

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
    """The cache of one build; any number of threads may use it.

    A record from elsewhere answers before its layer is here: whoever needs the files calls ``provide`` first.
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
        """The result that has this key, for those for whom the step may ask."""
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
        """Whatever it is called there, here it counts for this domain alone: others did not choose to believe it."""
        for scope in step.asks:
            found = imports.get(scoped(key, scope))
            if found is not None:
                record = found._replace(key=scoped(key, step.own), scope=step.own, owner=step.owner)
                self._imported[record.key] = found, scope
                self._remember_remote(record)
                return record
        return None

    def put_as(self, keys: Iterable[str], record: CacheRecord, step: StepClass) -> None:
        """Remember a record that answered under these keys too."""
        scope = record.scope if record.scope == step.writes else step.own
        imported = self._imported.get(record.key)
        for key in keys:
            known = record._replace(key=scoped(key, scope), scope=scope)
            if imported is not None:
                found, there = imported
                self._imported[known.key] = found._replace(key=scoped(key, there)), there
            self._put(known)

    def put(self, key: str, record: CacheRecord, step: StepClass) -> None:
        """Remember a result that was made here, for those for whom it counts."""
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
        """Whether a record that the step may ask for has this operation digest, whatever its inputs were."""
        return self._store.cache.has_op(op, step.asks) or (self._imports is not None and self._imports.has_op(op))

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
        """All that answered or was made in this build and may go elsewhere, under every key that it is known by.

        That is what counts for this domain, its project, or everybody. What the protected lane alone made, and
        answered in another one, stays where it is: whoever reads this reads that lane's cache as well.
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
        """What this build leaves for a cache elsewhere, to be written there once the build is over."""
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
        """What answered or was made in this build, by the keys under which it was."""
        return dict(self._used)

    def start_again(self) -> None:
        """Forget what was used: a layer was lost, and everything is asked anew."""
        with self._lock:
            self._used.clear()
            self._imported.clear()
            self._remote.clear()

    def _remember_remote(self, record: CacheRecord) -> None:
        if record.diff_id is not None:
            with self._lock:
                self._remote.setdefault(record.diff_id, []).append(record)
