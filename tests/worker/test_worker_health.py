"""What ``python -m worker.health`` takes for a worker that is well."""

from __future__ import annotations

import platform
import time

import pytest

from core.settings import ServiceSettings
from pipelines.service import Service
from worker.health import is_well, main


def test_program_says_by_its_status_whether_a_worker_is_well(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = service.settings
    monkeypatch.setattr(ServiceSettings, "from_environ", lambda: asked)
    monkeypatch.setattr(platform, "node", lambda: "builder")
    assert (main(), capsys.readouterr().err) == (1, "no worker of builder consumes\n")
    service.workers.beat("builder-7", (), 2)
    assert (main(), capsys.readouterr().err) == (0, "")
    asked = asked._replace(database_url="sqlite:////nowhere/service.db")
    assert main() == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_worker_is_well_while_it_beats(service: Service) -> None:
    assert not is_well(service, "builder")
    service.workers.beat("builder-7", (), 2)
    service.workers.beat("other-1", (), 2)
    assert is_well(service, "builder")
    assert not is_well(service, "build")


def test_worker_that_beats_no_more_is_not_well(service: Service) -> None:
    service.workers._clock = lambda: time.time() - 60
    service.workers.beat("builder-7", (), 2)
    service.workers._clock = time.time
    assert not is_well(service, "builder")


def test_worker_that_finishes_what_it_builds_is_well(service: Service) -> None:
    service.workers.beat("builder-7", (), 2, draining=True)
    assert is_well(service, "builder")
