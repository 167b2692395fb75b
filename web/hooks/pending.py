"""The thread of a web process that takes the pushes which hooks of bare repositories kept while it was down."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from core.errors import ShiplapError
from pipelines.hooks.pending import PendingPushes
from pipelines.sources.git import repositories

if TYPE_CHECKING:
    from pipelines.service import Service

_EVERY_S: Final = 5.0
_log = logging.getLogger(__name__)


class PendingThread(threading.Thread):
    """Looks at once, and again every few seconds, until ``stop`` or the process's end."""

    def __init__(self, service: Service, *, every_s: float = _EVERY_S) -> None:
        super().__init__(name="pending-pushes", daemon=True)
        self._pending = PendingPushes(service.projects, service.receiver, repositories(service.settings))
        self._every_s = every_s
        self._stopped = threading.Event()

    def run(self) -> None:
        while True:
            try:
                self._pending.deliver()
            except ShiplapError as error:  # a database is away, or a key is missing: try again later
                _log.warning("kept pushes: %s", error)
            if self._stopped.wait(self._every_s):
                return

    def stop(self) -> None:
        self._stopped.set()
