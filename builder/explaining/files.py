"""The differences between two selections of files, found by comparing their ``digesting.manifest``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from builder.copying.listings import Listing
from builder.explaining.details import encodable
from builder.paths import join
from core.events import MissReason

MOST_CHANGES: Final = 100
"""At most this many files are named; further ones are only counted."""


class _File(NamedTuple):
    mode: str
    owner: str
    content: str
    xattrs: str


class _Source(NamedTuple):
    path: str
    is_file: bool


_Record: TypeAlias = tuple[str, str, str, str]
"""A file's record: path, ``"mode uid:gid"``, what it is, extended attributes."""


def file_changes(old: Sequence[Listing], new: Sequence[Listing]) -> list[MissReason]:
    """The files that are new, gone or different, by path. When there are many, the last reason counts the rest."""
    before, now = _by_source(old), _by_source(new)
    was: dict[str, _File] = {}
    is_: dict[str, _File] = {}
    for source in {**before, **now}:  # a few of 20,000 records differ; only these are looked into
        earlier, present = before.get(source, set()), now.get(source, set())
        was.update(_file(source, record) for record in earlier - present)
        is_.update(_file(source, record) for record in present - earlier)
    changes: list[MissReason] = []
    for path in sorted({*was, *is_}):
        if was.get(path) != is_.get(path):
            changes += _changes(path, was.get(path), is_.get(path))
    if len(changes) > MOST_CHANGES:
        return [*changes[:MOST_CHANGES], MissReason("changed", f"and {len(changes) - MOST_CHANGES} more")]
    return changes


def _changes(path: str, was: _File | None, is_: _File | None) -> Iterator[MissReason]:
    if was is None:
        yield MissReason("added", path)
    elif is_ is None:
        yield MissReason("removed", path)
    else:
        kind = was.mode[:-4] != is_.mode[:-4]
        if kind or was.content != is_.content or was.xattrs != is_.xattrs:
            yield MissReason("changed", path)
        if not kind and was.mode != is_.mode:
            yield MissReason("mode", path, was.mode[-4:], is_.mode[-4:])
        if was.owner != is_.owner:
            yield MissReason("owner", path, was.owner, is_.owner)


def _by_source(listings: Sequence[Listing]) -> dict[_Source, set[_Record]]:
    """The records of manifests: ``source N name``, each followed by those of its files, five fields each."""
    found: dict[_Source, set[_Record]] = {}
    for listing in listings:
        fields = os.fsdecode(listing.manifest).split("\0")
        end = 0
        while end + 2 < len(fields):
            source = _Source(os.fsdecode(listing.sources[int(fields[end + 1])]), bool(fields[end + 2]))
            start = end = end + 3
            while end < len(fields) and fields[end] != "source":
                end += 5
            records = fields[start:end]
            found.setdefault(source, set()).update(
                zip(records[1::5], records[2::5], records[3::5], records[4::5], strict=True)
            )
    return found


def _file(source: _Source, record: _Record) -> tuple[str, _File]:
    path, description, what, xattrs = record
    mode, _, owner = description.partition(" ")
    shown = source.path if source.is_file else join(source.path, path)
    return encodable(shown), _File(mode.zfill(7), owner, what, xattrs)
