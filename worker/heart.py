"""The worker's heartbeat: a process beside Celery's that reports that the worker consumes, and reaps lost runs.

A worker is well if it consumes; that its process lives is not enough. While its connection to Redis stands, Celery's
event loop sends a byte each time it turns. As long as these bytes come, the heart beats in the database. It is a
process of its own because Celery forks: no open SQLite connection and no thread would survive that.

On standard input: ``t`` the loop has turned, ``d`` the worker drains from now on, ``q`` it ends well.
"""

from __future__ import annotations

import logging
import logging.config
import os
import select
import sys
import threading
import time
from typing import Final

from core.errors import ShiplapError
from core.leaving import leave
from core.settings import ServiceSettings
from images.originals import release
from images.store import Store
from pipelines.errors import DatabaseUnreachableError, QueueUnreachableError
from pipelines.hooks.scheduling import start_due
from pipelines.jsonlogs import configuration
from pipelines.keeping.retention import sweep
from pipelines.runs.reaper import Reaper
from pipelines.runs.workers import BEAT_S
from pipelines.service import Service
from worker.keptrows import settle_kept
from worker.processresources import WorkerSettings
from worker.sending import Sending
from worker.shelling import Shelling

_ROUND_S: Final = 1.0
_STUCK_AFTER_S: Final = 10.0
_SWEEP_S: Final = 3600.0
_log = logging.getLogger(__name__)


class Heart:
    """Beats for one worker. signals: a descriptor to read from, until its end."""

    def __init__(self, settings: WorkerSettings, service: Service, signals: int) -> None:
        self._settings = settings
        self._service = service
        self._signals = signals
        self._reaper = Reaper(service.database, service.claims, service.queue)
        self._turned_at = float("-inf")
        self._beaten_at = float("-inf")
        self._swept_at = time.monotonic()
        self._settling: threading.Thread | None = None
        self._draining = False
        self._host = ""
        self._sending = Sending(settings, service)
        self._shelling = Shelling(settings, service)

    def run(self) -> None:
        """Returns when the worker has ended. A worker that died leaves its row, which shows that it is lost."""
        round_at = float("-inf")
        while True:
            readable, _, _ = select.select([self._signals], [], [], _ROUND_S)
            told = os.read(self._signals, 4096) if readable else None
            if told == b"":
                return
            if told and self._hear(told):
                return
            if time.monotonic() - round_at >= _ROUND_S or told == b"d":
                round_at = time.monotonic()
                self._round()

    def _hear(self, told: bytes) -> bool:
        """Take bytes from the worker; True when it has ended."""
        if b"t" in told:
            self._turned_at = time.monotonic()
        if b"d" in told:
            self._draining, self._beaten_at = True, float("-inf")
        if b"q" not in told:
            return False
        try:
            self._service.workers.leave(self._settings.name)
        except DatabaseUnreachableError as error:
            _log.warning("%s", error)
        return True

    def _round(self) -> None:
        now = time.monotonic()
        consumes = now - self._turned_at < _STUCK_AFTER_S
        try:
            if (consumes or self._draining) and now - self._beaten_at >= BEAT_S:
                self._beaten_at = now
                self._beat()
            if self._host and not self._draining:
                self._shelling.look(self._host)
            self._reaper.reap()
            start_due(self._service.schedules, self._service.projects, self._service.runs)
            is_settling = self._settling is not None and self._settling.is_alive()
            if now - self._swept_at >= _SWEEP_S and not is_settling:
                self._swept_at = now
                self._settling = threading.Thread(target=self._settle, name="settling", daemon=True)
                self._settling.start()  # it may have many rows and files to remove, and the heart beats meanwhile
        except (DatabaseUnreachableError, QueueUnreachableError) as error:
            _log.warning("the reaper waits: %s", error)

    def _beat(self) -> None:
        host = self._identity()
        self._service.workers.beat(
            self._settings.name, self._settings.labels, self._settings.concurrency, draining=self._draining, host=host
        )
        if host:
            self._sending.look(host)

    def _identity(self) -> str:
        """Of the host's store. Empty as long as that cannot be opened: the worker is well all the same."""
        if not self._host:
            try:
                with Store.open(self._service.settings.root) as store:
                    self._host = store.identity
            except (ShiplapError, OSError) as error:  # a full disk, say
                _log.warning("the host's store cannot be opened: %s", error)
        return self._host

    def _settle(self) -> None:
        try:
            swept = sweep(self._service, time.time())
            _log.info("retention: %d runs and %d contexts removed", swept.runs, swept.contexts)
        except (ShiplapError, OSError) as error:  # the database is away, say; an hour later it is done
            _log.warning("old runs are kept longer: %s", error)
        try:
            with Store.open(self._service.settings.root) as store:
                settle_kept(self._service.database, store.kept, time.time())
                store.remove_uppers(before=time.time() - _SWEEP_S)
                release(store)
        except (ShiplapError, OSError) as error:  # a full disk, say; an hour later it is done
            _log.warning("what runs made is kept longer: %s", error)


def beat(settings: WorkerSettings) -> None:
    """Be the heart's process: its standard input is the worker's. Returns when the worker has ended."""
    logging.config.dictConfig(configuration())
    with Service.open(settings.service) as service:
        Heart(settings, service, sys.stdin.fileno()).run()


def main() -> None:
    """``python -m worker.heart NAME CONCURRENCY GROUP LABEL…``"""
    name, concurrency, group, *labels = sys.argv[1:]
    beat(WorkerSettings(ServiceSettings.from_environ(), name, tuple(labels), int(concurrency), group=group))


if __name__ == "__main__":
    main()
    leave(0)
