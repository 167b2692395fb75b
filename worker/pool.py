"""Celery's pool of processes, without the pauses that it makes at its end: a service that builds nothing ends at once.

A process of Celery's lingers for a second after it has said that it ends, and the worker looks only twice a second
whether all have. Neither has anything to wait for here: see ``leave_pool`` and ``Pool``.
"""

from __future__ import annotations

import os
from typing import Any, NoReturn

from celery.concurrency.prefork import TaskPool


class Pool(TaskPool):  # type: ignore[misc]  # celery has no types
    """Ends without a pause while no run is being built. While one is, Celery's way of waiting for it holds."""

    _pool: Any

    def on_stop(self) -> None:
        """Wait until all processes have ended."""
        pool = self._pool
        if pool is not None and not pool._cache:  # where each task is, from its being taken until its result has come
            pool.close()
            pool.join()
            self._pool = None
        super().on_stop()


def leave_pool(exit_code: int) -> NoReturn:
    """End a process of the pool, once it is told to and has put everything away.

    The worker has had all results by then (billiard's ``_ensure_messages_consumed``). What Celery's process would do
    yet is to announce its end, and to wait for a second to be killed; the worker learns of it from the kernel as well.
    """
    os._exit(exit_code)
