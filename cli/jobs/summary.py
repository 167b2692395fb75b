"""The end of ``shiplap ci run``: what failed, with its last lines; then a line for each job, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from ci.local.watching import JobEnd, RunEnd
from ci.planning import PlannedJob
from ci.reports.model import Reports
from ci.reports.words import failed_lines, headline
from cli.jobs.joblog import JobLog
from cli.jobs.words import STYLES, counts_text, first_line, seconds_text, whose_result
from cli.progress.screen import Style, styled
from cli.progress.text import cell_width, harmless, one_line

_WENT_WRONG: Final = ("failed", "error")


def failure_lines(end: RunEnd, logs: Mapping[str, JobLog], *, colours: bool) -> Iterator[str]:
    """For each job that failed the end of its log, and why it failed."""
    for name, job in end.jobs.items():
        if job.state not in _WENT_WRONG:
            continue
        yield f"------ {one_line(name)} {job.state}:"
        yield from (harmless(line, colours=colours) for line in logs[name].last)
        yield from (harmless(line, colours=False) for line in job.message.splitlines())
    if any(job.state in _WENT_WRONG for job in end.jobs.values()):
        yield "------"
        yield ""


def summary_lines(
    jobs: Sequence[PlannedJob], left_out: Mapping[str, str], end: RunEnd, reasons: Mapping[str, str], *, colours: bool
) -> Iterator[str]:
    """A line for each job, then those that were left out, then how many there were.

    end: with messages that may be shown.
    reasons: by job that ran, why it did.
    """
    rows: list[tuple[str, str, str, str, Style]] = []
    for planned in jobs:
        job = end.jobs[planned.name]
        took = seconds_text(job.duration_s) if job.attempts else ""
        rows.append(
            (planned.name, _state(planned, job), took, _words(job, reasons.get(planned.name, "")), STYLES[job.state])
        )
    rows += [(name, "left out", "", reason, "dim") for name, reason in left_out.items()]
    yield from _table(rows, colours=colours)
    outputs = [(name, job.outcome) for name, job in end.jobs.items() if job.outcome is not None]
    kept = [name for name, outcome in outputs if outcome.outputs is not None]
    if kept:
        yield f"outputs of {', '.join(map(one_line, kept))}: in the local store"
    for name, outcome in outputs:
        if outcome.image:
            yield f"{one_line(name)}: image {outcome.image}"
    for name, outcome in outputs:
        if outcome.reports is not None:
            yield from _reports(name, outcome.reports)
    yield counts_text(end)


def _reports(name: str, reports: Reports) -> Iterator[str]:
    told = headline(reports)
    if told:
        yield f"{one_line(name)}: {told}"
    yield from (f"  {one_line(line)}" for line in failed_lines(reports))
    yield from (f"{one_line(name)}: warning: {one_line(note)}" for note in reports.notes)


def _state(planned: PlannedJob, job: JobEnd) -> str:
    if job.state == "failed" and planned.job.may_fail:
        return "failed (may)"
    return "flaky" if job.is_flaky else job.state


def _words(job: JobEnd, reason: str) -> str:
    if job.outcome is not None and job.outcome.reused_from:
        return whose_result(job.outcome.reused_from)
    if job.is_flaky:
        return f"succeeded at attempt {job.attempts}"
    return first_line(job.message) or reason


def _table(rows: Sequence[tuple[str, str, str, str, Style]], *, colours: bool) -> Iterator[str]:
    cells = [tuple(one_line(cell) for cell in row[:4]) for row in rows]
    widths = [max(map(cell_width, column)) for column in zip(*cells, strict=True)]
    for row, (*_, style) in zip(cells, rows, strict=True):
        padded = [cell + " " * (width - cell_width(cell) + 2) for cell, width in zip(row, widths, strict=True)]
        text = "".join(padded).rstrip()
        yield styled(text, style) if colours else text
