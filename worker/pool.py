"""Celery's pool of processes, without the pauses at its end: a worker that builds nothing ends at once.

A process of Celery's lingers for a second after it has said that it ends, and the worker looks only twice a second
whether all have ended. Here neither has anything to wait for: see ``leave_pool`` and ``Pool``.
"""

from __future__ import annotations

import os
from typing import Any, NoReturn

from celery.concurrency.prefork import TaskPool


class Pool(TaskPool):  # type: ignore[misc]  # celery has no types
    """A pool that ends without a pause unless a run is being built: then Celery waits for the run in its own way."""

    _pool: Any

    def on_stop(self) -> None:
        """Wait until all processes have ended."""
        pool = self._pool
        if pool is not None and not pool._cache:  # has each task from its start until its result has come
            pool.close()
            pool.join()
            self._pool = None
        super().on_stop()


def leave_pool(exit_code: int) -> NoReturn:
    """End a process of the pool, after it was told to end and has put everything away.

    The worker has had all results by then (billiard's ``_ensure_messages_consumed``). Celery's own process would still
    announce its end and wait for a second to be killed. The worker learns of the end from the kernel as well.
    """
    os._exit(exit_code)
