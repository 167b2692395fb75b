"""The log of the service's processes: JSON with the number of the run."""

from __future__ import annotations

import json
import logging

from pipelines.jsonlogs import MEMBERS, JsonFormatter, working_on


def logged(message: str, **members: object) -> dict[str, object]:
    record = logging.LogRecord("registry.client", logging.INFO, __file__, 1, message, (), None)
    setattr(record, MEMBERS, members)
    found: dict[str, object] = json.loads(JsonFormatter().format(record))
    return found


def test_lines_have_the_number_of_the_run_that_they_are_about() -> None:
    assert "run" not in logged("retrying the upload")
    with working_on(7):
        assert logged("retrying the upload")["run"] == 7
        assert logged("run 8: its worker is gone")["run"] == 8
        assert logged("GET /api/v1/runs/9 200", run=9, status=200)["run"] == 9
    assert "run" not in logged("retrying the upload")


def test_time_is_utc_as_everybody_writes_it() -> None:
    record = logging.LogRecord("web", logging.INFO, __file__, 1, "here", (), None)
    record.created, record.msecs = 1_700_000_000.25, 250.0
    assert json.loads(JsonFormatter().format(record))["time"] == "2023-11-14T22:13:20.250Z"
