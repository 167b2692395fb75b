"""A tree as layers: a base with all of it or of an earlier tree, and what differs from that; made once, and derived.

Layers and what is known of them are records of the build cache: the least recently used goes first, and what is gone is
made again. The same tree, written in the same way, is the same layer everywhere: all times are one, all is root's.
Beside a base there is a layer with git's index of it, which what ``.git`` shows of later commits is made of.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from ci.epoch import BEGINNING
from ci.source.gitindex import index_of
from ci.source.locking import holding
from ci.source.objects import DIRECTORY, SUBMODULE, Change, Entry, Objects
from ci.source.treewriter import ATTRIBUTES, TreeLayer, filtered_paths
from core.cancellation import check
from core.digests import DiffID
from core.trust import COMMON, Privacy, scoped
from images.mirrors import DIRECTORY as MIRRORS
from images.records import CacheRecord
from images.store import Store
from images.survey import Survey
from images.tarwriter import TarWriter

_VERSION: Final = "1"  # of how trees are written
_OP: Final = hashlib.sha256(b"source").hexdigest()
_BASES: Final = "source bases"  # the memo's kind
_MOST_BASES: Final = 3  # of branches that have little in common
_MOST_DIFFERENT: Final = 5  # a layer of what differs has at most one in so many of the base's entries
_SMALL: Final = 40  # entries; a base of fewer is no work


INDEX: Final = "index"
"""The name of the file with git's index."""

INDEX_TIME: Final = BEGINNING + 1
"""Of that file: it is younger than the others, else git takes them for written after it looked."""


class Base(NamedTuple):
    """A tree that is a layer as a whole.

    entries: how many it has.
    has_attributes: whether it has .gitattributes.
    """

    tree: str
    diff_id: DiffID
    entries: int
    has_attributes: bool


def layers_of(store: Store, key: str, objects: Objects, tree: str, *, prefix: str = "") -> tuple[DiffID, ...]:
    """The layers whose content is the tree, base first. They stay for as long as the store's session.

    key: of the mirror: what is remembered of it is used.
    prefix: the directory, relative to the workspace, in which the tree is to be; with those above it.
    Raises SourceFileError for what no layer can hold, DamagedRepositoryError, StorageFullError.
    """
    return _Layers(store, key, objects, prefix).of(tree)


def is_little(changes: Sequence[Change], base: Base) -> bool:
    """Whether a tree that differs so from a base is made from it, and not anew."""
    return len(changes) * _MOST_DIFFERENT <= max(base.entries, _SMALL)


def bases_of(store: Store, key: str, objects: Objects) -> list[Base]:
    """The bases that are remembered of a mirror and still there, the latest first."""
    return _Layers(store, key, objects, "").bases()


def index_layer(store: Store, key: str, objects: Objects, base: Base) -> DiffID | None:
    """The layer with git's index of a base; None: it is gone, and so is the tree. It stays as what ``layers_of`` gives.

    Raises DamagedRepositoryError, StorageFullError.
    """
    return _Layers(store, key, objects, "").index(base)


