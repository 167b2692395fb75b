"""What one worker process builds with: the service, the store and a launcher, opened once, after the fork."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import NamedTuple

from containers.launcher import Launcher
from core.settings import ServiceSettings
from images.store import Store
from pipelines.service import Service


class WorkerSettings(NamedTuple):
    """name: unique among all workers. labels: sorted. concurrency: how many runs at once."""

    service: ServiceSettings
    name: str
    labels: tuple[str, ...] = ()
    concurrency: int = 1


class Resources:
    """Open until ``close``. The launcher is started anew after it has failed."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._launcher: Launcher | None = None
        try:
            self.service = self._stack.enter_context(Service.open(settings.service))
            self.store = self._stack.enter_context(Store.open(settings.service.root))
        except BaseException:
            self._stack.close()
            raise

    def launcher(self) -> Launcher:
        with self._lock:
            if self._launcher is None:
                self._launcher = Launcher(self.store.tmp)
            return self._launcher

    def renew_launcher(self) -> None:
        """The launcher failed: kill what is left of it; the next one that is asked for is new."""
        with self._lock:
            if self._launcher is not None:
                self._launcher.close()
                self._launcher = None

    def close(self) -> None:
        self.renew_launcher()
        self._stack.close()
