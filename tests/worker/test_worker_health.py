"""What ``python -m worker.health`` takes for a worker that is well."""

from __future__ import annotations

import time

from pipelines.service import Service
from worker.health import is_well


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
