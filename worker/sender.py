"""A process that sends what jobs left on this host to the service's registry, when the jobs have ended.

It sends outputs for people; and what later jobs get where another host may do them, or where people or groups hold the
run up, so that it outlives this host. Killed at any instant, it has noted nothing that is not in the registry, and the
next one begins again with what is missing. It ends with code 1 when something is left, for its parent to try again.

``python -m worker.sender PARENT NAME``: the heart's process, and the worker's name.
"""

from __future__ import annotations

import logging
import logging.config
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final, TypeVar

from msgspec.structs import replace

from builder.errors import stop_when
from core.cancellation import asking
from core.digests import DiffID
from core.errors import ShiplapError
from core.leaving import leave
from core.processes import end_with_parent
from core.settings import ServiceSettings, StepSettings
from images.store import Store
from pipelines.errors import DatabaseUnreachableError
from pipelines.jsonlogs import configuration, working_on
from pipelines.runs.artifacts import Artifact, Unsent
from pipelines.runs.domains import domain_of
from pipelines.service import Service
from registry.errors import TransferCancelledError, UnreachableError
from worker.crossing import Crossing, crossing
from worker.keptrows import kept_name, published_name
from worker.outputs import send_for_jobs, send_for_people
from worker.processresources import WorkerSettings
from worker.sending import take_turn

_LINGER_S: Final = 20.0  # for the next job: a process takes longer to start than most outputs to send
_LOOK_S: Final = 1.0
_NICENESS: Final = 5
_log = logging.getLogger("worker.sender")  # also as a process of its own
T = TypeVar("T")


class Sender:
    """Sends what one host has. stopped: ends it soon, between two pieces."""

    def __init__(self, service: Service, settings: WorkerSettings, store: Store, stopped: threading.Event) -> None:
        self._service = service
        self._settings = settings
        self._store = store
        self._stopped = stopped
        self._host = store.identity

    def send_all(self) -> bool:
        """Send what there is. Returns whether nothing is left. Raises DatabaseUnreachableError."""
        known, after, is_done = self._service.artifacts, 0, True
        while (page := known.unsent(self._host, after=after)) and not self._stopped.is_set():
            for unsent in page:
                after = unsent.number
                with working_on(unsent.run.number):
                    try:
                        self._send(unsent)
                    except (UnreachableError, TransferCancelledError) as error:
                        _log.warning("outputs of job %s wait: %s", unsent.name, error)
                        return False
                    except DatabaseUnreachableError:
                        raise
                    except ShiplapError as error:  # this one alone: it is damaged, or refused
                        _log.warning("outputs of job %s cannot be sent: %s", unsent.name, error)
                        is_done = False
        return is_done and not self._stopped.is_set()

    def _send(self, unsent: Unsent) -> None:
        domain = domain_of(unsent.run)
        assert domain is not None, "its planning has settled it"
        found: list[Artifact] = []
        is_whole = False
        with (
            asking(stop_when(self._stopped.is_set)),
            crossing(
                self._service, self._settings, self._store, unsent.number, domain,
                cancelled=self._stopped, insist=_once,
            ) as place,
        ):  # fmt: skip
            if place is None:
                _log.warning("SHIPLAP_REGISTRY is not the service's own: outputs stay on their hosts")
            else:
                if unsent.has_gates or self._service.artifacts.is_on_several_hosts():
                    is_whole = self._send_for_jobs(place, unsent, found)
                self._send_for_people(place, unsent, found)
        self._service.artifacts.note(unsent.number, self._host, found, is_whole=is_whole)

    def _send_for_jobs(self, place: Crossing, unsent: Unsent, found: list[Artifact]) -> bool:
        """Returns whether the registry has all of it. What this host has no more is nowhere."""
        if self._store.kept.get(kept_name(unsent.run.number, unsent.name)) is None:
            return False
        found += send_for_jobs(place, unsent.outcome)
        return True

    def _send_for_people(self, place: Crossing, unsent: Unsent, found: list[Artifact]) -> None:
        here = tuple(each for each in unsent.outcome.published if self._has(unsent, str(each.name), each.layer))
        outcome = replace(unsent.outcome, published=here)
        found += send_for_people(place, unsent.run.number, unsent.place, outcome, unsent.finished_at)

    def _has(self, unsent: Unsent, name: str, layer: DiffID) -> bool:
        row = self._store.kept.get(published_name(unsent.run.number, unsent.name, name))
        return row is not None and layer in row.layers


def _once(ask: Callable[[], T]) -> T:
    return ask()


def main() -> None:
    """The process."""
    parent, name = int(sys.argv[1]), sys.argv[2]
    end_with_parent(parent)
    os.nice(_NICENESS)
    logging.config.dictConfig(configuration())
    settings = WorkerSettings(ServiceSettings.from_environ(), name, steps=StepSettings.from_environ())
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        stopped.set()

    signal.signal(signal.SIGTERM, stop)
    try:
        with Service.open(settings.service) as service:
            code = _work(service, settings, stopped)
    except ShiplapError as error:
        _log.warning("%s", error)
        code = 1
    leave(code)


def _work(service: Service, settings: WorkerSettings, stopped: threading.Event) -> int:
    """Send until there has been nothing for a while. Returns the exit code."""
    turn = take_turn(settings.service.root)
    if turn is None:  # another worker's process was quicker, and sends what there is
        return 0
    with os.fdopen(turn):
        return _send(service, settings, stopped)


def _send(service: Service, settings: WorkerSettings, stopped: threading.Event) -> int:
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < _LINGER_S:
        with Store.open(settings.service.root) as store:  # a session for each round: nothing is held between them
            if service.artifacts.has_unsent(store.identity):
                if not Sender(service, settings, store, stopped).send_all():
                    return 1
                idle_since = time.monotonic()
        if stopped.wait(_LOOK_S):
            break
    return 0


if __name__ == "__main__":
    main()
