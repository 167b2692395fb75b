"""What a worker's heart does where its host is short of something: it beats on."""

from __future__ import annotations

import subprocess
import threading
import time
from typing import Any, NoReturn

import pytest

from core.errors import StorageFullError
from core.settings import ServiceSettings
from images.store import Store
from pipelines.service import Service
from tests.toolkit.bounds import stretched
from worker.heart import Heart
from worker.processresources import WorkerSettings
from worker.sending import Sending


def test_heart_beats_while_the_store_cannot_be_opened(
    service: Service, settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    heart = Heart(WorkerSettings(settings, "w-1", ("l",), 2), service, -1)

    def full(root: object) -> NoReturn:
        raise StorageFullError(f"{root} is full")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "open", full)
        heart._beat()
    (worker,) = service.workers.list()
    assert (worker.name, worker.concurrency) == ("w-1", 2)
    heart._beat()
    with Store.open(settings.root) as store:
        assert heart._identity() == store.identity


@pytest.mark.parametrize("place", ["worker.heart.sweep", "worker.heart.Store.open"])
def test_heart_beats_while_old_runs_are_removed_and_the_store_is_put_in_order(
    service: Service, settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    heart = Heart(WorkerSettings(settings, "w-1", ("l",), 2), service, -1)
    began, done = threading.Event(), threading.Event()

    def slow(*_: object) -> NoReturn:
        began.set()
        assert done.wait(stretched(60))
        raise FileNotFoundError("another worker was quicker")

    with monkeypatch.context() as patched:
        patched.setattr(place, slow)
        heart._swept_at = float("-inf")
        heart._round()
        assert began.wait(stretched(60))
        heart._turned_at, heart._beaten_at = time.monotonic(), float("-inf")
        monkeypatch.setattr(heart, "_identity", lambda: "")
        heart._round()
        assert [worker.name for worker in service.workers.list()] == ["w-1"]
        done.set()
        assert heart._settling is not None
        heart._settling.join(stretched(60))


def test_a_host_that_can_start_no_process_sends_outputs_later(
    service: Service, settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "settings", settings._replace(registry="ci:5000"))
    sending = Sending(WorkerSettings(service.settings, "w-1"), service)
    monkeypatch.setattr(service.artifacts, "has_unsent", lambda host: True)
    tries: list[Any] = []

    def no_process(command: object, **_: object) -> NoReturn:
        tries.append(command)
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", no_process)
    sending.look("h")
    sending.look("h")
    assert len(tries) == 1, "after a pause, it is tried again"
