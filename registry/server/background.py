"""Work that takes longer than a request may: done by one thread, while somebody goes on asking for its result.

A result never changes, since its key is made of digests. It is kept as a file, and so known to all processes.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from core.cancellation import asking
from core.errors import ShiplapError
from core.files import write_atomically

WANTED_S: Final = 15.0
"""How long after the last question work goes on."""

_MOST_WAITING: Final = 64
_MOST_FAULTS: Final = 256
_log = logging.getLogger(__name__)

Say: TypeAlias = Callable[[str], None]
"""Takes how far the work is, for people: ``layer 3 of 9``."""

Work: TypeAlias = Callable[[Say], bytes]
"""Makes a result. It asks often whether it has to end (``core.cancellation``)."""


class UnwantedError(Exception):
    """Nobody asks for the result any more."""


class Result(NamedTuple):
    """data: the result; None: it is not there yet. fault: why it will not be. progress: how far it is."""

    data: bytes | None
    fault: str = ""
    progress: str = ""


@dataclass
class _Task:
    work: Work
    asked_at: float
    progress: str = field(default="")


class Background:
    """Results in a directory. Thread-safe; it has a thread only while there is something to do.

    clock: seconds, for how long something was not asked for.
    """

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._clock = clock
        self._lock = threading.Lock()
        self._tasks: OrderedDict[str, _Task] = OrderedDict()
        self._faults: OrderedDict[str, str] = OrderedDict()
        self._is_busy = False

    def ask(self, key: str, work: Work) -> Result:
        """The result of ``work`` if it is there; else it is begun, or goes on. key: a name of a file, of digests."""
        data = self.stored(key)
        if data is not None:
            return Result(data)
        with self._lock:
            if key in self._faults:
                return Result(None, self._faults[key])
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
            return (self._directory / key).read_bytes()
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
                    return
                key, task = next(iter(self._tasks.items()))
            fault = self._do(key, task)
            with self._lock:
                del self._tasks[key]
                if fault:
                    self._faults[key] = fault
                while len(self._faults) > _MOST_FAULTS:
                    self._faults.popitem(last=False)

    def _do(self, key: str, task: _Task) -> str:
        """Returns why there will be no result; empty: there is one, or nobody wants it."""
        try:
            with asking(partial(self._go_on, task)):
                self._go_on(task)
                self.store(key, task.work(partial(setattr, task, "progress")))
        except UnwantedError:
            _log.debug("%s: nobody wants it any more", key)
        except ShiplapError as error:
            return error.message
        except (OSError, sqlite3.Error) as error:  # the disk is full, a file went away, the registry was closed
            _log.warning("%s: %s", key, error)
            return f"it cannot be read: {error}"
        return ""

    def _go_on(self, task: _Task) -> None:
        if self._clock() - task.asked_at > WANTED_S:
            raise UnwantedError
