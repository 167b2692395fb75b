"""Two long lists of records in one order, walked side by side: what stands in both is passed by in long stretches.

Of 20,000 files that a COPY takes, an editor changes a few. To split both lists into records and compare those takes
forty times as long.
"""

from __future__ import annotations

from typing import Final

_FIELDS: Final = 5  # of a record
_STRETCH_BYTES: Final = 32 << 10
_MOST_STEPS: Final = 64  # with more differences, whoever splits the lists is as fast


def unmatched(old: bytes, new: bytes) -> tuple[list[list[bytes]], list[list[bytes]]] | None:
    """The records of each list that the other one does not have at its place; None where there are too many.

    A record has five fields, each with a NUL behind it; the second one names it. A record that both lists have may be
    among those of both: every other record of a list is at least among its own.
    """
    was: list[list[bytes]] = []
    now: list[list[bytes]] = []
    here = there = 0
    for _ in range(_MOST_STEPS):
        passed = _whole_records(old, new, here, there)
        here += passed
        there += passed
        if here == len(old) or there == len(new):
            rest, more = _records(old, here), _records(new, there)
            return [*was, *rest], [*now, *more]
        before, after = _record(old, here), _record(new, there)
        is_there = before[1] == after[1]
        if not is_there and _named(new, before, there):  # what stands in front of it is new
            now.append(after)
            there += _length(after)
        elif not is_there and _named(old, after, here):
            was.append(before)
            here += _length(before)
        else:
            was.append(before)
            now.append(after)
            here += _length(before)
            there += _length(after)
    return None


def in_records(body: bytes) -> bytes | None:
    """A body of records with a NUL between the fields, as ``unmatched`` takes it; None where it has anything else."""
    if not body:
        return body
    beyond = body.count(b"\0") % _FIELDS
    return {_FIELDS - 1: body + b"\0", 0: body}.get(beyond)


def _whole_records(old: bytes, new: bytes, here: int, there: int) -> int:
    """How many bytes of records are the same from there on."""
    end = here + _same(old, new, here, there)
    beyond = old.count(b"\0", here, end) % _FIELDS
    for _ in range(beyond + 1):  # back to the end of the last whole record
        end = old.rfind(b"\0", here, end)
        if end < 0:
            return 0
    return end + 1 - here


def _same(old: bytes, new: bytes, here: int, there: int) -> int:
    """How many bytes are the same from there on."""
    most = min(len(old) - here, len(new) - there)
    at, step = 0, _STRETCH_BYTES
    while at < most:
        step = min(step, most - at)
        if old[here + at : here + at + step] == new[there + at : there + at + step]:
            at += step
        elif step == 1:
            break
        else:
            step = (step + 1) // 2
    return at


def _named(records: bytes, record: list[bytes], start: int) -> bool:
    """Whether the list has a record of this kind and name from there on."""
    return records.find(b"\0%b\0%b\0" % (record[0], record[1]), start) >= 0


def _record(records: bytes, start: int) -> list[bytes]:
    end = start
    for _ in range(_FIELDS):
        end = records.index(b"\0", end) + 1
    return records[start : end - 1].split(b"\0")


def _records(records: bytes, start: int) -> list[list[bytes]]:
    fields = records[start:].split(b"\0")
    return [fields[at : at + _FIELDS] for at in range(0, len(fields) - 1, _FIELDS)]


def _length(record: list[bytes]) -> int:
    return sum(map(len, record)) + _FIELDS
