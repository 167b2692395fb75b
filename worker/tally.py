"""How many jobs a worker has taken, counted by all of its processes, and whether it has done enough by that."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from typing import Any, Final

from celery import Celery, bootsteps
from celery.worker import state

_LOOK_S: Final = 1.0
_LOCK_S: Final = 5.0  # a process that was killed holds it for ever; counting goes on without it then


class Tally:
    """The jobs of one worker.

    Made by: the worker, before its pool is forked: the counts are shared memory.
    Threads: one in each process.

    most: so many jobs are taken, and no more; 0: any number.
    idle_s: the worker ends once none was taken, or going on, for so long; 0: it never ends by that.
    """

    def __init__(self, most: int = 0, idle_s: float = 0.0) -> None:
        self._most = most
        self._idle_s = idle_s
        self._lock = multiprocessing.Lock()
        self._taken = multiprocessing.Value("q", 0, lock=False)
        self._looking = multiprocessing.Value("q", 0, lock=False)
        self._changed_at = multiprocessing.Value("d", time.monotonic(), lock=False)

    def may_look(self) -> bool:
        """Whether this process may look for a job. Who was told yes, says what came of it by ``looked``."""
        with self._locked():
            if self._most and self._taken.value + self._looking.value >= self._most:
                return False
            self._looking.value += 1
            return True

    def looked(self, *, found: bool) -> None:
        """A process has looked. found: it takes a job."""
        with self._locked():
            self._looking.value -= 1
            self._taken.value += found
        if found:
            self.note()

    def note(self) -> None:
        """Something goes on: a job has begun, or has ended."""
        self._changed_at.value = time.monotonic()

    def is_done(self, now: float, *, busy: bool) -> bool:
        """Whether the worker is to end, once what goes on has ended.

        now: of ``time.monotonic``. busy: something goes on.
        """
        if self._most and self._taken.value >= self._most:
            return True
        return bool(self._idle_s) and not busy and now - self._changed_at.value >= self._idle_s

    def attach(self, app: Celery) -> None:
        """Have Celery end the worker, as SIGTERM does, once it is done."""
        if not self._most and not self._idle_s:
            return
        tally = self

        class Leaving(bootsteps.StartStopStep):  # type: ignore[misc]  # celery has no types
            """Looks only while messages are consumed: a worker without its queue is not idle, it is cut off."""

            requires = ("celery.worker.consumer.tasks:Tasks",)

            def start(self, parent: Any) -> None:
                tally.note()
                self.timer = parent.timer.call_repeatedly(_LOOK_S, tally.look)

            def stop(self, parent: Any) -> None:
                del parent
                self.timer.cancel()

        app.steps["consumer"].add(Leaving)

    def look(self) -> None:
        """End the worker if it is done."""
        if self.is_done(time.monotonic(), busy=bool(state.active_requests)):
            os.kill(os.getpid(), signal.SIGTERM)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        is_held = self._lock.acquire(timeout=_LOCK_S)
        try:
            yield
        finally:
            if is_held:
                self._lock.release()
