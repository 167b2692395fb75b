"""The heart's side of ``worker.sender``: starts its process while this host has outputs that are not sent yet."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from typing import Final

from pipelines.service import Service
from worker.processes import environment_of
from worker.processresources import WorkerSettings

_PAUSE_S: Final = 5.0  # after a process that failed; it doubles
_LONGEST_PAUSE_S: Final = 300.0
_OFFER_S: Final = 60.0
_log = logging.getLogger(__name__)


class Sending:
    """Looks after the process. It ends by itself, and with this process."""

    def __init__(self, settings: WorkerSettings, service: Service) -> None:
        self._settings = settings
        self._service = service
        self._process: subprocess.Popen[bytes] | None = None
        self._failed = 0
        self._not_before = float("-inf")
        self._offered_at = float("-inf")

    def look(self, host: str) -> None:
        """Start the process if there is something to send and none runs. host: the identity of the store.

        Raises DatabaseUnreachableError.
        """
        if not self._service.settings.registry or self._is_going():
            return
        now, known = time.monotonic(), self._service.artifacts
        if now - self._offered_at >= _OFFER_S:
            self._offered_at = now
            if known.is_on_several_hosts():
                known.offer_again(host)
        if now < self._not_before or not known.has_unsent(host):
            return
        command = [sys.executable, "-m", "worker.sender", str(os.getpid()), self._settings.name]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment_of(self._settings))

    def _is_going(self) -> bool:
        if self._process is None:
            return False
        code = self._process.poll()
        if code is None:
            return True
        self._process = None
        self._failed = self._failed + 1 if code else 0
        pause = min(_PAUSE_S * 2.0 ** min(self._failed - 1, 9), _LONGEST_PAUSE_S) if code else 0.0
        if code:
            _log.warning("outputs of jobs could not be sent; they are sent again in %.0f s", pause)
        self._not_before = time.monotonic() + pause
        return False
