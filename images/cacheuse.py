"""The build cache's use of the disk, item by item, and its trimming: the least recently used goes first.

An item is a layer that a cached step left, a cache mount, a lane of a job's cache, or a mirror of a repository.
Snapshots are derived: they go first. What a living session has leased stays, and so does every layer of an image.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from core.settings import CacheMax
from images.cachemounts import CacheMounts
from images.collect import Collector, PruneReport
from images.database import Database
from images.generations import Generations
from images.mirrors import Mirrors
from images.records import CacheRecords
from images.sessions import Session
from images.trees import tree_bytes

ItemType: TypeAlias = Literal["layer", "mount", "cache", "mirror"]

_MOUNT_SIZES: Final = "mount-size"
_MIRROR_SIZES: Final = "mirror-size"
_TREE_SIZES: Final = "snapshot-size"
_MEASURED_FOR_S: Final = 600.0
_FOREVER: Final = float("inf")

_LAYERS: Final = """
    SELECT r.diff_id, max(r.description), min(r.created_at), max(r.used_at),
        coalesce((SELECT l.size FROM layers l WHERE l.diff_id = r.diff_id), 0)
            + coalesce((SELECT sum(c.size) FROM compressed c JOIN blobs USING (digest) WHERE c.diff_id = r.diff_id), 0),
        EXISTS (SELECT 1 FROM image_layers i WHERE i.diff_id = r.diff_id)
            OR EXISTS (SELECT 1 FROM kept_objects k WHERE k.object = r.diff_id)
            OR EXISTS (SELECT 1 FROM container_pins p WHERE p.object = r.diff_id),
        EXISTS (SELECT 1 FROM leases e WHERE e.object = r.diff_id)
    FROM records r WHERE r.diff_id IS NOT NULL GROUP BY r.diff_id ORDER BY max(r.used_at), r.diff_id
"""
_OWN_LAYERS: Final = """
    SELECT coalesce(sum(coalesce(l.size, 0)
            + coalesce((SELECT sum(c.size) FROM compressed c JOIN blobs USING (digest) WHERE c.diff_id = r.diff_id), 0)
        ), 0)
    FROM (SELECT DISTINCT diff_id FROM records WHERE diff_id IS NOT NULL) r LEFT JOIN layers l USING (diff_id)
    WHERE NOT EXISTS (SELECT 1 FROM image_layers i WHERE i.diff_id = r.diff_id)
    AND NOT EXISTS (SELECT 1 FROM kept_objects k WHERE k.object = r.diff_id)
    AND NOT EXISTS (SELECT 1 FROM container_pins p WHERE p.object = r.diff_id)
"""
_LAYERS_OF_SNAPSHOTS: Final = (
    "SELECT coalesce(sum(l.size), 0) FROM snapshots s JOIN layers l USING (diff_id)"
    " WHERE s.path IS NOT NULL AND s.kind <> 'erofs'"
)
_MEASURED_SNAPSHOTS: Final = (  # those that no layer's size stands for
    "SELECT path, kind FROM snapshots s WHERE path IS NOT NULL"
    " AND (kind = 'erofs' OR NOT EXISTS (SELECT 1 FROM layers l WHERE l.diff_id = s.diff_id AND l.size > 0))"
)
_SNAPSHOTS: Final = """
    SELECT s.path, s.kind, s.created_at, coalesce((SELECT l.size FROM layers l WHERE l.diff_id = s.diff_id), 0),
        EXISTS (SELECT 1 FROM leases e WHERE e.object = coalesce(s.diff_id, s.key))
            OR EXISTS (SELECT 1 FROM container_pins p WHERE p.object = coalesce(s.diff_id, s.key))
    FROM snapshots s WHERE s.path IS NOT NULL ORDER BY s.created_at, s.path
