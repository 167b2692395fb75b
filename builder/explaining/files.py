"""What is different between two selections of files, told from what ``digesting.manifest`` says of each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from builder.explaining.details import encodable
from builder.paths import join
from core.events import Change

if TYPE_CHECKING:
    from builder.selecting import Selection

MOST_CHANGES: Final = 100
"""More files than these are not named, only counted."""


class _File(NamedTuple):
    mode: str
    owner: str
    content: str
    xattrs: str


class Listing(msgspec.Struct, frozen=True, array_like=True):
    """What one part of a COPY selects. sources: where each of its sources is in its tree, as bytes."""

    sources: tuple[bytes, ...]
    manifest: bytes

    @classmethod
    def of(cls, selection: Selection, manifest: bytes) -> Listing:
        """manifest: what ``digesting.manifest`` made of the selection."""
        return cls(tuple(os.fsencode(source.path) for source in selection.sources), manifest)


def pack(listings: Sequence[Listing]) -> bytes:
    """For keeping: a third of the size."""
    from isal import isal_zlib

    return isal_zlib.compress(msgspec.msgpack.encode(listings), 1)


def unpack(data: bytes) -> list[Listing]:
    """What ``pack`` was given."""
    from isal import isal_zlib

    return msgspec.msgpack.decode(isal_zlib.decompress(data), type=list[Listing])


def file_changes(old: Sequence[Listing], new: Sequence[Listing]) -> list[Change]:
    """Files that are new, gone or different, by path; and how many more, as the last one, when there are many."""
    before = {path: file for listing in old for path, file in _files(listing)}
    now = {path: file for listing in new for path, file in _files(listing)}
    changes: list[Change] = []
    for path in sorted({*before, *now}):
        was, is_ = before.get(path), now.get(path)
        if was != is_:
            changes += _changes(path, was, is_)
    if len(changes) > MOST_CHANGES:
        return [*changes[:MOST_CHANGES], Change("changed", f"and {len(changes) - MOST_CHANGES} more")]
    return changes


def _changes(path: str, was: _File | None, is_: _File | None) -> Iterator[Change]:
    if was is None:
        yield Change("added", path)
    elif is_ is None:
        yield Change("removed", path)
    else:
        kind = was.mode[:-4] != is_.mode[:-4]
        if kind or was.content != is_.content or was.xattrs != is_.xattrs:
            yield Change("changed", path)
        if not kind and was.mode != is_.mode:
            yield Change("mode", path, was.mode[-4:], is_.mode[-4:])
        if was.owner != is_.owner:
            yield Change("owner", path, was.owner, is_.owner)


def _files(listing: Listing) -> Iterator[tuple[str, _File]]:
    """The records of a manifest: ``source N name``, and ``entry path "mode uid:gid" what xattrs``."""
    fields = os.fsdecode(listing.manifest).split("\0")
    at, source, is_file = 0, "", False
    while at + 2 < len(fields):
        if fields[at] == "source":
            source, is_file = os.fsdecode(listing.sources[int(fields[at + 1])]), bool(fields[at + 2])
            at += 3
            continue
        _, path, description, what, xattrs = fields[at : at + 5]
        mode, _, owner = description.partition(" ")
        yield encodable(source if is_file else join(source, path)), _File(mode.zfill(7), owner, what, xattrs)
        at += 5
