"""Parts on a service with real workers: jobs of a file of the commit, by their names, with their exports."""

from __future__ import annotations

import pytest

from core.settings import ServiceSettings
from pipelines.service import Service
from tests.toolkit.service import Workforce
from tests.worker.test_worker_pipelines import Repository, log, states

PIPELINE = """
jobs:
  greet: {use: ./ci/say.yml, with: {WHO: "${SHIPLAP_BRANCH}"}}
  after: {image: base, needs: [greet/say], env: {SAID: "${greet/say.SAID}"}, run: 'echo "it said $SAID"'}
"""
PART = """
params: {WHO: {default: nobody}}
jobs:
  say: {image: base, exports: [SAID], outputs: [said], run: 'echo "SAID=$WHO" >>"$SHIPLAP_EXPORTS"; echo "$WHO" >said'}
  loud: {image: base, needs: [say], run: 'echo "in $SHIPLAP_JOB: $(cat said), ${WHO}"'}
"""


@pytest.fixture
def repository(service: Service, settings: ServiceSettings) -> Repository:
    return Repository(service, settings.root / "git" / "app")


def test_jobs_of_a_part_run_by_its_users_names(service: Service, workers: Workforce, repository: Repository) -> None:
    workers.start("--concurrency", "2")
    run = repository.run({".shiplap.yml": PIPELINE, "ci/say.yml": PART})
    assert run.state == "succeeded", run.reason
    assert {name for name in states(service, run.number) if name} == {".plan", "greet/say", "greet/loud", "after"}
    assert "in greet/loud: main, main" in log(service, run.number, "greet/loud")
    assert "it said main" in log(service, run.number, "after")

    wrong = repository.run({"ci/say.yml": PART.replace("needs: [say]", "needs: [sya]")})
    assert wrong.state == "failed"
    assert 'ci/say.yml:5:31: error: no job "sya" (did you mean "say"?)' in wrong.reason

    elsewhere = f"https://127.0.0.1/parts.git#{'0' * 40}:go.yml"
    away = repository.run({".shiplap.yml": f'jobs: {{p: {{use: "{elsewhere}"}}}}'})
    assert away.state == "failed", "a loopback address is out of a run's reach, and that is the file's fault"
    assert "this part cannot be had" in away.reason
