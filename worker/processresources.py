"""The resources of one worker process: the service and a launcher, opened once, after the fork."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Final, NamedTuple

from builder.request.limits import StepLimits
from containers.launcher import Launcher
from containers.resources import Limits
from core.settings import ServiceSettings, StepSettings
from images.store import Store
from pipelines.service import Service


class WorkerSettings(NamedTuple):
    """The settings that a worker's processes share.

    name: unique among all workers.
    labels: sorted.
    concurrency: runs at once.
    steps: what the runs' steps may use.
    steps_at_once: of one run; 0 is any number.
    bound_bytes, swap_bytes: memory and swap for the steps of all runs together; None: any amount.
    group: the name of the enclosure that enforces these two; empty where there is none.
    """

    service: ServiceSettings
    name: str
    labels: tuple[str, ...] = ()
    concurrency: int = 1
    steps: StepSettings = StepSettings(0)
    steps_at_once: int = 0
    bound_bytes: int = 0
    swap_bytes: int | None = None
    group: str = ""


class Resources:
    """The service and the launcher, open until ``close``. The launcher is started anew after it has failed.

    host: the identity of the store, which the workers of a host share.
    The launcher's files are in a store session of this process. That session leases nothing: each run opens the store
    for itself.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._launcher: Launcher | None = None
        try:
            self.service = self._stack.enter_context(Service.open(settings.service))
            self._store = self._stack.enter_context(Store.open(settings.service.root))
            self.host: Final = self._store.identity
        except BaseException:
            self._stack.close()
            raise

    def launcher(self) -> Launcher:
        with self._lock:
            if self._launcher is None:
                self._launcher = Launcher(
                    self._store.tmp,
                    denied_networks=self.settings.steps.denied_networks,
                    uplink=self.settings.steps.uplink,
                    group=self.settings.group,
                    at_once=self.settings.steps_at_once,
                )
            return self._launcher

    @property
    def limits(self) -> StepLimits:
        """What a step may use here. A limit that nobody asked for is dropped where the host cannot enforce it."""
        steps = self.settings.steps
        optional = tuple(sorted({"memory", "cpu", "pids"} - steps.given))
        return StepLimits(
            container=Limits(steps.memory_bytes, cpus=steps.cpus, pids=steps.pids, optional=optional),
            disk_bytes=steps.disk_bytes,
            output_bytes=steps.output_bytes,
            output_rate=steps.output_rate,
        )

    def renew_launcher(self) -> None:
        """Kill what is left of a launcher that failed. The next use starts a new one."""
        with self._lock:
            if self._launcher is not None:
                self._launcher.close()
                self._launcher = None

    def close(self) -> None:
        self.renew_launcher()
        self._stack.close()
