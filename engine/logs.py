"""Reading what a container wrote: the files of its log, the past and, on request, what follows.

A keeper appends whole lines to ``log/N.json`` and begins N+1 when a file is full (``containers.keeper.logfile``). A
reader holds the file that it reads open. So it reads each to its end although the keeper may remove it, and nothing
comes twice or is left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from containers.keeper import logfile
from core.cancellation import check
from core.watching import Watch
from engine.errors import InvalidRequestError
from engine.times import moment_of

_LOOK_EACH_S: Final = 0.5
_SECOND: Final = 1_000_000_000
_BLOCK: Final = 1 << 16


class LogEntry(NamedTuple):
    """A line, or a part of one that is longer than ``logfile.PART_BYTES``.

    stream: ``stdout`` or ``stderr``.
    data: as it was written, with its line feed if it had one.
    time: RFC 3339, as the log has it.
    """

    time_ns: int
    stream: str
    data: bytes
    time: str


class Wanted(NamedTuple):
    """Which part of a log.

    since_ns, until_ns: moments, 0 for any.
    tail: at most so many of the last entries of the past; None for all.
    """

    since_ns: int = 0
    until_ns: int = 0
    tail: int | None = None
    stdout: bool = True
    stderr: bool = True

    def takes(self, entry: LogEntry) -> bool:
        """Whether the entry is of these streams, and not too old."""
        return (self.stdout if entry.stream == "stdout" else self.stderr) and entry.time_ns >= self.since_ns


class Place(NamedTuple):
    """How far a log has been read: the number of a file, and bytes from its beginning."""

    file: int = 0
    offset: int = 0


_MOST_HELD: Final = 1000
"""Entries in memory, each up to 16 KiB: who wants more of a log's end has it read twice."""

_NO_END: Final = Place(sys.maxsize)


