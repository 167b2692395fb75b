"""A process beside Celery's that writes runs' parts of the shared cache, one run after another.

So no run and no place for runs waits for it. It is bounded: by the number of exports that wait, by the time of each,
and by its own low priority. No run's log shows its work: failures go to the worker's log and are counted. An order to
end drops all that is not done, and a worker that is killed takes the process with it. Then the cache lacks what those
runs left. The next run that needs it runs the steps and leaves it anew.

``python -m worker.exporter PARENT DESCRIPTOR NAME``: the worker's process, and the socket that exports come over.
"""

from __future__ import annotations

import contextlib
import logging
import logging.config
import os
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final, NamedTuple

import msgspec

from builder.cacheio.renewing import lease, renew_cache
from builder.errors import stop_when
from core.cancellation import asking
from core.errors import ShiplapError
from core.processes import end_with_parent
from core.references import Reference
from core.settings import ServiceSettings, StepSettings
from images.store import Store
from pipelines.accounts.runtokens import CACHE_S
from pipelines.errors import DatabaseUnreachableError, SchemaError
from pipelines.jsonlogs import configuration, working_on
from pipelines.metrics import CacheWritten, count_cache
from pipelines.service import Service
from registry.client import Client
from worker.cacheexport import CacheExport, receive
from worker.connecting import client_of
from worker.exportqueue import ExportQueue, Waiting
from worker.processresources import WorkerSettings

_IDLE_S: Final = 30.0  # then the process ends; more work starts it again
_END_S: Final = 1.0  # for the export under way: nobody waits for a registry that does not answer
_NICENESS: Final = 10
_log = logging.getLogger("worker.exporter")  # also as a process of its own


class _UnderWay(NamedTuple):
    """An export that is being written. stopped: set it, and the export ends soon.

    untold: whoever takes its one member tells the outcome; nobody else does.
    """

    export: CacheExport
    stopped: threading.Event
    untold: deque[None]

    def may_tell(self) -> bool:
        """Whether the caller is the first who asks. Thread-safe."""
        with contextlib.suppress(IndexError):
            self.untold.pop()
            return True
        return False


