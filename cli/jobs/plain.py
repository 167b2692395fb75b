"""Jobs as lines, for pipes and log files: each line has the job that it is of in front.

lint | => ruff check src
test (3.11) | => pytest
lint | All checks passed!
lint | => DONE 1.2s
lint | succeeded in 1.4s
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO

from cli.jobs.happening import Began, Ended, FailedOnce, Happened, Happening
from cli.jobs.joblog import JobLog, shown_lines
from cli.jobs.words import ended_text
from cli.progress.plain import finish_text, transfer_text
from cli.progress.text import harmless, one_line
from core.events import StepFinished, StepProgress
from pipelines.logs.lines import LogLine, to_event


class PlainJobs:
    """Writes to ``sink``, flushed by line.

    logs: of each job, by name.
    colours: whether the colours of programs are kept.
    """

    interval_s = 0.05

    def __init__(self, sink: TextIO, logs: Mapping[str, JobLog], *, colours: bool) -> None:
        self._sink = sink
        self._logs = logs
        self._colours = colours

    def handle(self, event: Happening) -> None:
        match event:
            case Began(job, attempt):
                self._write(job, *(self._shown(job, line) for line in self._logs[job].again()))
                if attempt > 1:
                    self._write(job, f"attempt {attempt}")
            case Happened(job, told):
                self._write(job, *(self._shown(job, line) for line in shown_lines(self._logs[job], told)))
            case FailedOnce(job, message):
                self._write(job, f"failed, and is tried again: {one_line(message)}")
            case Ended(job, end):
                self._write(job, *(self._shown(job, line) for line in self._logs[job].again()))
                self._write(job, ended_text(end))
            case _:
                self._sink.write(f"{event.reason}\n")

    def refresh(self) -> None:
        self._sink.flush()

    def step_aside(self) -> None:
        """Somebody else writes next."""
        self._sink.flush()

    def close(self) -> None:
        self._sink.flush()

    def _write(self, job: str, *lines: str) -> None:
        for line in lines:
            self._sink.write(f"{job} | {line}".rstrip() + "\n")
            self._sink.flush()

    def _shown(self, job: str, line: LogLine) -> str:
        if line.kind == "output":
            speaker = self._logs[job].speaker(line)
            return f"{f'{speaker}: ' if speaker else ''}{harmless(line.text, colours=self._colours)}"
        return f"=> {_step_text(line)}"


def _step_text(line: LogLine) -> str:
    event = to_event(line)
    if isinstance(event, StepFinished):
        return finish_text(event)
    if isinstance(event, StepProgress):
        return transfer_text(event)
    return one_line(line.text)
