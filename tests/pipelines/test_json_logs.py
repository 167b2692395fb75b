"""The worker's own log: JSON with the number of the run."""

from __future__ import annotations

import json
import logging

from worker.logs import JsonFormatter, working_on


def logged(message: str) -> dict[str, object]:
    record = logging.LogRecord("registry.client", logging.INFO, __file__, 1, message, (), None)
    found: dict[str, object] = json.loads(JsonFormatter().format(record))
    return found


def test_lines_have_the_number_of_the_run_that_they_are_about() -> None:
    assert "run" not in logged("retrying the upload")
    with working_on(7):
        assert logged("retrying the upload")["run"] == 7
        assert logged("run 8: its worker is gone")["run"] == 8
    assert "run" not in logged("retrying the upload")