class Exporter:
    """Writes exports until ``stop``, or until none has come for ``idle_s``."""

    def __init__(self, settings: WorkerSettings, service: Service, end: socket.socket, idle_s: float = _IDLE_S) -> None:
        self._settings = settings
        self._service = service
        self._end = end
        self._idle_s = idle_s
        self._queue = ExportQueue()
        self._wake_read, self._wake_write = os.pipe()
        self._stopping = False
        self._current: _UnderWay | None = None
        self._thread = threading.Thread(target=self._work, name="exports", daemon=True)

    def stop(self) -> None:
        """End soon. May be called from a signal handler."""
        self._stopping = True
        current = self._current
        if current is not None:
            current.stopped.set()
        os.write(self._wake_write, b"x")

    def run(self) -> bool:
        """Returns whether the thread has ended, too; if it has not, the process has to end."""
        self._thread.start()
        while not self._stopping:
            watched: list[Any] = [self._end, self._wake_read]
            readable, _, _ = select.select(watched, [], [], self._idle_s)
            if self._end in readable and not self._receive():
                self.stop()  # the worker is gone
            elif not readable and self._queue.is_idle:
                break
        for left in self._queue.close():
            self._drop(left, "the worker ends")
        self._thread.join(_END_S)
        current = self._current if self._thread.is_alive() else None
        if current is not None and current.may_tell():
            self._tell(current.export, "dropped", "the worker ends")
        elif current is not None:
            self._thread.join(_END_S)  # it is telling
        return not self._thread.is_alive()

    def _receive(self) -> bool:
        """Take one export. False: there is nobody left who could send another."""
        try:
            export = receive(self._end)
        except msgspec.MsgspecError as error:
            _log.error("what a run left for the shared cache cannot be read: %s", error)
            return True
        if export is None:
            return False
        try:
            waiting = self._leased(export)
        except ShiplapError as error:
            self._tell(export, "failed", str(error))
            return True
        for gone in self._queue.put(waiting):
            self._drop(gone, "a newer run leaves another, or too many wait")
        return True

    def _leased(self, export: CacheExport) -> Waiting:
        """Lease what the export reads, from now on; what was pruned before is left out."""
        with contextlib.ExitStack() as undo:
            store = undo.enter_context(Store.open(self._settings.service.root))
            store.act_for(export.asks.domain)
            lease(store, export.used)
            undo.pop_all()
        return Waiting(export, store, time.monotonic() + CACHE_S)

    def _work(self) -> None:
        while (waiting := self._queue.take()) is not None:
            with waiting.store, working_on(waiting.export.claim.run.number):
                self._export(waiting)

    def _export(self, waiting: Waiting) -> None:
        export, began = waiting.export, time.monotonic()
        with self._bounded(waiting) as current:
            stopped = current.stopped
            try:
                with asking(stop_when(stopped.is_set)), self._client(export, stopped) as client:
                    near = tuple(map(Reference.parse, export.near))
                    place = Reference.parse(export.place)
                    written = renew_cache(export.used, place, near, client=client, store=waiting.store)
            except ShiplapError as error:
                outcome: CacheWritten = "dropped" if stopped.is_set() else "failed"
                why = "it was stopped" if stopped.is_set() else str(error)
            else:
                outcome, why = "written" if written else "unchanged", f"{time.monotonic() - began:.2f} s"
            if current.may_tell():
                self._tell(export, outcome, why)

    @contextlib.contextmanager
    def _bounded(self, waiting: Waiting) -> Iterator[_UnderWay]:
        """The export, which is stopped when it has to end: because its time is over, or because the worker ends."""
        stopped = threading.Event()
        timer = threading.Timer(max(0.0, waiting.until - time.monotonic()), stopped.set)
        timer.daemon = True
        self._current = current = _UnderWay(waiting.export, stopped, deque([None]))
        if self._stopping:
            stopped.set()
        timer.start()
        try:
            yield current
        finally:
            timer.cancel()
            self._current = None

    def _client(self, export: CacheExport, stopped: threading.Event) -> Client:
        return client_of(
            export.claim, export.asks, self._service, self._settings,
            cancelled=stopped, insist=lambda ask: ask(), tell=_log.info,
        )  # fmt: skip

    def _drop(self, waiting: Waiting, why: str) -> None:
        waiting.store.close()
        self._tell(waiting.export, "dropped", why)

    def _tell(self, export: CacheExport, outcome: CacheWritten, why: str) -> None:
        """Log and count the outcome; and drop the token, which nobody needs any more."""
        run, level = export.claim.run.number, logging.WARNING if outcome == "failed" else logging.INFO
        _log.log(level, "run %d: %s: the shared cache %s: %s", run, export.place, outcome, why)
        try:
            self._service.run_tokens.forget(export.claim.number, export.claim.attempt)
            count_cache(self._service.database, outcome)
        except (DatabaseUnreachableError, SchemaError) as error:
            _log.warning("run %d: %s", run, error)


def main() -> None:
    """The process. It ends with the worker, however that ends."""
    parent, descriptor, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    end_with_parent(parent)
    os.nice(_NICENESS)
    logging.config.dictConfig(configuration())
    settings = WorkerSettings(ServiceSettings.from_environ(), name, steps=StepSettings.from_environ())
    with Service.open(settings.service) as service, socket.socket(fileno=descriptor) as end:
        exporter = Exporter(settings, service, end)

        def stop(number: int, frame: FrameType | None) -> None:
            del number, frame
            exporter.stop()

        signal.signal(signal.SIGTERM, stop)
        if not exporter.run():
            os._exit(1)  # its session is reclaimed by whoever opens the store next


if __name__ == "__main__":
    main()
