"""The log of the service's processes: JSON with the number of the run."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import re
from pathlib import Path

import pytest

from pipelines.jsonlogs import MEMBERS, JsonFormatter, configuration, working_on
from pipelines.welcome import Welcome


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


def said(capsys: pytest.CaptureFixture[str], *, at_terminal: bool) -> list[str]:
    """What comes of three records: gunicorn's chat, a run's beginning, a warning."""
    logging.config.dictConfig(
        configuration({"gunicorn.error": {"level": "INFO", "propagate": True}}, at_terminal=at_terminal)
    )
    try:
        logging.getLogger("gunicorn.error").info("Booting worker with pid: 7")
        logging.getLogger("worker.tasks").info("run %d: attempt %d begins", 3, 1)
        logging.getLogger("gunicorn.error").warning("it limps")
    finally:
        logging.getLogger().handlers.clear()
        logging.getLogger().setLevel(logging.WARNING)
    return capsys.readouterr().err.splitlines()


def test_a_person_at_a_terminal_gets_plain_lines_and_no_chat(capsys: pytest.CaptureFixture[str]) -> None:
    run, warning = said(capsys, at_terminal=True)
    assert re.fullmatch(r"\d\d:\d\d:\d\d run 3: attempt 1 begins", run)
    assert re.fullmatch(r"\d\d:\d\d:\d\d warning: it limps", warning)


def test_whatever_else_reads_gets_json_alone(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in said(capsys, at_terminal=False)]
    assert [line["message"] for line in lines] == [
        "Booting worker with pid: 7", "run 3: attempt 1 begins", "it limps",
    ]  # fmt: skip


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("link", [None, "secret"])
def test_who_starts_a_service_is_told_what_is_needed_in_words_or_in_json(link: str | None) -> None:
    welcome = Welcome("http://127.0.0.1:81", "https://ci.example", Path("/srv"), Path("/srv/serve/admin.token"), link)
    screen, pipe = Screen(), io.StringIO()
    welcome.say(screen)
    welcome.say(pipe)
    for needed in ("https://ci.example", "shiplap --host http://127.0.0.1:81 build", "/srv/serve/admin.token"):
        assert needed in screen.getvalue()
    assert ("https://ci.example/welcome?link=secret" in screen.getvalue()) == (link is not None)
    assert list(welcome.summary())[-1] == "Ctrl-C ends it: runs that are being built may finish."
    assert "Runs wait for a worker: shiplap worker." in list(welcome._replace(builds=False).summary())[-1]
    lines = [json.loads(line) for line in pipe.getvalue().splitlines()]
    assert lines[0]["url"] == "http://127.0.0.1:81"
    assert [line.get("link") for line in lines[2:]] == (
        [] if link is None else ["https://ci.example/welcome?link=secret"]
    )
