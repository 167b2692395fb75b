"""Work that takes longer than a request may: done by one thread, while somebody goes on asking for its result.

A result never changes, since its key is made of digests. It is kept as a file, and so known to all processes, until
others need the room: then it can be made again.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from core.cancellation import asking
from core.errors import ShiplapError, StorageFullError
from core.files import write_atomically

WANTED_S: Final = 15.0
"""How long after the last question work goes on."""

_MOST_WAITING: Final = 64
_MOST_FAULTS: Final = 256
_MOST_BYTES: Final = 4 << 30  # of all results
_TOUCHED_S: Final = 86_400.0  # how exactly it is known when a result was asked for
_FAULT_S: Final = 60.0  # after which work is tried again that failed for a reason that may pass
_log = logging.getLogger(__name__)

Say: TypeAlias = Callable[[str], None]
"""Takes how far the work is, for people: ``layer 3 of 9``."""

Work: TypeAlias = Callable[[Say], bytes]
"""Makes a result. It asks often whether it has to end (``core.cancellation``)."""


class UnwantedError(Exception):
    """Nobody asks for the result any more."""


class Result(NamedTuple):
    """What is known of a piece of work.

    data: the result; None: it is not there yet.
    fault: why it will not be.
    progress: how far it is.
    """

    data: bytes | None
    fault: str = ""
    progress: str = ""


class _Fault(NamedTuple):
    """Why there is no result. until: when that is asked anew, by the clock."""

    why: str
    until: float = math.inf


@dataclass
class _Task:
    work: Work
    asked_at: float
    progress: str = field(default="")


class Background:
    """Results in a directory. Thread-safe; it has a thread only while there is something to do.

    clock: seconds, for how long something was not asked for.
    most_bytes: of results. Those that nobody has asked for for the longest time go, after others were made.
    """

    def __init__(
        self, directory: Path, *, clock: Callable[[], float] = time.monotonic, most_bytes: int = _MOST_BYTES
    ) -> None:
        self._directory = directory
        self._most_bytes = most_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._tasks: OrderedDict[str, _Task] = OrderedDict()
        self._faults: OrderedDict[str, _Fault] = OrderedDict()
        self._is_busy = False

    def ask(self, key: str, work: Work) -> Result:
        """The result of ``work`` if it is there; else it is begun, or goes on. key: a name of a file, of digests."""
        data = self.stored(key)
        if data is not None:
            return Result(data)
        with self._lock:
            fault = self._faults.get(key)
            if fault is not None and self._clock() < fault.until:
                return Result(None, fault.why)
            task = self._tasks.get(key)
            if task is None and len(self._tasks) >= _MOST_WAITING:
                return Result(None, progress="others are read first")
            if task is None:
                task = self._tasks[key] = _Task(work, 0.0)
            task.asked_at = self._clock()
            if not self._is_busy:
                self._is_busy = True
                threading.Thread(target=self._run, name="background", daemon=True).start()
            return Result(None, progress=task.progress)

    def stored(self, key: str) -> bytes | None:
        """A result that is there."""
        try:
            with (self._directory / key).open("rb") as file:
                if time.time() - os.fstat(file.fileno()).st_mtime > _TOUCHED_S:
                    with contextlib.suppress(OSError):  # it is another user's, or the disk is to be read only
                        os.utime(file.fileno())
                return file.read()
        except FileNotFoundError:
            return None

    def store(self, key: str, data: bytes) -> None:
        """Keep a result, durably."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(self._directory / key, data)

    def forget(self, key: str) -> None:
        """Let a result that is damaged be made again."""
        (self._directory / key).unlink(missing_ok=True)

    def _run(self) -> None:
        """The thread: what was asked for first is done first, until nothing waits."""
        while True:
            with self._lock:
                if not self._tasks:
                    self._is_busy = False
                    break
                key, task = next(iter(self._tasks.items()))
            fault = self._do(key, task)
            with self._lock:
                del self._tasks[key]
                self._faults.pop(key, None)
                if fault is not None:
                    self._faults[key] = fault
                while len(self._faults) > _MOST_FAULTS:
                    self._faults.popitem(last=False)
        with contextlib.suppress(OSError):
            self._make_room()

    def _make_room(self) -> None:
        with os.scandir(self._directory) as entries:
            found = [(state.st_mtime, state.st_size, entry.path) for entry in entries for state in [entry.stat()]]
        left = sum(size for _, size, _ in found) - self._most_bytes
        for _, size, path in sorted(found):
            if left <= 0:
                return
            Path(path).unlink(missing_ok=True)
            left -= size

    def _do(self, key: str, task: _Task) -> _Fault | None:
        """Returns why there will be no result; None: there is one, or nobody wants it."""
        try:
            with asking(partial(self._go_on, task)):
                self._go_on(task)
                self.store(key, task.work(partial(setattr, task, "progress")))
        except UnwantedError:
            _log.debug("%s: nobody wants it any more", key)
        except ShiplapError as error:
            return _Fault(error.message, self._again() if isinstance(error, StorageFullError) else math.inf)
        except Exception as error:  # a file went away, the registry was closed; or it is our fault: others still come
            _log.warning("%s: it cannot be made", key, exc_info=True)
            why = isinstance(error, OSError) and error.strerror
            return _Fault(f"it cannot be read: {why or 'the log of the service says why'}", self._again())
        return None

    def _again(self) -> float:
        return self._clock() + _FAULT_S

    def _go_on(self, task: _Task) -> None:
        if self._clock() - task.asked_at > WANTED_S:
            raise UnwantedError
