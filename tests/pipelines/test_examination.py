"""The looks that a web process takes by itself."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import ServiceSettings
from pipelines.examination.findings import Finding, Look
from pipelines.examination.together import Examiner
from tests.toolkit.bounds import stretched


@pytest.fixture
def settings(tmp_path: Path) -> ServiceSettings:
    return ServiceSettings(tmp_path, f"sqlite:///{tmp_path}/x", "unix:///x")


def test_a_look_that_hangs_is_not_taken_again(settings: ServiceSettings) -> None:
    taken, goes_on, clock = list[str](), threading.Event(), itertools.count(0.0, 60.0)

    def hangs() -> Iterator[Finding]:
        taken.append("hangs")
        goes_on.wait(stretched(60))
        yield Finding("it", "OK", "at last")

    examiner = Examiner(settings, [Look("it", hangs, 0.05, "see there")], clock=lambda: next(clock))
    for _ in range(3):
        assert examiner.now().findings == (Finding("it", "FAILED", "no answer within 0.05 seconds", "see there"),)
    goes_on.set()
    assert len(taken) == 1


def test_a_look_that_breaks_is_a_finding_without_secrets(settings: ServiceSettings) -> None:
    def breaks() -> Iterator[Finding]:
        raise ValueError("no port: redis://:hunter2@redis.example:x/0")

    (found,) = Examiner(settings, [Look("it", breaks, stretched(60), "see here")]).now().findings
    assert found == Finding("it", "FAILED", "ValueError: no port: redis://***@redis.example:x/0", "see here")
