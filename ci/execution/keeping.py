"""What is kept of a job once it has ended, without its outcome depending on that."""

from __future__ import annotations

from collections.abc import Callable

from ci.errors import JobCancelledError
from ci.execution.ending import Ending
from core.cancellation import asking
from core.errors import ShiplapError


def why_not(keep: Callable[[], str], ending: Ending) -> str:
    """What ``keep`` says of why nothing was kept, or the error that kept it from that; empty: it is kept.

    Raises JobCancelledError. Nothing else that a full disk or a store can raise: a job is not failed by what is kept.
    """
    try:
        with asking(ending.check_cancelled):
            return keep()
    except JobCancelledError:
        raise
    except ShiplapError as error:
        return error.message
    except OSError as error:
        return str(error)
