"""The differences between two selections of files, found by comparing their ``digesting.manifest``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from builder.copying.listings import Listing
from builder.explaining.details import encodable
from builder.explaining.walking import in_records, unmatched
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
    was: dict[str, _File] = {}
    is_: dict[str, _File] = {}
    for source, earlier, present in _side_by_side(old, new) or _split(old, new):
        was.update(_file(source, record) for record in earlier)
        is_.update(_file(source, record) for record in present)
    changes: list[MissReason] = []
    for path in sorted({*was, *is_}):
        if was.get(path) != is_.get(path):
            changes += _changes(path, was.get(path), is_.get(path))
    if len(changes) > MOST_CHANGES:
        return [*changes[:MOST_CHANGES], MissReason("changed", f"and {len(changes) - MOST_CHANGES} more")]
    return changes


_Differing: TypeAlias = tuple[_Source, Iterable[_Record], Iterable[_Record]]
"""A source, and its records that are only in the old listing, and only in the new one."""


def _side_by_side(old: Sequence[Listing], new: Sequence[Listing]) -> list[_Differing] | None:
    """The differences of one and the same source; None where there are many, or several sources."""
    if len(old) != 1 or len(new) != 1 or old[0].sources != new[0].sources or len(old[0].sources) != 1:
        return None
    before, now = old[0].manifest, new[0].manifest
    head = b"\0".join(before.split(b"\0", 3)[:3])
    if head != b"\0".join(now.split(b"\0", 3)[:3]) or not head:
        return None
    earlier, present = in_records(before[len(head) + 1 :]), in_records(now[len(head) + 1 :])
    found = unmatched(earlier, present) if earlier is not None and present is not None else None
    if found is None:
        return None
    source = _Source(os.fsdecode(old[0].sources[0]), bool(head.rpartition(b"\0")[2]))
    return [(source, map(_decoded, found[0]), map(_decoded, found[1]))]


def _decoded(record: list[bytes]) -> _Record:
    _, path, description, what, xattrs = map(os.fsdecode, record)
    return path, description, what, xattrs


def _split(old: Sequence[Listing], new: Sequence[Listing]) -> Iterator[_Differing]:
    """The differences by sets of all records."""
    before, now = _by_source(old), _by_source(new)
    for source in {**before, **now}:
        earlier, present = before.get(source, set()), now.get(source, set())
        yield source, earlier - present, present - earlier


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
