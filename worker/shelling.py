"""The heart's side of ``worker.shell``: starts a process for each shell that is to be opened on this host."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from typing import Final

from pipelines.runs.shells import ASKED_S
from pipelines.service import Service
from worker.processes import environment_of
from worker.processresources import WorkerSettings

_MOST: Final = 8  # at once
_log = logging.getLogger(__name__)


class Shelling:
    """Looks after the processes. They end by themselves, and with this process.

    Of several workers on a host each starts one for a shell; whichever process is first opens it, the others end.
    """

    def __init__(self, settings: WorkerSettings, service: Service) -> None:
        self._settings = settings
        self._service = service
        self._processes: list[subprocess.Popen[bytes]] = []
        self._started: dict[int, float] = {}

    def look(self, host: str) -> None:
        """Start what is to be started. host: the identity of the store. Raises DatabaseUnreachableError."""
        now = time.monotonic()
        self._processes = [process for process in self._processes if process.poll() is None]
        self._started = {shell: at for shell, at in self._started.items() if now - at < 2 * ASKED_S}
        for shell in self._service.shells.asked_at(host):
            if shell in self._started or len(self._processes) >= _MOST:
                continue
            self._started[shell] = now
            command = [
                sys.executable, "-P", "-m", "worker.shell",
                str(os.getpid()), self._settings.name, self._settings.group, str(shell),
            ]  # fmt: skip
            try:
                self._processes.append(
                    subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment_of(self._settings))
                )
            except OSError as error:  # no memory, or as many processes as there may be
                _log.warning("shell %d cannot be opened: %s", shell, error)
