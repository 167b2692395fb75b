"""The layers of one job's workspace, and what they show it: computed from listings, by overlayfs' rules."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping, Sequence

from ci.workspace.conflicts import Left, refuse_conflicts
from ci.workspace.listings import IMPLIED, File, Listing, is_directory, listing_of, permissions
from ci.workspace.selection import Selection, select
from ci.workspace.treeorder import above, order_of
from core.digests import DiffID, Digest
from images.store import Store


class Stack:
    """What one job sees: the commit's files, and on them the outputs of the jobs before it.

    layers: base first. A job's outputs lie above those of the jobs before it, and else in the order given.
    """

    def __init__(
        self,
        store: Store,
        source: Sequence[DiffID],
        outputs: Iterable[tuple[str, DiffID]] = (),
        before: Mapping[str, frozenset[str]] | None = None,
        inputs: Sequence[str] | None = None,
    ) -> None:
        """Nothing is read yet.

        source: the layers of the commit's files.
        outputs: names of jobs before this one, and their layers.
        before: for each of these names, those of the jobs before it; without it, each comes after those in front.
        inputs: patterns; None: the job sees everything.
        """
        self._store = store
        self._inputs = inputs
        named = list(outputs)
        if before is None:
            before = {job: frozenset(other for other, _ in named[:at]) for at, (job, _) in enumerate(named)}
        self._left = [Left(job, layer, before.get(job, frozenset())) for job, layer in _in_order(named, before)]
        self.layers: tuple[DiffID, ...] = (*source, *(left.layer for left in self._left))

    def refuse_conflicts(self) -> None:
        """Raise ConflictError when jobs that do not need each other left different things where this one looks.

        Also raises what ``listing_of`` raises.
        """
        refuse_conflicts(self._left, functools.partial(listing_of, self._store), self._inputs)

    @functools.cached_property
    def files(self) -> dict[str, File]:
        """All files of the layers by path, in tree order. Raises what ``listing_of`` raises."""
        return merged(listing_of(self._store, layer) for layer in self.layers)

    @functools.cached_property
    def _selection(self) -> Selection:
        return Selection(list(self.files), []) if self._inputs is None else select(self.files, self._inputs)

    @property
    def hidden(self) -> Sequence[str]:
        """The names that hide what ``inputs`` do not mean, as few as there can be. Raises InputsError."""
        return [] if self._inputs is None else self._selection.hidden

    @functools.cached_property
    def manifest(self) -> bytes:
        """A record of each file that the job sees, as ``builder.copying.digesting.manifest`` makes it of a COPY's.

        Raises InputsError.
        """
        files = self.files
        records = (f"entry\0{path}\0" + "\0".join(files[path]) for path in self._selection.visible)
        return os.fsencode("\0".join(("source\x000\0", *records)))

    @property
    def content_key(self) -> Digest:
        """What identifies all that the job sees: paths, kinds, modes and contents, however the layers are cut."""
        return Digest.of(self.manifest)

    def mode_of(self, directory: str) -> int:
        """The permissions of a directory."""
        return permissions(self.files[directory])


def merged(listings: Iterable[Listing]) -> dict[str, File]:
    """What layers show, base first, by path in tree order. A directory looks as in the topmost layer that has it."""
    found: dict[str, File] = {}
    for listing in listings:
        gone = [path for path in listing.removed if path in found]
        replaced = [
            path
            for path, file in listing.files.items()
            if path in found and is_directory(found[path]) > is_directory(file)
        ]
        _remove_below(found, [path for path in (*gone, *replaced) if is_directory(found[path])] + listing.emptied)
        for path in gone:
            found.pop(path, None)
        found.update(listing.files)
        for path in listing.files:
            _imply(found, path.rpartition("/")[0])
    return {path: found[path] for path in sorted(found, key=order_of)}


def _imply(found: dict[str, File], directory: str) -> None:
    """Add a directory that a layer has something in, if there is none: it looks as ``images.parents`` makes it."""
    while directory and (directory not in found or not is_directory(found[directory])):
        found[directory] = IMPLIED
        directory = directory.rpartition("/")[0]


def _remove_below(found: dict[str, File], directories: Sequence[str]) -> None:
    if not directories:
        return
    tops = set(directories)
    for path in [path for path in found if not tops.isdisjoint(above(path))]:
        del found[path]


def _in_order(
    outputs: Sequence[tuple[str, DiffID]], before: Mapping[str, frozenset[str]]
) -> Iterable[tuple[str, DiffID]]:
    """Each job after those before it, and else in the order given."""
    left = dict(outputs)
    while left:
        job = next(job for job in left if before.get(job, frozenset()).isdisjoint(left))
        yield job, left.pop(job)
