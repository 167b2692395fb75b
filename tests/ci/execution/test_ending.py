"""When a job is ended, and how, by a clock that is set."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest

from builder.request.limits import StepLimits
from ci.errors import JobCancelledError, JobLateError
from ci.execution.ending import Ending
from ci.limits import within
from ci.model import Limits as JobLimits
from containers.resources import Limits


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Container:
    """Notes the signals that it gets."""

    def __init__(self) -> None:
        self.signals: list[int] = []

    def signal(self, number: int) -> None:
        self.signals.append(number)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def ending(clock: Clock, **events: threading.Event) -> Ending:
    return Ending(events.get("cancelled"), events.get("killed"), timeout_s=60, grace_s=10, clock=clock)


def test_job_that_is_late_gets_a_signal_and_its_grace(clock: Clock) -> None:
    container: Any = Container()
    end = ending(clock)
    for now, reason, dies in (
        (160, "", False),
        (160.5, "timeout", False),
        (170.4, "timeout", False),
        (170.5, "timeout", True),
    ):
        clock.now = now
        assert (end.has_to_die(container), end.reason) == (dies, reason)
    assert container.signals == [signal.SIGTERM]
    with pytest.raises(JobLateError):
        end.check()
    assert end.event().is_set()


def test_cancelled_job_has_its_grace_from_then_on_and_killed_none(clock: Clock) -> None:
    cancelled, killed = threading.Event(), threading.Event()
    container: Any = Container()
    end = ending(clock, cancelled=cancelled, killed=killed)
    event = end.event()
    assert not end.has_to_die(container)
    assert not event.is_set()
    end.check()
    cancelled.set()
    clock.now = 159
    assert not end.has_to_die(container)
    clock.now = 165  # late by now: whoever is cancelled is cancelled
    assert not end.has_to_die(container)
    assert (end.reason, event.is_set(), container.signals) == ("cancelled", True, [signal.SIGTERM])
    with pytest.raises(JobCancelledError):
        end.check()
    killed.set()
    assert end.has_to_die(container)
    clock.now = 169
    assert container.signals == [signal.SIGTERM]


def test_late_job_that_is_cancelled_gets_no_second_signal_and_no_longer_grace(clock: Clock) -> None:
    cancelled = threading.Event()
    container: Any = Container()
    end = ending(clock, cancelled=cancelled)
    clock.now = 161
    assert not end.has_to_die(container)
    cancelled.set()
    clock.now = 171
    assert end.has_to_die(container)
    assert (end.reason, container.signals) == ("cancelled", [signal.SIGTERM])


def test_jobs_limits_are_within_the_workers() -> None:
    worker = StepLimits(
        container=Limits(memory_bytes=1000, memory_swap_bytes=-1, cpus=2, pids=100, optional=("memory", "pids")),
        disk_bytes=500, output_bytes=7, timeout_s=9,
    )  # fmt: skip
    same = within(worker, JobLimits())
    assert same == worker._replace(timeout_s=0)
    more = within(worker, JobLimits(memory=2000, cpus=4, pids=200, disk=900, shm=5))
    assert more.container == worker.container._replace(memory_swap_bytes=0, optional=())
    assert (more.disk_bytes, more.shm_bytes, more.output_bytes) == (500, 5, 7)
    less = within(worker, JobLimits(memory=10, cpus=0.5, pids=3, disk=4))
    assert less.container == Limits(memory_bytes=10, cpus=0.5, pids=3)
    assert less.disk_bytes == 4
    alone = within(StepLimits(container=Limits()), JobLimits(memory=10, disk=4))
    assert (alone.container.memory_bytes, alone.disk_bytes, alone.container.pids) == (10, 4, 0)
