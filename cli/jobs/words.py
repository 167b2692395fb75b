"""How jobs ended, in words."""

from __future__ import annotations

from typing import Final

from ci.graph import State
from ci.local.looking import Always
from ci.local.watching import JobEnd, RunEnd
from cli.progress.screen import Style
from cli.progress.text import one_line

_ERROR: Final = "error: "
HERE: Final = "local"
"""What runs on this machine have for a number."""

ALWAYS: Final[dict[Always, str]] = {
    "gate": "it is a gate, which asks each time",
    "build": "it builds an image, whose steps come from the cache",
    "inputs": "it has no `inputs`, so it always runs",
    "reuse": "it says `reuse: false`",
}

STYLES: Final[dict[State, Style]] = {
    "succeeded": "good", "reused": "good", "failed": "bad", "error": "bad", "skipped": "dim", "cancelled": "dim",
}  # fmt: skip
"""By state, how its row looks."""


def seconds_text(seconds: float) -> str:
    """``4.2s``, ``3m 07s``."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m {rest:02}s"


def ended_text(end: JobEnd) -> str:
    """One line: ``succeeded in 1.4s``, ``failed in 2.0s: exit code 1``."""
    took = f" in {seconds_text(end.duration_s)}" if end.attempts else ""
    return f"{end.state}{took}{_aside(end)}"


def whose_result(run: str) -> str:
    """Of a job that was reused: whose result it has."""
    return "the result of an earlier run here" if run == HERE else f"the result of run {one_line(run)}"


def first_line(message: str) -> str:
    """Of why a job ended."""
    return message.removeprefix(_ERROR).partition("\n")[0]


def _aside(end: JobEnd) -> str:
    if end.is_flaky:
        return f", flaky: at attempt {end.attempts}"
    if end.outcome is not None and end.outcome.reused_from:
        return f": {whose_result(end.outcome.reused_from)}"
    return f": {one_line(first_line(end.message))}" if end.message else ""


def counts_text(end: RunEnd) -> str:
    """``5 jobs: 3 succeeded, 1 reused, 1 failed, 12.3s``."""
    states: dict[State, int] = {}
    for job in end.jobs.values():
        states[job.state] = states.get(job.state, 0) + 1
    told = ", ".join(f"{states[state]} {state}" for state in STYLES if state in states)
    count = len(end.jobs)
    return f"{count} job{'' if count == 1 else 's'}: {told}, {seconds_text(end.duration_s)}"