"""


class CacheItem(NamedTuple):
    """One thing that the build cache takes disk for.

    id: a layer's diff ID, the directory of a mount or mirror, or a cache's lane.
    size_bytes: of a layer with its compressed forms.
    created_at, used_at: seconds since the epoch.
    shared: an image or a container has the layer too, or a run keeps it.
    in_use: by a living process.
    """

    id: str
    type: ItemType
    description: str
    size_bytes: int
    created_at: float
    used_at: float
    shared: bool
    in_use: bool

    @property
    def reclaimable(self) -> bool:
        """Whether removing it would free its size."""
        return not self.shared and not self.in_use


class SnapshotItem(NamedTuple):
    """A derived root filesystem: ``size_bytes`` is about what it takes."""

    path: str
    size_bytes: int
    created_at: float
    in_use: bool


class CacheUse:
    """The cache of one store."""

    def __init__(self, root: Path, database: Database, session: Session, memo: CacheRecords) -> None:
        self._root = root
        self._memo = memo
        self._mounts = CacheMounts(root)
        self._mirrors = Mirrors(root)
        self._generations = Generations(root)
        self._database = database
        self._collector = Collector(root, database, session)

    def items(self, *, roughly: bool = False) -> list[CacheItem]:
        """Layers, mounts, caches of jobs and mirrors, the least recently used first. Leases nothing.

        roughly: sizes that are found out file by file, those of mounts and mirrors, may be ten minutes old.
        """
        layers = [
            CacheItem(diff_id, "layer", description, size, created_at, used_at, bool(shared), bool(leased))
            for diff_id, description, created_at, used_at, size, shared, leased in self._database.all(_LAYERS)
        ]
        mounts = [
            CacheItem(
                id=m.id,
                type="mount",
                description=f"cache mount {m.name}".rstrip(),
                size_bytes=self._mount_bytes(m.id, roughly),
                created_at=m.made_at,
                used_at=m.used_at,
                shared=False,
                in_use=m.in_use,
            )
            for m in self._mounts.list()
        ]
        mirrors = [
            CacheItem(
                id=m.key,
                type="mirror",
                description=f"mirror {m.name}".rstrip(),
                size_bytes=self._mirror_bytes(m.key, roughly),
                created_at=m.made_at,
                used_at=m.used_at,
                shared=False,
                in_use=m.in_use,
            )
            for m in self._mirrors.list()
        ]
        caches = [
            CacheItem(
                id=c.id,
                type="cache",
                description=f"{c.lane}: {c.name} ({c.owner})",
                size_bytes=c.size_bytes,
                created_at=c.made_at,
                used_at=c.used_at,
                shared=False,
                in_use=c.in_use,
            )
            for c in self._generations.lanes()
        ]
        return sorted((*layers, *mounts, *caches, *mirrors), key=lambda item: item.used_at)

    def snapshots(self) -> list[SnapshotItem]:
        """Derived root filesystems, the oldest first."""
        return [
            SnapshotItem(path, self._snapshot_bytes(path, kind, layer_bytes), created_at, bool(leased))
            for path, kind, created_at, layer_bytes, leased in self._database.all(_SNAPSHOTS)
        ]

    def size_bytes(self, *, roughly: bool = False) -> int:
        """What the cache takes beyond images: own layers, mounts, caches of jobs, mirrors and snapshots.

        roughly: as for ``items``.
        """
        (layers,) = self._database.one(_OWN_LAYERS)
        (snapshots,) = self._database.one(_LAYERS_OF_SNAPSHOTS)
        snapshots += sum(self._snapshot_bytes(path, kind, 0) for path, kind in self._database.all(_MEASURED_SNAPSHOTS))
        mounts = sum(self._mount_bytes(mount.id, roughly) for mount in self._mounts.list())
        mirrors = sum(self._mirror_bytes(mirror.key, roughly) for mirror in self._mirrors.list())
        caches = sum(cache.size_bytes for cache in self._generations.lanes())
        return int(layers) + int(snapshots) + mounts + caches + mirrors

    def remove(self, items: Iterable[CacheItem], snapshots: Iterable[SnapshotItem] = ()) -> PruneReport:
        """Remove these, except what is in use by now."""
        chosen = list(items)
        removed = self._collector.remove_cached(
            [item.id for item in chosen if item.type == "layer"], [snapshot.path for snapshot in snapshots]
        )
        freed = sum(self._mounts.remove(item.id) for item in chosen if item.type == "mount")
        freed += sum(self._generations.remove(item.id) for item in chosen if item.type == "cache")
        freed += sum(self._mirrors.remove(item.id) for item in chosen if item.type == "mirror")
        return replace(removed, freed_bytes=removed.freed_bytes + freed)

    def trim(self, limit_bytes: int) -> PruneReport:
        """Bring the cache down to ``limit_bytes`` if it is above: snapshots first, then what was used longest ago."""
        excess = self.size_bytes(roughly=True) - limit_bytes
        if excess <= 0:
            return PruneReport()
        items, snapshots = self.items(roughly=True), self.snapshots()
        idle: list[SnapshotItem] = []
        chosen: list[CacheItem] = []
        for snapshot in snapshots:
            if excess > 0 and not snapshot.in_use:
                idle.append(snapshot)
                excess -= snapshot.size_bytes
        for item in items:
            if excess > 0 and item.reclaimable:
                chosen.append(item)
                excess -= item.size_bytes
        return self.remove(chosen, idle) if idle or chosen else PruneReport()

    def keep_below(self, limit: CacheMax) -> PruneReport:
        """As ``trim``, with a limit that may be a part of the disk; caches of branches that rest go in any case."""
        self._generations.prune()
        if limit.size_bytes is None and limit.percent >= 100:
            return PruneReport()
        disk = os.statvfs(self._root)
        limit_bytes = limit.size_bytes
        if limit_bytes is None:
            limit_bytes = disk.f_blocks * disk.f_frsize * limit.percent // 100
        if 0 < (disk.f_blocks - disk.f_bfree) * disk.f_frsize <= limit_bytes:
            return PruneReport()  # all that is on the disk takes no more
        return self.trim(limit_bytes)

    def _mount_bytes(self, name: str, roughly: bool) -> int:
        return self._measured(
            _MOUNT_SIZES, name, lambda: self._mounts.size_bytes(name), _MEASURED_FOR_S if roughly else 0.0
        )

    def _mirror_bytes(self, key: str, roughly: bool) -> int:
        return self._measured(
            _MIRROR_SIZES, key, lambda: self._mirrors.size_bytes(key), _MEASURED_FOR_S if roughly else 0.0
        )

    def _measured(self, kind: str, name: str, measure: Callable[[], int], for_s: float) -> int:
        """What ``measure`` finds out file by file, or what it found up to ``for_s`` seconds ago."""
        known = self._memo.memo_get(kind, name) if for_s else None
        if known is not None:
            size, measured_at = known.split()
            if time.time() - float(measured_at) < for_s:
                return int(size)
        size_bytes = measure()
        self._memo.memo_put(kind, name, f"{size_bytes} {time.time()}".encode())
        return size_bytes

    def _snapshot_bytes(self, path: str, kind: str, layer_bytes: int) -> int:
        directory = f"{self._root}/snapshots/{path}"
        if kind == "erofs":
            with contextlib.suppress(OSError):
                return os.stat(f"{directory}/index").st_blocks * 512
            return 0
        return layer_bytes or self._measured(_TREE_SIZES, path, lambda: tree_bytes(directory), _FOREVER)
