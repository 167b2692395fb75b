"""Parameters on a service with real workers: what is given is checked by the file of the commit, and stays data."""

from __future__ import annotations

import pytest

from core.settings import ServiceSettings
from pipelines.model import GitSource, Run, RunRequest, Trigger
from pipelines.service import Service
from tests.toolkit.service import Workforce, finished
from tests.worker.test_worker_pipelines import Repository, log, states

FILE = """
params:
  LEVEL: {type: choice, choices: [low, high], default: low}
  NAME: {default: nobody}
jobs:
  say: {image: base, env: {TWICE: "${NAME}${NAME}"}, run: 'echo "[$NAME] [$TWICE] $LEVEL"'}
  more: {image: base, when: {params: {LEVEL: high}}, run: "true"}
"""


@pytest.fixture
def repository(service: Service, settings: ServiceSettings) -> Repository:
    return Repository(service, settings.root / "git" / "app")


def test_values_are_checked_when_the_file_is_read_and_are_never_run(
    service: Service, workers: Workforce, repository: Repository
) -> None:
    workers.start("--concurrency", "1")
    pushed = repository.run({".shiplap.yml": FILE})
    assert "[nobody] [nobodynobody] low" in log(service, pushed.number, "say")

    def run(**params: str) -> Run:
        request = RunRequest(GitSource(repository.url, "main"), "app", pipeline="main", params=params)
        return finished(service, service.runs.submit(request, Trigger(by="ana", sender="user ana")).number)

    evil = '$(touch /evil)`id`"; exit 3 #${say.X}'
    found = run(LEVEL="high", NAME=evil)
    assert found.state == "succeeded", found.reason
    assert f"[{evil}] [{evil}{evil}] high" in log(service, found.number, "say")
    assert states(service, found.number)["more"] == "succeeded"
    again = finished(service, service.runs.retry(found.number).number)
    assert f"[{evil}] [{evil}{evil}] high" in log(service, again.number, "say"), "a retry has the same"
    wrong = run(LEVEL="middle")
    assert (wrong.state, wrong.reason) == ("failed", 'parameter LEVEL: expected low or high, and this is "middle"')
    assert run(COLOUR="low").reason.startswith('the pipeline has no parameter "COLOUR"')
