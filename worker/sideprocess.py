"""The worker's side of ``worker.exporter``: its socket, and its process, which runs while there is work for it.

Celery forks its pool processes, so there is no thread here. Once a second the consumer's loop checks whether an export
waits without a process to take it.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
from types import TracebackType
from typing import Any, Final, Self

from celery import Celery, bootsteps
from celery.signals import worker_shutting_down

from worker.cacheexport import Outlet
from worker.processes import environment_of
from worker.processresources import WorkerSettings

_LOOK_S: Final = 1.0
_END_TIMEOUT_S: Final = 5.0


class ExporterProcess:
    """Keeps the process, as a context manager: both end together. outlet: where runs hand over their exports."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = False
        self._inner, outer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._outer = outer
        self.outlet = Outlet(outer)

    def attach(self, app: Celery) -> None:
        """Ask Celery to call ``look`` while messages are consumed, and to end the process when the worker drains."""
        exporter = self

        class Looking(bootsteps.StartStopStep):  # type: ignore[misc]  # celery has no types
            requires = ("celery.worker.consumer.tasks:Tasks",)

            def start(self, parent: Any) -> None:
                self.timer = parent.timer.call_repeatedly(_LOOK_S, exporter.look)

            def stop(self, parent: Any) -> None:
                del parent
                self.timer.cancel()

        app.steps["consumer"].add(Looking)
        worker_shutting_down.connect(self._drain, weak=False)

    def look(self) -> None:
        """Start the process if something waits for it."""
        if self._ending or (self._process is not None and self._process.poll() is None):
            return
        if select.select([self._inner], [], [], 0)[0]:
            self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drain()
        if self._process is not None:
            try:
                self._process.wait(_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._inner.close()
        self._outer.close()

    def _drain(self, **_: Any) -> None:
        """Drop what is not written yet: the next run that needs it leaves it anew."""
        self._ending = True
        with contextlib.suppress(OSError):  # it is closed already
            self._inner.shutdown(socket.SHUT_RD)  # from now on, runs that end learn that nobody takes their exports
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    def _start(self) -> None:
        end = self._inner.fileno()
        command = [sys.executable, "-P", "-m", "worker.exporter", str(os.getpid()), str(end), self._settings.name]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=(end,),
            start_new_session=True,  # Ctrl-C in a terminal is the worker's to handle
            env=environment_of(self._settings),
        )
