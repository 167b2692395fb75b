"""What a run tells, on its way to the display: masked, with the time, from any thread."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, TextIO

from msgspec.structs import replace

from ci.local.watching import JobEnd
from cli.errors import describe
from cli.jobs.happening import Began, Ended, Ending, FailedOnce, Happened, Happening
from cli.jobs.joblog import JobLog
from cli.progress.choose import Mode
from cli.progress.pump import Pump
from core.closing import Closing
from core.events import Event
from core.masking import Masker


class JobsDisplay(Protocol):
    """A ``cli.progress.pump.Display`` of jobs."""

    interval_s: float

    def handle(self, event: Happening) -> None: ...

    def refresh(self) -> None: ...

    def step_aside(self) -> None:
        """Leave the terminal to somebody else, who writes next."""

    def close(self) -> None: ...


class JobsReport(Closing):
    """A ``ci.local.watching.Watcher``, and a context manager: when it is left, progress has been shown to its end.

    jobs: names of all of the run, in the order of the file.
    logs: by job; to be read once it was closed.
    colours: whether any are wanted on ``sink``.
    """

    def __init__(self, mode: Mode, sink: TextIO, jobs: Iterable[str], secrets: Iterable[bytes]) -> None:
        self._masker = Masker(secrets)
        self.logs = {job: JobLog(self._masker) for job in jobs}
        self.colours = mode != "json" and sink.isatty() and not os.environ.get("NO_COLOR")
        self._display = _open(mode, sink, self.logs, colours=self.colours)
        self._pump: Pump[Happening] = Pump(self._display)

    def monitor(self, job: str) -> _JobMonitor:
        return _JobMonitor(job, self._pump)

    def started(self, job: str, attempt: int) -> None:
        self._pump.emit(Began(job, attempt, time.time()))

    def failed_once(self, job: str, message: str) -> None:
        self._pump.emit(FailedOnce(job, self._masker.mask(message)))

    def ended(self, job: str, end: JobEnd) -> None:
        self._pump.emit(Ended(job, self.masked(end)))

    def ending(self, reason: str) -> None:
        self._pump.emit(Ending(reason))

    def masked(self, end: JobEnd) -> JobEnd:
        """The same with a message that may be shown: an error's is whole, with place and hint."""
        message = describe(end.error) if end.error is not None else end.message
        return replace(end, message=self._masker.mask(message))

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Within: the terminal is somebody else's. Jobs that print much meanwhile wait."""
        with self._pump.paused():
            self._display.step_aside()
            yield

    def close(self) -> None:
        """Show what is left of the progress. A second call does nothing."""
        self._pump.close()


class _JobMonitor:
    """Passes one job's events on."""

    def __init__(self, job: str, pump: Pump[Happening]) -> None:
        self._job = job
        self._pump = pump

    def emit(self, event: Event) -> None:
        self._pump.emit(Happened(self._job, event))


def _open(mode: Mode, sink: TextIO, logs: Mapping[str, JobLog], *, colours: bool) -> JobsDisplay:
    if mode == "json":
        from cli.jobs.jsonlines import JsonJobs

        return JsonJobs(sink, logs)
    if mode == "tty":
        from cli.jobs.tty import TtyJobs
        from cli.progress.screen import Screen, terminal_size

        return TtyJobs(Screen(sink, size=lambda: terminal_size(sink), colours=colours), logs)
    from cli.jobs.plain import PlainJobs

    return PlainJobs(sink, logs, colours=colours)
