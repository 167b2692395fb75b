"""What a gate asks, with its values, and how long it waits, in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ci.errors import PipelineFileError
from ci.planning import PlannedJob

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def question(planned: PlannedJob, facts: Mapping[str, str], exports: Mapping[str, Mapping[str, str]]) -> str:
    """What a gate asks. A value that a job before it never wrote leaves the text as it is in the file.

    exports: by job and name, of jobs before it.
    """
    assert planned.job.approve is not None, "it is a gate"
    try:
        settled = planned.settled(facts, exports).approve
    except PipelineFileError:
        settled = None
    return str((settled or planned.job.approve).message).strip()


def why_late(timeout_s: float) -> str:
    """Why a gate failed that nobody answered."""
    return f"nobody answered within {duration_text(timeout_s)}"


def duration_text(seconds: float) -> str:
    """As a pipeline file has it: ``7d``, ``1h30m``."""
    left, found = round(seconds), ""
    for unit_s, unit in _UNITS:
        count, left = divmod(left, unit_s)
        found += f"{count}{unit}" if count else ""
    return found or "0s"
