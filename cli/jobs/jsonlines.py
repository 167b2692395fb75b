"""Jobs as JSON, one object a line. docs/progress-json.md promises its form: add members, never change them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TextIO

from ci.local.watching import JobEnd
from ci.reports.model import Reports, tally
from cli.jobs.happening import Began, Ended, FailedOnce, Happened, Happening
from cli.jobs.joblog import JobLog
from cli.progress.jsonlines import json_object
from pipelines.logs.lines import LogLine, to_event

_MOST_FAILED: Final = 100


class JsonJobs:
    """Writes to ``sink``, a line for each thing that happens. logs: of each job, by name."""

    interval_s = 0.02

    def __init__(self, sink: TextIO, logs: Mapping[str, JobLog]) -> None:
        self._sink = sink
        self._logs = logs

    def handle(self, event: Happening) -> None:
        match event:
            case Began(job, attempt, at):
                self._lines(job, self._logs[job].again())
                self._write({"event": "job-start", "job": job, "attempt": attempt, "at": at})
            case Happened(job, told):
                self._lines(job, self._logs[job].lines(told))
            case FailedOnce(job, message):
                self._write({"event": "job-retry", "job": job, "message": message})
            case Ended(job, end):
                self._lines(job, self._logs[job].again())
                self._write({"event": "job-end", "job": job, **end_members(end)})
            case _:
                self._write({"event": "ending", "message": event.reason})

    def refresh(self) -> None:
        self._sink.flush()

    def step_aside(self) -> None:
        """Somebody else writes next."""
        self._sink.flush()

    def close(self) -> None:
        self._sink.flush()

    def _lines(self, job: str, lines: list[LogLine]) -> None:
        for line in lines:
            event = to_event(line)
            if event is not None:
                found = json_object(event)
                self._write({"event": found.pop("event"), "job": job, **found})

    def _write(self, members: Mapping[str, Any]) -> None:
        self._sink.write(json_line(members))


def json_line(members: Mapping[str, Any]) -> str:
    """One object, with its newline."""
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")) + "\n"


def end_members(end: JobEnd) -> dict[str, Any]:
    """How a job ended."""
    found: dict[str, Any] = {
        "state": end.state,
        "message": end.message,
        "duration_s": round(end.duration_s, 6),
        "attempts": end.attempts,
    }
    if end.outcome is not None:
        found |= {
            "exit_code": end.outcome.exit_code,
            "outputs": end.outcome.outputs,
            "image": end.outcome.image or None,
            "reused_from": end.outcome.reused_from or None,
        }
        if end.outcome.reports is not None:
            found["reports"] = _reports(end.outcome.reports)
    return found


def _reports(reports: Reports) -> dict[str, Any]:
    counted = tally(reports.cases)
    failed = [case for case in reports.cases if case.has_failed]
    return {
        "tests": {"total": counted.total, "failed": counted.failed, "skipped": counted.skipped, "flaky": counted.flaky},
        "failed": [{"suite": case.suite, "name": case.name, "message": case.message} for case in failed[:_MOST_FAILED]],
        "coverage": reports.coverage,
        "notes": list(reports.notes),
    }
