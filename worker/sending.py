"""The heart's side of ``worker.sender``: starts its process while this host has outputs that are not sent yet.

Of the workers of one host one sends at a time: its process holds a lock beside the store.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from images.locks import try_named
from pipelines.service import Service
from worker.processes import environment_of
from worker.processresources import WorkerSettings

_PAUSE_S: Final = 5.0  # after a process that failed; it doubles
_LONGEST_PAUSE_S: Final = 300.0
_OFFER_S: Final = 60.0
_LOCK: Final = "sending"
_log = logging.getLogger(__name__)


def take_turn(root: Path) -> int | None:
    """A descriptor that lets nobody else on this host send until it is closed; None: somebody does."""
    return try_named(root / "serve" / "sending.lock", _LOCK)


def is_sending(root: Path) -> bool:
    """Whether a worker of this host sends just now."""
    held = take_turn(root)
    if held is None:
        return True
    os.close(held)
    return False


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
        if now < self._not_before or not known.has_unsent(host) or is_sending(self._service.settings.root):
            return
        command = [sys.executable, "-P", "-m", "worker.sender", str(os.getpid()), self._settings.name]
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment_of(self._settings))
        except OSError as error:  # no memory, or as many processes as there may be
            self._note_failure(str(error))

    def _is_going(self) -> bool:
        if self._process is None:
            return False
        code = self._process.poll()
        if code is None:
            return True
        self._process = None
        if code:
            self._note_failure(f"its process ended with {code}")
        else:
            self._failed = 0
        return False

    def _note_failure(self, why: str) -> None:
        """Pause, the longer the more often it failed."""
        self._failed += 1
        pause = min(_PAUSE_S * 2.0 ** min(self._failed - 1, 9), _LONGEST_PAUSE_S)
        self._not_before = time.monotonic() + pause
        _log.warning("outputs of jobs could not be sent (%s); they are sent again in %.0f s", why, pause)
