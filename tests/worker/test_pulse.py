"""What the worker's pulse does to Celery's loop."""

from __future__ import annotations

import os
import select
from types import SimpleNamespace
from typing import Any

import pytest

from core.settings import ServiceSettings
from worker.processresources import WorkerSettings
from worker.pulse import Pulse


class Hub:
    """Celery's, as far as it waits for descriptors."""

    def __init__(self) -> None:
        self.readers: dict[int, Any] = {}

    def add_reader(self, fd: int, callback: Any, *args: Any) -> None:
        self.readers[fd] = (callback, args)

    def remove(self, fd: int) -> None:
        del self.readers[fd]


def test_a_worker_that_is_to_end_does_not_wait_for_the_turn_of_its_loop(
    monkeypatch: pytest.MonkeyPatch, settings: ServiceSettings
) -> None:
    pulse = Pulse(WorkerSettings(settings, "w", (), 1))
    monkeypatch.setattr(pulse, "tell", lambda what: None)
    steps: dict[str, set[Any]] = {"consumer": set()}
    pulse.attach(SimpleNamespace(steps=steps))
    hub = Hub()
    timer = SimpleNamespace(call_repeatedly=lambda *args: SimpleNamespace(cancel=lambda: None))
    parent = SimpleNamespace(hub=hub, timer=timer)
    step = next(iter(steps["consumer"]))(parent)
    step.start(parent)
    (woken,) = hub.readers
    assert select.select([woken], [], [], 0)[0] == []
    pulse._drain()
    assert select.select([woken], [], [], 0)[0] == [woken]
    callback, args = hub.readers[woken]
    callback(*args)
    assert select.select([woken], [], [], 0)[0] == []
    step.stop(parent)
    assert hub.readers == {}
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(woken)
    pulse._drain()  # the loop has ended: there is nobody to wake
