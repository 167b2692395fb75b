"""The end of a worker that builds nothing."""

from __future__ import annotations

import time
from pathlib import Path

from tests.toolkit.service import Workforce

_NOTING_SLEEPS = """
import os, time
sleep = time.sleep
def noting(seconds):
    with open({notes!r}, "a") as file:
        file.write(f"{{time.monotonic()}} {{seconds}} {{os.getpid()}}\\n")
    sleep(seconds)
time.sleep = noting
noting(0)  # so that there is a note, though nobody sleeps
"""
_SHORT_S = 0.1  # of a pause in which somebody looks whether something has happened


def test_worker_that_builds_nothing_ends_without_a_pause(workers: Workforce, tmp_path: Path) -> None:
    notes = tmp_path / "sleeps"
    (tmp_path / "sitecustomize.py").write_text(_NOTING_SLEEPS.format(notes=str(notes)))
    worker = workers.start("--concurrency", "2", environ={"PYTHONPATH": str(tmp_path)})
    began = time.monotonic()
    assert worker.stop() == 0
    slept = [line.split() for line in notes.read_text().splitlines()]
    assert [seconds for at, seconds, _ in slept if float(at) > began and float(seconds) > _SHORT_S] == []
