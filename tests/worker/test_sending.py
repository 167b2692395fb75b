"""Two workers on one host: one of them sends what the host has."""

from __future__ import annotations

import os

import pytest

from pipelines.service import Service
from worker.processresources import WorkerSettings
from worker.sending import Sending, is_sending, take_turn


class Started:
    """Stands for a process that was started."""

    count = 0

    def __init__(self, *_: object, **__: object) -> None:
        Started.count += 1

    def poll(self) -> None:
        return None


def test_of_two_workers_on_a_host_one_sends_at_a_time(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.sending.subprocess.Popen", Started)
    monkeypatch.setattr(service, "settings", service.settings._replace(registry="registry.example"))
    monkeypatch.setattr(service.artifacts, "has_unsent", lambda host: True)
    root = service.settings.root
    first, second = (Sending(WorkerSettings(service.settings, name), service) for name in ("w1", "w2"))
    held = take_turn(root)  # as the process that w1 has started does
    assert held is not None
    first.look("host")
    second.look("host")
    assert Started.count == 0
    assert is_sending(root)
    os.close(held)  # it has ended, or was killed
    second.look("host")
    assert Started.count == 1
    assert not is_sending(root), "who looks keeps nobody from it"
