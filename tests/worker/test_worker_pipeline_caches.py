"""Caches of jobs on the service: each run is in its domain's lane, on a real worker."""

from __future__ import annotations

import pytest

from core.settings import ServiceSettings
from images.store import Store
from pipelines.service import Service
from tests.toolkit.service import Workforce, finished
from tests.worker.test_worker_pipelines import Repository, log

_PIPELINE = """
jobs:
  keep:
    image: base
    caches: [/kept]
    run: 'echo "had: $(ls /kept | tr "\\n" " ")"; touch /kept/$NAME'
    env: {NAME: "${SHIPLAP_EVENT}-${SHIPLAP_RUN}"}
"""


@pytest.fixture
def repository(service: Service, settings: ServiceSettings) -> Repository:
    return Repository(service, settings.root / "git" / "app")


def test_runs_of_the_service_keep_caches_in_their_lanes(
    service: Service, settings: ServiceSettings, workers: Workforce, repository: Repository
) -> None:
    """What the default branch wrote is seen by a fork and a branch; what these wrote is never seen by it."""
    workers.start("--concurrency", "1")

    def had(*, trusted: bool = True, branch: str = "") -> tuple[int, list[str]]:
        files = {".shiplap.yml": _PIPELINE}
        pushed = repository.push_as_told_by_a_hook(files, branch) if branch else repository.push(files, trusted=trusted)
        run = finished(service, pushed)
        assert run.state == "succeeded", (run.reason, log(service, run.number, "keep"))
        (line,) = [line for line in log(service, run.number, "keep") if line.startswith("had:")]
        return run.number, line.split()[1:]

    first, found = had(trusted=True)
    assert found == []
    fork, found = had(trusted=False)
    assert found == [f"push-{first}"]
    topic, found = had(branch="topic")
    assert found == [f"push-{first}"]
    second, found = had(trusted=True)
    assert found == [f"push-{first}"], "neither what the fork wrote nor what the branch did"
    assert f"/kept: as run {first} of protected left it" in log(service, second, "keep")
    with Store.open(settings.root) as store:
        lanes = store.generations.lanes()
        assert {(lane.owner, lane.name) for lane in lanes} == {("app", "main: keep: /kept")}
        assert {lane.run: lane.lane for lane in lanes} == {str(second): "protected", str(topic): "branch topic"}
    assert fork not in (first, second)
