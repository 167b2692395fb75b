"""The limits of a step, as a request has them."""

from __future__ import annotations

from typing import Final, NamedTuple

from containers.limits import DEFAULT_SHM_BYTES
from containers.resources import Limits, ResourceLimit

_MOST_PIDS: Final = 16384


class StepLimits(NamedTuple):
    """The limits of each single RUN. 0 means no limit, except for pids: that limit stops fork bombs early.

    timeout_s: how long it may run.
    disk_bytes: what it may have at any moment in its layer plus what it wrote to its mounts.
    output_bytes: what it may print.
    output_rate: bytes that it may print in a second; a step that prints faster waits, and does not fail.
    """

    container: Limits = Limits(pids=_MOST_PIDS, optional=("pids",))
    ulimits: tuple[ResourceLimit, ...] = ()
    shm_bytes: int = DEFAULT_SHM_BYTES
    timeout_s: float = 0.0
    disk_bytes: int = 0
    output_bytes: int = 0
    output_rate: int = 0