class _Layers:
    """What the layers of a repository have in common."""

    def __init__(self, store: Store, key: str, objects: Objects, prefix: str) -> None:
        self._store = store
        self._objects = objects
        self._prefix = prefix
        self._domain = store.holdings.domain
        self._key = f"{_VERSION} {key} {prefix}"
        top = store.root / MIRRORS
        top.mkdir(mode=0o700, exist_ok=True)
        self._lock = top / f"{key}.layers"

    def of(self, tree: str) -> tuple[DiffID, ...]:
        found = self._made_before(tree)
        if found is None:
            # One tree of a mirror is written at a time: whoever waited finds it made, or finds a base for it.
            with holding(self._lock, self._objects.bounds.time_s):
                found = self._made_before(tree) or self._made(tree)
        return found

    def _made_before(self, tree: str) -> tuple[DiffID, ...] | None:
        known = self.bases()
        for base in known:
            if base.tree == tree:
                return (base.diff_id,)
        for base in known:
            found = self._get(f"diff {base.tree} {tree}")
            if found is not None and found.diff_id is not None:
                return base.diff_id, found.diff_id
        return None

    def _made(self, tree: str) -> tuple[DiffID, ...]:
        """Write what is missing."""
        known = self.bases()
        little = [(base, changes) for base in known if (changes := self._little_since(base, tree)) is not None]
        if not little:
            return (self._make_base(tree),)
        base, changes = min(little, key=lambda each: len(each[1]))

        def write(layer: TreeLayer) -> None:
            layer.directories_above()
            layer.write_changes(changes, has_attributes=base.has_attributes)

        return base.diff_id, self._make(f"diff {base.tree} {tree}", tree, write, {})

    def _little_since(self, base: Base, tree: str) -> list[Change] | None:
        """What differs between the base and a tree; None where a base of its own is better, or the only right way."""
        changes = self._objects.changes_since(base.tree, tree)
        if changes is None:  # the mirror was fetched anew
            return None
        if any(change.path.rpartition(b"/")[2] == ATTRIBUTES for change in changes):
            return None  # they may change how files look that are in no list
        return changes if is_little(changes, base) else None

    def _make_base(self, tree: str) -> DiffID:
        known = self._base(tree)
        if known is None:
            entries = self._objects.entries(tree)
            has_attributes = any(entry.path.rpartition(b"/")[2] == ATTRIBUTES for entry in entries)

            sizes: dict[bytes, int] = {}

            def write(layer: TreeLayer) -> None:
                layer.directories_above()
                layer.write(entries, has_attributes=has_attributes)
                sizes.update(layer.sizes)

            detail = {"entries": len(entries), "attributes": has_attributes}
            known = Base(tree, self._make(f"base {tree}", tree, write, detail), len(entries), has_attributes)
            if not self._prefix:
                self._make_index(tree, entries, sizes)
        self._remember(known)
        return known.diff_id

    def index(self, base: Base) -> DiffID | None:
        found = self._get(_of_index(base.tree))
        if found is not None and found.diff_id is not None:
            return found.diff_id
        if not self._objects.has(base.tree, "tree"):
            return None
        entries = self._objects.entries(base.tree)
        same = [entry for entry in entries if entry.mode not in (DIRECTORY, SUBMODULE)]
        if base.has_attributes:
            filtered = filtered_paths(self._objects, base.tree, same)
            same = [entry for entry in same if entry.path not in filtered]
        sizes = self._objects.sizes([entry.id for entry in same])
        return self._make_index(base.tree, entries, dict(zip((entry.path for entry in same), sizes, strict=True)))

    def _make_index(self, tree: str, entries: Sequence[Entry], sizes: Mapping[bytes, int]) -> DiffID:
        files = [(entry.path, entry.mode, entry.id) for entry in entries if entry.mode != DIRECTORY]
        data = index_of(files, sizes, BEGINNING, "sha1" if len(tree) == 40 else "sha256")

        def write(writer: TarWriter) -> None:
            writer.directory(b"", 0o755, 0, 0, BEGINNING)
            writer.file(INDEX.encode(), 0o644, 0, 0, INDEX_TIME, len(data), data)

        return self._record(_of_index(tree), write, {})

    def _make(self, name: str, tree: str, write: Callable[[TreeLayer], None], detail: dict[str, int | bool]) -> DiffID:
        return self._record(name, lambda writer: write(TreeLayer(writer, self._objects, tree, self._prefix)), detail)

    def _record(self, name: str, write: Callable[[TarWriter], None], detail: dict[str, int | bool]) -> DiffID:
        began = time.time()
        with self._store.layers.writer(sync=False) as sink:
            writer = TarWriter(sink)
            write(writer)
            writer.close()
            check()
            diff_id = sink.commit()
        self._store.snapshots.note_survey(diff_id, Survey(writer.entries, {}, writer.marks, True, None))
        scope = self._domain.writes(Privacy.PROJECT)
        self._store.cache.put(
            CacheRecord(
                scoped(self._named(name), scope), _OP, diff_id, began, time.time() - began, f"source: {name[:80]}",
                json.dumps(detail).encode(), scope, self._domain.project_scope,
            )
        )  # fmt: skip
        return diff_id

    def _get(self, name: str) -> CacheRecord | None:
        return self._store.cache.get(scoped(self._named(name), self._domain.writes(Privacy.PROJECT)))

    def _base(self, tree: str) -> Base | None:
        found = self._get(f"base {tree}")
        if found is None or found.diff_id is None:
            return None
        detail = json.loads(found.detail)
        return Base(tree, found.diff_id, detail["entries"], detail["attributes"])

    def bases(self) -> list[Base]:
        """Those that are remembered and still there, the latest first."""
        data = self._store.cache.memo_get(_BASES, self._named("bases", self._domain.writes(Privacy.PROJECT)))
        trees = json.loads(data) if data else []
        return [base for tree in trees if (base := self._base(tree)) is not None]

    def _remember(self, base: Base) -> None:
        trees = [base.tree, *(other.tree for other in self.bases() if other.tree != base.tree)]
        name = self._named("bases", self._domain.writes(Privacy.PROJECT))
        self._store.cache.memo_put(_BASES, name, json.dumps(trees[:_MOST_BASES]).encode())

    def _named(self, name: str, scope: str = COMMON) -> str:
        return hashlib.sha256(f"{self._key}\0{name}\0{scope}".encode("utf-8", "surrogateescape")).hexdigest()


def _of_index(tree: str) -> str:
    return f"index {tree}"
