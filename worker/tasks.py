"""The Celery application of a worker process, and its one task: claim a job and execute it."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown

from pipelines.errors import DatabaseUnreachableError, LeftToOthersError, WorkerSickError
from pipelines.jsonlogs import working_on
from pipelines.model import Claim
from pipelines.runs.queue import TASK_NAME, celery_app
from pipelines.runs.waking import wake
from worker.cacheexport import Outlet
from worker.execution import Execution
from worker.pool import leave_pool
from worker.processresources import Resources, WorkerSettings
from worker.tally import Tally

_LEFT_PAUSE_S: Final = 0.05  # of a place whose job is for another host
_PAUSE_S: Final = 2.0  # so that a worker that takes nothing leaves the messages to others
_log = logging.getLogger(__name__)


def make_app(settings: WorkerSettings, outlet: Outlet, tally: Tally) -> Celery:
    """The application with its task. Each pool process opens what it needs once, after the fork.

    outlet: takes the runs' exports for the shared cache.
    tally: counts the jobs, and says when there have been enough.
    """
    app = celery_app(settings.service.redis_url)
    app.conf.worker_soft_shutdown_timeout = 10.0
    process = _PoolProcess(settings, outlet, tally)

    def run(number: int) -> None:
        process.work(number)

    app.task(name=TASK_NAME, acks_late=True)(run)
    worker_process_init.connect(process.start, weak=False)
    worker_process_shutdown.connect(process.end, weak=False)
    return app


class _PoolProcess:
    def __init__(self, settings: WorkerSettings, outlet: Outlet, tally: Tally) -> None:
        self._settings = settings
        self._outlet = outlet
        self._tally = tally
        self._resources: Resources | None = None

    def start(self, **_: Any) -> None:
        """Open everything before the first run comes. What fails now is tried again with that run."""
        try:
            self._open().launcher().warm()
        except DatabaseUnreachableError as error:
            _log.warning("%s", error)

    def end(self, exitcode: int, **_: Any) -> None:
        if self._resources is not None:
            self._resources.close()
            self._resources = None
        leave_pool(exitcode)

    def work(self, number: int) -> None:
        """Take the best job that waits. It need not be one of the run that the message names."""
        if not self._tally.may_look():
            _log.debug("the worker has taken as many jobs as it may")
            return
        claim: Claim | None = None
        try:
            resources = self._open()
            claim = resources.service.claims.take(self._settings.name, self._settings.labels, resources.host)
        except LeftToOthersError:
            wake(resources.service.database, resources.service.queue)  # this message was for one of them
            time.sleep(_LEFT_PAUSE_S)  # else it comes right back to here
            return
        except (DatabaseUnreachableError, WorkerSickError) as error:  # the reaper sends messages anew
            _log.log(logging.INFO if isinstance(error, WorkerSickError) else logging.WARNING, "%s", error)
            time.sleep(_PAUSE_S)
            return
        finally:
            self._tally.looked(found=claim is not None)
        if claim is None:
            _log.debug("nothing to do for the message of run %d", number)
            return
        execution = Execution(claim, resources, self._outlet)
        with working_on(claim.run.number), _terminating(execution) as received:
            _log.info("run %d: attempt %d begins", claim.run.number, claim.attempt)
            execution.run()
        self._tally.note()
        if received:
            os.kill(os.getpid(), signal.SIGTERM)  # now that the run is back in the queue

    def _open(self) -> Resources:
        if self._resources is None:
            self._resources = Resources(self._settings)
        return self._resources


@contextmanager
def _terminating(execution: Execution) -> Iterator[list[int]]:
    """While this holds, SIGTERM gives the run back. Celery ends a pool process by it, and would drop the run."""
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)
        execution.interrupt()

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)
