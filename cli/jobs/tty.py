"""Jobs on a terminal: those that ended, above; then each running one with its step, its time and its last lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ci.local.watching import JobEnd
from cli.jobs.happening import Began, Ended, FailedOnce, Happened, Happening
from cli.jobs.joblog import JobLog
from cli.jobs.words import STYLES, ended_text
from cli.progress.screen import Row, Screen
from cli.progress.text import harmless, one_line

_TAIL_LINES: Final = 6
_FIRST_PAINT_S: Final = 0.15


class TtyJobs:
    """Paints on ``screen`` at most ten times a second.

    logs: of each job, by name.
    clock: seconds since the epoch.
    """

    interval_s = 0.1

    def __init__(self, screen: Screen, logs: Mapping[str, JobLog], *, clock: Callable[[], float] = time.time) -> None:
        self._screen = screen
        self._logs = logs
        self._clock = clock
        self._began_at = clock()
        self._running: dict[str, float] = {}
        self._ended: dict[str, JobEnd] = {}
        self._notes: dict[str, str] = {}
        self._ending = ""

    def handle(self, event: Happening) -> None:
        match event:
            case Began(job, attempt, at):
                self._logs[job].again()
                self._running[job] = at
                self._notes[job] = f"attempt {attempt}, " if attempt > 1 else ""
            case Happened(job, told):
                self._logs[job].lines(told)
            case FailedOnce(job):
                self._running.pop(job, None)
            case Ended(job, end):
                self._logs[job].again()
                self._running.pop(job, None)
                self._ended[job] = end
            case _:
                self._ending = event.reason

    def refresh(self) -> None:
        now = self._clock()
        if now - self._began_at >= _FIRST_PAINT_S:
            self._screen.paint(self.rows(now, self._screen.height))

    def step_aside(self) -> None:
        """Take the rows away: somebody else writes next, and below it the rows come anew."""
        self._screen.paint([])

    def close(self) -> None:
        """Take the rows away: a summary comes, which has all that they say."""
        self._screen.paint([])

    def rows(self, now: float, height: int) -> list[Row]:
        """The header, a row for each job that ended or runs, and last lines, in at most ``height`` lines.

        These give way, in this order: last lines of running jobs, jobs that ended (oldest first), running jobs.
        """
        room = max(1, height - 2)  # the header, and the line of the cursor
        head = [Row(f"[+] Running {now - self._began_at:.1f}s ({len(self._ended)}/{len(self._logs)})")]
        if self._ending:
            head.append(Row(f" => {one_line(self._ending)}", style="bad"))
            room = max(1, room - 1)
        running = list(self._running)
        limit = min(_TAIL_LINES, max(0, room - len(running)) // len(running)) if running else 0
        below = [row for job in running for row in self._running_rows(job, now, limit)]
        return head + self._ended_rows(room - len(below)) + below[:room]

    def _ended_rows(self, room: int) -> list[Row]:
        names = list(self._ended)
        hidden = len(names) - room
        if hidden <= 0:
            return [self._ended_row(name) for name in names]
        if room <= 0:
            return []
        shown = names[hidden + 1 :]
        return [Row(f" => … {hidden + 1} more jobs ended", style="dim"), *map(self._ended_row, shown)]

    def _ended_row(self, name: str) -> Row:
        end = self._ended[name]
        return Row(f" => {one_line(name)}: {ended_text(end)}", style=STYLES[end.state])

    def _running_rows(self, name: str, now: float, limit: int) -> Sequence[Row]:
        log = self._logs[name]
        step = f": {one_line(log.step)}" if log.step else ""
        head = Row(f" => {one_line(name)}{step}", f"{self._notes[name]}{max(0.0, now - self._running[name]):.1f}s")
        lines = [*log.last, *log.unfinished()]
        tail = lines[max(0, len(lines) - limit) :] if limit else []
        return [head, *(Row(f" => => # {harmless(line, colours=False).expandtabs(8)}", style="dim") for line in tail)]
