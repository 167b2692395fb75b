"""Whether a job that failed is tried again. Pure: the service and ``shiplap ci run`` ask it alike."""

from __future__ import annotations

from ci.ends import JobOutcome
from ci.model import Retry


def is_tried_again(retry: Retry, outcome: JobOutcome, attempt: int) -> bool:
    """Whether the job gets another attempt. What never began would fail again, so it does not.

    attempt: the one that ended, from 1.
    """
    if outcome.state != "failed" or not outcome.failure or attempt > retry.times:
        return False
    return not retry.on or outcome.failure in retry.on or str(outcome.exit_code) in retry.on
