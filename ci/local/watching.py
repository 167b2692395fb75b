"""What a run tells of itself, and to whom."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from ci.ends import JobOutcome
from ci.graph import RunOutcome, State
from core.events import Monitor


class JobEnd(Struct, frozen=True):
    """How a job ended.

    message: why, where its state does not say it.
    error: what was raised in place of an outcome; None: nothing was.
    duration_s: from its first start; 0 when it never began.
    attempts: how often it began.
    outcome: None: it had none, as it was skipped, cancelled, or the machine failed.
    """

    state: State
    message: str = ""
    duration_s: float = 0.0
    attempts: int = 0
    outcome: JobOutcome | None = None
    error: Exception | None = None

    @property
    def is_flaky(self) -> bool:
        """Whether it succeeded, and not at the first attempt."""
        return self.state == "succeeded" and self.attempts > 1


class RunEnd(Struct, frozen=True):
    """How a run ended. jobs: by name, in the order of the file, without those that were left out."""

    jobs: dict[str, JobEnd]
    outcome: RunOutcome
    duration_s: float

    @property
    def has_warnings(self) -> bool:
        return self.outcome.has_warnings or any(end.is_flaky for end in self.jobs.values())


class Watcher(Protocol):
    """Learns how a run goes on.

    Made by: whoever starts the run.
    Threads: all calls come from the thread that runs ``LocalRun.run``; the monitors that it gives are called by any.
    """

    def monitor(self, job: str) -> Monitor:
        """Where the events of a job go: those of one attempt."""

    def started(self, job: str, attempt: int) -> None:
        """An attempt begins."""

    def failed_once(self, job: str, message: str) -> None:
        """An attempt failed, and the job will be tried again."""

    def ended(self, job: str, end: JobEnd) -> None:
        """A job's state will not change any more."""

    def ending(self, reason: str) -> None:
        """The run is being ended. Jobs that clean up still run. reason: why, as a sentence without its stop."""
