"""What is done with the caches of jobs after a job, when nobody waits for it any more."""

from __future__ import annotations

import logging
from typing import Final

from core.errors import ShiplapError
from core.settings import CacheMax
from images.store import Store

_log: Final = logging.getLogger(__name__)


def settle_caches(store: Store, limit: CacheMax) -> None:
    """Bring what was kept to the disk, and hold all that is cached within its size. What hinders that is logged."""
    try:
        store.generations.settle()
        store.cache_use.keep_below(limit)
    except (ShiplapError, OSError) as error:
        _log.warning("caches of jobs: %s", error)
