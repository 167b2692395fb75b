"""When and how a job is ended: SIGTERM to all its processes, and SIGKILL once its grace is over."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Literal, TypeAlias

from ci.errors import JobCancelledError, JobLateError
from containers.launcher import Container

Reason: TypeAlias = Literal["", "cancelled", "timeout"]


class Ending:
    """Decides when one attempt of a job has to end. Of one thread, but for what it asks.

    cancelled: ask for SIGTERM, and for SIGKILL once the grace is over.
    killed: asks for SIGKILL at once.
    timeout_s: of the attempt, which begins now; when it is over, the job is ended as if it were cancelled.
    """

    def __init__(
        self,
        cancelled: threading.Event | None,
        killed: threading.Event | None,
        *,
        timeout_s: float,
        grace_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cancelled = cancelled
        self._killed = killed
        self._clock = clock
        self._late_at = clock() + timeout_s
        self._grace_s = grace_s
        self._dies_at = 0.0
        self._signalled: Reason = ""

    @property
    def reason(self) -> Reason:
        """Why the job has to end; empty: it may go on. Whoever is late and cancelled is cancelled."""
        if _is_set(self._killed) or _is_set(self._cancelled):
            return "cancelled"
        return "timeout" if self._signalled == "timeout" or self._clock() > self._late_at else ""

    def has_to_die(self, container: Container) -> bool:
        """Whether the container is to be killed; asks its processes to end before that, once."""
        if _is_set(self._killed):
            return True
        if not self._signalled:
            self._signalled = self.reason
            if self._signalled:
                self._dies_at = self._clock() + self._grace_s
                container.signal(signal.SIGTERM)
        return bool(self._signalled) and self._clock() >= self._dies_at

    def check(self) -> None:
        """For what can be left at any time. Raises JobCancelledError or JobLateError once the job has to end."""
        reason = self.reason
        if reason == "cancelled":
            raise JobCancelledError("cancelled")
        if reason == "timeout":
            raise JobLateError("the time-out is over")

    def check_cancelled(self) -> None:
        """For what is done of a job that is late, too. Raises JobCancelledError once somebody cancelled it."""
        if _is_set(self._killed) or _is_set(self._cancelled):
            raise JobCancelledError("cancelled")

    def event(self) -> threading.Event:
        """Set once the job has to end, for those who ask ``is_set`` again and again."""
        return _Asked(lambda: bool(self.reason))


class _Asked(threading.Event):
    """An event that is set once a question is answered so. Nobody can wait for it."""

    def __init__(self, question: Callable[[], bool]) -> None:
        super().__init__()
        self._question = question

    def is_set(self) -> bool:
        return self._question()


def _is_set(event: threading.Event | None) -> bool:
    return event is not None and event.is_set()