class LogReader:
    """Reads one container's log. ``place`` is how far it has come, for whoever goes on from there."""

    def __init__(self, directory: Path) -> None:
        """directory: the container's."""
        self._folder = str(directory / "log")
        self._directory = directory
        self.place = Place()

    def past(self, wanted: Wanted) -> Iterator[LogEntry]:
        """What is there now, however fast more comes. Raises InvalidRequestError when no stream is wanted."""
        if not wanted.stdout and not wanted.stderr:
            raise InvalidRequestError("Bad parameters: you must choose at least one stream")
        end = self._end()
        if wanted.tail is None:
            yield from self._until(wanted, self._ahead(wanted, end))
        elif wanted.tail > 0:
            self._seek_back(wanted, end)
            yield from self._last(wanted, wanted.tail, end)
        else:
            self.place = end

    def _last(self, wanted: Wanted, number: int, end: Place) -> Iterator[LogEntry]:
        """The last so many of what is wanted from ``place`` on."""
        begun = self.place
        last: deque[LogEntry] = deque(maxlen=min(number, _MOST_HELD))
        count = 0
        for entry in self._until(wanted, self._ahead(wanted, end)):
            count += 1
            last.append(entry)
        if number <= _MOST_HELD or count <= _MOST_HELD:
            yield from last
            return
        last.clear()
        self.place = begun
        yield from islice(self._until(wanted, self._ahead(wanted, end)), max(0, count - number), None)

    def _end(self) -> Place:
        """Where the last whole line ends."""
        while numbers := logfile.numbers(self._folder):
            with contextlib.suppress(FileNotFoundError):  # it made room meanwhile, for a later one
                return Place(numbers[-1], _whole_bytes(logfile.path(self._folder, numbers[-1])))
        return self.place

    def following(self, wanted: Wanted, is_up: Callable[[], bool]) -> Iterator[LogEntry]:
        """The past, and then what comes, until the container has ended and all is read; or until ``until_ns`` is over.

        docker goes on until a line comes that is later than that.
        """
        with Watch([self._folder, self._directory]) as watch:
            yield from self.past(wanted)
            while True:
                was_up = is_up()  # asked before reading: what it wrote until it ended is read then
                left_s = (wanted.until_ns - time.time_ns()) / _SECOND if wanted.until_ns else _LOOK_EACH_S
                for entry in self._ahead(wanted, _NO_END):
                    if wanted.until_ns and entry.time_ns > wanted.until_ns:
                        return
                    yield entry
                if not was_up or left_s < 0:
                    return
                check()
                watch.wait(min(_LOOK_EACH_S, left_s))

    def _until(self, wanted: Wanted, entries: Iterator[LogEntry]) -> Iterator[LogEntry]:
        for entry in entries:
            if wanted.until_ns and entry.time_ns > wanted.until_ns:
                return
            yield entry

    def _ahead(self, wanted: Wanted, end: Place) -> Iterator[LogEntry]:
        """What is there beyond ``place``, which moves along, up to ``end``."""
        while self.place < end:
            numbers = [number for number in logfile.numbers(self._folder) if self.place.file <= number <= end.file]
            if not numbers:
                return
            number = numbers[0]
            if number != self.place.file:
                self.place = Place(number)
            # A later file is begun after the last line of this one was written.
            is_last = len(numbers) == 1
            try:
                with open(logfile.path(self._folder, number), "rb") as file:
                    yield from self._lines(file, wanted, end)
            except FileNotFoundError:
                is_last = False  # it was the oldest, and made room
            if is_last:
                return
            self.place = Place(number + 1)

    def _lines(self, file: BinaryIO, wanted: Wanted, end: Place) -> Iterator[LogEntry]:
        file.seek(self.place.offset)
        for line in file:
            behind = Place(self.place.file, self.place.offset + len(line))
            if behind > end or not line.endswith(b"\n"):
                return  # without its end it is being written
            check()
            self.place = behind
            entry = parse(line)
            if entry is not None and wanted.takes(entry):
                yield entry

    def _seek_back(self, wanted: Wanted, end: Place) -> None:
        """Go to where the last ``tail`` entries before ``end`` begin, or before."""
        if wanted.until_ns or not (wanted.stdout and wanted.stderr):
            return  # lines that do not count are in between: read all
        missing = wanted.tail or 0
        for number in reversed(logfile.numbers(self._folder)):
            if number > end.file:
                continue
            try:
                with open(logfile.path(self._folder, number), "rb") as file:
                    size = end.offset if number == end.file else os.fstat(file.fileno()).st_size
                    offset, missing = _back(file, missing, size)
            except FileNotFoundError:
                return
            self.place = Place(number, offset)
            if not missing:
                return


def parse(line: bytes) -> LogEntry | None:
    """An entry of a log's line; None for what is none, as a power loss may leave it."""
    try:
        found = json.loads(line)
        text, stream, moment = found["log"], found["stream"], found["time"]
        return LogEntry(moment_of(moment), stream, text.encode("utf-8", "surrogateescape"), moment)
    except (ValueError, KeyError, TypeError, InvalidRequestError):
        return None


def _whole_bytes(path: str) -> int:
    """Where the last whole line of a file ends."""
    with open(path, "rb") as file:
        end = os.fstat(file.fileno()).st_size
        while end:
            start = max(0, end - _BLOCK)
            at = os.pread(file.fileno(), end - start, start).rfind(b"\n")
            if at >= 0:
                return start + at + 1
            end = start
    return 0


def _back(file: BinaryIO, lines: int, end: int) -> tuple[int, int]:
    """Where the last so many lines before ``end`` begin in a file, and how many are still missing then."""
    fd = file.fileno()
    found = 0
    while end:
        start = max(0, end - _BLOCK)
        block = os.pread(fd, end - start, start)
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            found += 1
            if found > lines:  # the end of the line before
                return start + at + 1, 0
        end = start
    return 0, max(0, lines - found)
