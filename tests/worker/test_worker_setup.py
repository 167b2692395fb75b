"""A container that cannot be set up: on a service that is the machine's fault, or the build's, as it is."""

from __future__ import annotations

import pytest

from containers.errors import BY_NAME
from pipelines.model import Run, RunRequest
from pipelines.service import Service
from tests.toolkit.service import Workforce, finished, upload
from worker.execution import _machines_fault


def submit(service: Service, dockerfile: str) -> Run:
    return service.runs.submit(RunRequest(upload(service.contexts, {"Dockerfile": dockerfile}), max_attempts=2))


def test_set_up_that_fails_is_tried_again_and_ends_as_error(service: Service, workers: Workforce) -> None:
    workers.start(environ={"SHIPLAP_STEP_MEMORY": "32k"})
    ended = finished(service, submit(service, "FROM base\nRUN true\n").number)
    assert (ended.state, ended.attempt) == ("error", 2)
    assert "the set-up of the container ran out of memory: its limit is 32768 bytes" in ended.reason


@pytest.mark.parametrize(
    ("dockerfile", "reason"),
    [
        ("FROM base\nUSER nobody-here\nRUN true\n", "unable to find user nobody-here"),
        ("FROM base\nRUN touch /data\nRUN --mount=type=tmpfs,target=/data true\n", "cannot mount on /data"),
    ],
)
def test_what_the_image_does_not_allow_fails_at_once(
    service: Service, workers: Workforce, dockerfile: str, reason: str
) -> None:
    workers.start()
    ended = finished(service, submit(service, dockerfile).number)
    assert (ended.state, ended.attempt) == ("failed", 1)
    assert reason in ended.reason


@pytest.mark.parametrize("name", BY_NAME)
def test_every_error_of_containers_is_the_machines_but_for_two(name: str) -> None:
    blame = _machines_fault(BY_NAME[name]("it went wrong"))
    assert blame == (None if name in ("PlaceError", "UserError") else "worker")
