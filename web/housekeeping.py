"""What the web process tidies up now and then: the registry's garbage, and runs, outputs and contexts out of date.

It also measures how full its disk is, for the forecast on the page of the service.

Workers tidy up runs and contexts, too, each below its own root; clients upload contexts below the web process's.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from typing import TYPE_CHECKING, Final

from core.errors import ShiplapError
from pipelines.keeping.diskuse import DiskSample, note_sample
from pipelines.keeping.outputs import collect_outputs
from pipelines.keeping.retention import sweep
from pipelines.owning.ownership import is_cache, owner_of
from pipelines.runs.keptoutputs import taken_by_project
from registry.server.collect import CollectReport, collect
from registry.server.survey import list_repositories

if TYPE_CHECKING:
    from pipelines.service import Service
    from registry.server.registry import Registry

_EVERY_S: Final = 3600.0
_log = logging.getLogger(__name__)


def measured(service: Service, registry: Registry) -> DiskSample:
    """How full the disk of this host's root is now. Raises DatabaseUnreachableError."""
    disk = shutil.disk_usage(registry.store.root)
    repositories = list_repositories(registry.store, registry.settings.hidden_range)
    outputs = taken_by_project(service.database, registry.store.kept)
    return DiskSample(
        time.time(), disk.used, disk.free, sum(repository.size_bytes for repository in repositories),
        sum(outputs.values()),
    )  # fmt: skip


def collect_images(service: Service, registry: Registry) -> CollectReport:
    """Collect the registry's garbage. Images of archived projects stay, whatever the rules say of their age.

    Raises StorageFullError, DatabaseUnreachableError.
    """
    archived = service.roles.archived_names()
    names = service.roles.project_names() if archived else frozenset()

    def stays(repository: str) -> bool:
        return not is_cache(repository) and owner_of(repository, names.__contains__) in archived

    return collect(registry, stays=stays)


class Housekeeper(threading.Thread):
    """A thread that tidies up once an hour, until ``stop``, or until the process ends."""

    def __init__(self, service: Service, registry: Registry, *, every_s: float = _EVERY_S) -> None:
        super().__init__(name="housekeeper", daemon=True)
        self._service = service
        self._registry = registry
        self._every_s = every_s
        self._stopped = threading.Event()

    def run(self) -> None:
        self._try_to_measure()
        while not self._stopped.wait(self._every_s):
            try:
                self.tidy()
            except ShiplapError as error:  # the disk is full, or the database is away: try again later
                _log.warning("housekeeping: %s", error)
            self._try_to_measure()

    def _try_to_measure(self) -> None:
        try:
            sample = measured(self._service, self._registry)
            note_sample(self._service.database, self._registry.store.identity, sample)
        except (ShiplapError, OSError) as error:
            _log.warning("the disk was not measured: %s", error)

    def tidy(self) -> None:
        """Tidy up once, now. Raises StorageFullError, DatabaseUnreachableError."""
        swept = sweep(self._service, time.time())
        outputs = collect_outputs(self._service.database, self._registry, time.time())
        freed = collect_images(self._service, self._registry).freed_bytes
        _log.info(
            "housekeeping: %d runs, %d contexts, %d outputs, %d bytes of images",
            swept.runs, swept.contexts, outputs, freed,
        )  # fmt: skip

    def stop(self) -> None:
        self._stopped.set()
