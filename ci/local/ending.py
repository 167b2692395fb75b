"""How somebody asks a run to end: once for SIGTERM and what cleans up, twice for SIGKILL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ci.errors import JobCancelledError
from ci.graph import Stop

_STOPS: Final[tuple[Stop, ...]] = ("", "ending", "now")


class EndRequests:
    """How often somebody has asked a run to end.

    ``ask`` may be called by a signal's handler: it takes no lock.
    """

    def __init__(self) -> None:
        self._count = 0
        self._wake: Callable[[], object] = lambda: None

    @property
    def stop(self) -> Stop:
        """What has been asked for so far."""
        return _STOPS[min(self._count, 2)]

    def ask(self) -> None:
        """Ask once more."""
        self._count += 1
        self._wake()

    def tell(self, wake: Callable[[], object]) -> None:
        """From now on, call ``wake`` at each request. It takes no lock either."""
        self._wake = wake

    def check(self) -> None:
        """For ``core.cancellation``: end what is done before any job has begun. Raises JobCancelledError."""
        if self._count:
            raise JobCancelledError("the run was cancelled")
