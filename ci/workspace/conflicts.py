"""Outputs that contradict each other: jobs that do not need each other, and one path that they left differently."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from ci import patterns
from ci.workspace.errors import ConflictError
from ci.workspace.listings import File, Listing, is_directory
from ci.workspace.treeorder import above, end_of, order_of
from core.cancellation import check
from core.digests import DiffID


class Left(NamedTuple):
    """The outputs of a job. before: the jobs whose outputs it saw."""

    job: str
    layer: DiffID
    before: frozenset[str]

    def is_beside(self, other: Left) -> bool:
        """Whether the two jobs know nothing of each other, and left different layers."""
        return self.job not in other.before and other.job not in self.before and self.layer != other.layer


class _Change(NamedTuple):
    """A path that two jobs left differently. what: of their doings, in words with their names and the path."""

    path: str
    one: Left
    other: Left
    what: str


def refuse_conflicts(
    outputs: Sequence[Left], listing_of: Callable[[DiffID], Listing], inputs: Sequence[str] | None
) -> None:
    """Raise ConflictError for a path that a job with these inputs sees, and that two jobs left differently.

    Directories of both are no conflict, nor is equal content, nor what a job after both left there anew.
    """
    beside = {left for pair in combinations(outputs, 2) if pair[0].is_beside(pair[1]) for left in pair}
    if not beside:
        return
    listings = {left: listing_of(left.layer) for left in outputs if left in beside}
    meant = None if inputs is None else patterns.compiled(inputs)
    for change in _changes(listings):
        if meant is not None and not meant.matches(change.path):
            continue
        later = [left for left in outputs if {change.one.job, change.other.job} <= left.before]
        if not any(_decides(listing_of(left.layer), change.path) for left in later):
            raise ConflictError(
                f"{change.what}, and neither job needs the other",
                hint="let one need the other, or give the outputs of one another directory with `into`",
            )


def _changes(listings: dict[Left, Listing]) -> Iterator[_Change]:
    everything: dict[str, list[tuple[Left, File]]] = {}
    for left, listing in listings.items():
        for path, file in listing.files.items():
            check()
            everything.setdefault(path, []).append((left, file))
    paths = sorted(everything, key=order_of)
    keys = [order_of(path) for path in paths]
    for path in paths:
        for (one, file), (other, theirs) in combinations(everything[path], 2):
            if file != theirs and one.is_beside(other):
                yield from _differences(path, one, file, other, theirs)
                if is_directory(file) != is_directory(theirs):
                    one, other = (one, other) if is_directory(file) else (other, one)
                    for below in paths[bisect_left(keys, order_of(path)) + 1 : end_of(keys, path)]:
                        if any(left is one for left, _ in everything[below]):
                            yield _Change(below, one, other, _replaced(one, below, other, path))
    ways = {left: {way for path in listing.removed for way in above(path)} for left, listing in listings.items()}
    for one, listing in listings.items():
        for path in (*listing.removed, *listing.emptied):
            for at in range(bisect_left(keys, order_of(path)), end_of(keys, path)):
                check()
                has_members = at + 1 < len(keys) and keys[at + 1].startswith(f"{keys[at]}\0")
                for other, file in everything[paths[at]]:
                    # A directory that is only there for what is in it, or was removed from it, says nothing itself.
                    is_way = is_directory(file) and (has_members or paths[at] in ways[other])
                    if not is_way and one.is_beside(other):
                        what = f'"{one.job}" removes {path}, "{other.job}" outputs {paths[at]}'
                        yield _Change(paths[at], one, other, what)


def _differences(path: str, one: Left, file: File, other: Left, theirs: File) -> Iterator[_Change]:
    if is_directory(file) and is_directory(theirs):
        return
    if is_directory(file) != is_directory(theirs):
        how = "once as a directory"
    else:
        how = "with different permissions" if file[1:] == theirs[1:] else "with different content"
    yield _Change(path, one, other, f'"{one.job}" and "{other.job}" both output {path}, {how}')


def _replaced(one: Left, below: str, other: Left, path: str) -> str:
    return f'"{one.job}" outputs {below}, "{other.job}" outputs {path}, which is no directory'


def _decides(listing: Listing, path: str) -> bool:
    """Whether a layer says what is at a path, whatever the layers below do."""
    if path in listing.files or path in listing.removed:
        return True
    return any(
        directory in listing.removed
        or directory in listing.emptied
        or (directory in listing.files and not is_directory(listing.files[directory]))
        for directory in above(path)
    )
