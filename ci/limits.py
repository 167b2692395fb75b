"""A job's limits, within those of the worker."""

from __future__ import annotations

import os
from typing import TypeVar

from builder.request.limits import StepLimits
from ci.model import Limits
from containers.spec import LimitGroup

_Number = TypeVar("_Number", int, float)


def within(worker: StepLimits, job: Limits) -> StepLimits:
    """What the job's container and the watch over it go by. The job's time-out is ``ci.execution.ending``'s."""
    container = worker.container
    optional = tuple(
        controller
        for controller, asked in (("memory", job.memory), ("cpu", job.cpus), ("pids", job.pids))
        if controller in container.optional and not asked
    )
    return worker._replace(
        container=container._replace(
            memory_bytes=_lesser(container.memory_bytes, job.memory),
            memory_swap_bytes=0 if job.memory else container.memory_swap_bytes,
            cpus=_lesser(container.cpus, job.cpus),
            pids=_lesser(container.pids, job.pids),
            optional=optional,
        ),
        shm_bytes=job.shm or worker.shm_bytes,
        timeout_s=0.0,
        disk_bytes=_lesser(worker.disk_bytes, job.disk),
    )


def together(job: StepLimits, others: int) -> LimitGroup:
    """What a job's container and others beside it may use together. A process of ours is in each of them."""
    held = job.container
    return LimitGroup(f"job-{os.urandom(6).hex()}", held._replace(pids=held.pids + 1 + others) if held.pids else held)


def _lesser(worker: _Number, job: _Number) -> _Number:
    return min(worker, job) if worker and job else worker or job
