"""What a run on this machine leaves in the store for a while: the outputs of its jobs, and images without a name."""

from __future__ import annotations

import os
import time
from typing import Final

from ci.local.watching import RunEnd
from core.digests import Digest
from core.settings import Settings
from images.store import Store

_KEPT_S: Final = 7 * 86400.0


def keep_results(store: Store, end: RunEnd) -> None:
    """Keep them for seven days, whatever is pruned. Raises StorageFullError."""
    outcomes = [job.outcome for job in end.jobs.values() if job.outcome is not None]
    layers = [outcome.outputs for outcome in outcomes if outcome.outputs is not None]
    layers += [output.layer for outcome in outcomes for output in outcome.published]
    images = [Digest.parse(outcome.image) for outcome in outcomes if outcome.image]
    if layers or images:
        store.kept.keep(f"local/{os.urandom(8).hex()}", layers, images, until=time.time() + _KEPT_S)


def keep_caches(root: str | None, store: Store) -> None:
    """Bring the caches of jobs to the disk, and hold all that is cached within its size.

    root: the value of ``--root``. Raises StorageFullError and OSError.
    """
    store.generations.settle()
    store.cache_use.keep_below(Settings.from_environ(root=root).cache_max)
