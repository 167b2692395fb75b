"""The stored part of logs: compressed chunks in the database; any line is found by its number."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Final

import zstandard
from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.engine import Connection

from pipelines.errors import StaleAttemptError
from pipelines.schema import jobs, log_chunks

CHUNK_LINES: Final = 1000
CHUNK_BYTES: Final = 256 << 10
READ_BYTES: Final = 8 << 20
_LEVEL: Final = 3
_MAX_CHUNK_BYTES: Final = 64 << 20  # what a chunk may unpack to; ours are far smaller

# Made once: a long log asks them for each of its chunks.
_CHUNK_OF: Final = select(func.max(log_chunks.c.first_line)).where(
    log_chunks.c.job == bindparam("job"), log_chunks.c.first_line <= bindparam("first")
)
_NEXT_CHUNK: Final = (
    select(log_chunks.c.first_line, log_chunks.c.line_count, log_chunks.c.data)
    .where(log_chunks.c.job == bindparam("job"), log_chunks.c.first_line >= bindparam("at"))
    .order_by(log_chunks.c.first_line)
    .limit(1)
)

Line = tuple[int, bytes]
"""A line's number, and the line as JSON."""


def store_lines(connection: Connection, job: int, attempt: int, lines: Sequence[Line], sizes: Sequence[int]) -> None:
    """Append consecutive lines to a job's log. The caller's transaction makes sure that they are the next ones.

    sizes: bytes of each line's text, with its newline.
    Raises StaleAttemptError when the log has gone on without these lines.
    """
    if not lines:
        return
    row = connection.execute(select(jobs.c.lines, jobs.c.log_bytes).where(jobs.c.number == job)).one()
    if lines[0][0] != row.lines + 1:
        raise StaleAttemptError(f"line {lines[0][0]} after line {row.lines} of job {job}")
    offset, done = row.log_bytes, 0
    for chunk in _chunks(lines):
        connection.execute(
            insert(log_chunks).values(
                job=job,
                attempt=attempt,
                first_line=chunk[0][0],
                line_count=len(chunk),
                byte_offset=offset,
                data=zstandard.compress(b"\n".join(data for _, data in chunk), _LEVEL),
            )
        )
        offset += sum(sizes[done : done + len(chunk)])
        done += len(chunk)
    connection.execute(update(jobs).where(jobs.c.number == job).values(lines=lines[-1][0], log_bytes=offset))


def line_near(connection: Connection, job: int, offset: int) -> tuple[int, int]:
    """A line that begins at byte ``offset`` of the log's text, or not far before: its number, and where it begins."""
    row = connection.execute(
        select(log_chunks.c.first_line, log_chunks.c.byte_offset)
        .where(log_chunks.c.job == job, log_chunks.c.byte_offset <= offset)
        .order_by(log_chunks.c.first_line.desc())
        .limit(1)
    ).first()
    return (row.first_line, row.byte_offset) if row is not None else (1, 0)


def read_lines(connection: Connection, job: int, first: int, limit: int) -> list[Line]:
    """Stored lines from number ``first`` on, at most ``limit``; empty at the end of what is stored.

    Fewer where the lines are long: about READ_BYTES at once.
    """
    found: list[Line] = []
    size = 0
    for number, texts in _stored(connection, job, first):
        wanted = texts[max(0, first - number) :][: limit - len(found)]
        found += zip(itertools.count(max(first, number)), wanted, strict=False)
        size += sum(map(len, wanted))
        if len(found) >= limit or size >= READ_BYTES:
            break
    return found


def stored_lines(connection: Connection, job: int, first: int = 1) -> Iterator[Line]:
    """All stored lines from number ``first`` on, chunk by chunk."""
    for number, texts in _stored(connection, job, first):
        yield from zip(itertools.count(max(first, number)), texts[max(0, first - number) :], strict=False)


def _stored(connection: Connection, job: int, first: int) -> Iterator[tuple[int, list[bytes]]]:
    """The chunk that has line ``first``, and those after it: the number of the first line of each, and its lines."""
    start = connection.execute(_CHUNK_OF, {"job": job, "first": first}).scalar()
    at = start or first
    while (row := connection.execute(_NEXT_CHUNK, {"job": job, "at": at}).first()) is not None:
        yield row.first_line, zstandard.decompress(row.data, max_output_size=_MAX_CHUNK_BYTES).split(b"\n")
        at = row.first_line + row.line_count


def _chunks(lines: Sequence[Line]) -> Iterator[Sequence[Line]]:
    """Pieces of at most CHUNK_LINES lines and about CHUNK_BYTES."""
    if len(lines) <= CHUNK_LINES and sum(len(data) + 1 for _, data in lines) <= CHUNK_BYTES:
        yield lines
        return
    start = size = 0
    for index, (_, data) in enumerate(lines):
        size += len(data) + 1
        if index - start + 1 >= CHUNK_LINES or size >= CHUNK_BYTES:
            yield lines[start : index + 1]
            start, size = index + 1, 0
    if start < len(lines):
        yield lines[start:]
