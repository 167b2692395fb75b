"""Reading jobs' logs: any range, following from any line, searching. Stored lines, then live ones, without a seam.

Lines are given as (number, JSON of a LogLine): most readers pass them on as they are.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from sqlalchemy import select

from ci.graph import ENDED
from pipelines.database import Database
from pipelines.errors import NotFoundError, QueueUnreachableError
from pipelines.logs.lines import LogLine, decode_line, encode_line, to_event
from pipelines.logs.live import Batch, LiveLogs
from pipelines.logs.marks import Found, Marker
from pipelines.logs.store import Line, line_near, read_lines, stored_lines
from pipelines.model import JobState
from pipelines.schema import jobs

__all__ = ["Line", "LogLine", "Logs", "decode_line", "encode_line", "to_event"]

_BATCH_LINES: Final = 1000
_WAIT_S: Final = 1.0
_MARKED: Final = 8  # logs
_log = logging.getLogger(__name__)


class Logs:
    """The logs of all jobs, each by the job's number. Thread-safe."""

    def __init__(self, database: Database, live: LiveLogs, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._database = database
        self._live = live
        self._sleep = sleep
        self._marking = threading.Lock()  # guards what follows
        self._marked: OrderedDict[int, _Marking] = OrderedDict()

    def read(self, number: int, first: int = 1, limit: int = 1000) -> list[Line]:
        """At most ``limit`` lines from ``first`` on, as far as the log has come; fewer where the lines are long.

        Raises NotFoundError.
        """
        row = self._job(number)
        with self._database.read() as connection:
            found = read_lines(connection, number, first, limit)
        following = found[-1][0] + 1 if found else first
        if len(found) < limit and following > row.lines and row.state == "running":
            found += self._fresh(number, row.attempt, following, wait_s=0).lines
        return found[:limit]

    def wait(self, positions: Mapping[tuple[int, int], int], wait_s: float) -> bool:
        """Wait until one of several attempts has said more than is known of it, ``wait_s`` at most; False: none has.

        positions: by job's number and attempt, also one that has not begun, the last line that is known.
        """
        try:
            if positions:
                return self._live.wait(positions, wait_s)
        except QueueUnreachableError as error:
            _log.warning("no live lines: %s", error)
        self._sleep(wait_s)
        return False

    def text(self, number: int, offset: int = 0, limit: int | None = None) -> Iterator[bytes]:
        """The log as plain text, as far as it has come: from byte ``offset`` on, at most ``limit`` bytes.

        Raises NotFoundError.
        """
        with self._database.read() as connection:
            first, begins = line_near(connection, number, offset)
        skipped, left = offset - begins, limit
        while (left is None or left > 0) and (lines := self.read(number, first, _BATCH_LINES)):
            text = "".join([decode_line(data).text + "\n" for _, data in lines]).encode()
            piece = text[skipped:] if left is None else text[skipped : skipped + left]
            skipped = max(0, skipped - len(text))
            first = lines[-1][0] + 1
            left = None if left is None else left - len(piece)
            if piece:
                yield piece

    def follow(
        self, number: int, after: int = 0, *, partial: Callable[[bytes], None] | None = None
    ) -> Iterator[list[Line]]:
        """Every line after number ``after``, in batches, until the job has ended and all lines were given.

        While there is nothing new, an empty batch comes about every second, so that the caller can say that it lives.
        partial: called with the line that has begun after the last one, as JSON, and again each time this line grows.
        Raises NotFoundError when the job does not exist, or no longer.
        """
        following, entry = after + 1, 0
        while True:
            row = self._job(number)
            for stored in self._stored(number, following, row.lines):
                yield stored
                following, entry = stored[-1][0] + 1, 0
            if row.state in ENDED:
                return
            attempt = row.attempt if row.state == "running" else row.attempt + 1
            while True:  # as long as the stream alone has all new lines
                fresh = self._fresh(number, attempt, following, wait_s=_WAIT_S, entry=entry)
                if fresh.lines:
                    yield fresh.lines
                    following, entry = fresh.lines[-1][0] + 1, 0
                elif not (fresh.ended or fresh.partial):
                    yield []
                if fresh.partial:
                    entry = fresh.entry
                    if partial is not None:
                        partial(fresh.partial)
                if fresh.gap:
                    self._sleep(_WAIT_S / 10)
                if fresh.gap or fresh.ended or not (fresh.lines or fresh.partial):
                    break

    def search(self, number: int, text: str, *, first: int = 1, limit: int = 200) -> list[Line]:
        """Stored lines from number ``first`` on whose text contains ``text``, whatever the case.

        At most ``limit`` of them. Raises NotFoundError.
        """
        self._job(number)
        with self._database.read() as connection:
            return list(itertools.islice(_with_text(stored_lines(connection, number, first), text), limit))

    def matches(self, number: int, text: str) -> list[int]:
        """The numbers of all stored lines whose text contains ``text``, whatever the case. Raises NotFoundError."""
        self._job(number)
        with self._database.read() as connection:
            return [found for found, _ in _with_text(stored_lines(connection, number), text)]

    def marks(self, number: int, after: int = 0) -> Found:
        """What stands out in the stored lines after line ``after``, and the step of each. Raises NotFoundError.

        Each line is looked at once: what was found is kept for the logs that were asked for last.
        """
        self._job(number)
        with self._marking:
            marking = self._marked.setdefault(number, _Marking())
            self._marked.move_to_end(number)
            while len(self._marked) > _MARKED:
                self._marked.popitem(last=False)
        with marking.lock, self._database.read() as connection:
            for line, data in stored_lines(connection, number, marking.marker.lines + 1):
                marking.marker.look(line, data)
            return marking.marker.found(after)

    def _job(self, number: int) -> _State:
        with self._database.read() as connection:
            row = connection.execute(
                select(jobs.c.state, jobs.c.attempt, jobs.c.lines).where(jobs.c.number == number)
            ).first()
        if row is None:
            raise NotFoundError(f"there is no job {number}")
        return _State(*row)

    def _stored(self, number: int, first: int, last: int) -> Iterator[list[Line]]:
        while first <= last:
            with self._database.read() as connection:
                stored = read_lines(connection, number, first, _BATCH_LINES)
            if not stored:
                return
            yield stored
            first = stored[-1][0] + 1

    def _fresh(self, number: int, attempt: int, following: int, *, wait_s: float, entry: int = 0) -> _Fresh:
        """Live lines from number ``following`` on, and the line that has begun after them unless ``entry`` has it."""
        found: list[Line] = []
        try:
            batches = self._live.read(number, attempt, following - 1, wait_s=wait_s, entry=entry)
        except QueueUnreachableError as error:
            _log.warning("job %d: no live lines: %s", number, error)
            if wait_s:
                self._sleep(wait_s / 2)
            return _Fresh(found)
        for batch in batches:
            for line in batch.lines():
                if line[0] == following:
                    found.append(line)
                    following += 1
                elif line[0] > following:
                    return _Fresh(found, gap=True)
        begun = batches[-1] if batches and batches[-1].last == following - 1 else _NOTHING
        return _Fresh(found, False, any(batch.ended for batch in batches), begun.partial, begun.entry)


def _with_text(lines: Iterator[Line], text: str) -> Iterator[Line]:
    wanted = text.casefold()
    plain = wanted.isascii() and wanted.isalnum()  # such text stands in the JSON as it is: most lines need no decoding
    raw = wanted.encode()
    for number, data in lines:
        if plain and data.isascii() and raw not in data.lower():
            continue
        if wanted in decode_line(data).text.casefold():
            yield number, data


class _Marking:
    """What was found in one log so far. lock: guards the rest."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.marker = Marker()


class _State(NamedTuple):
    state: JobState
    attempt: int
    lines: int


class _Fresh(NamedTuple):
    """Live lines.

    gap: lines are missing here: they are stored, and no longer live.
    ended: the attempt is over.
    partial, entry: as in ``Batch``.
    """

    lines: list[Line]
    gap: bool = False
    ended: bool = False
    partial: bytes = b""
    entry: int = 0


_NOTHING: Final = Batch(0, 0, b"")
