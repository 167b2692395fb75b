"""What a run fetches comes from public addresses, the hosts that are allowed, and the service's own registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.settings import ServiceSettings
from pipelines.model import BuildOptions
from pipelines.service import Service
from tests.registry.client.test_client_faults import status
from tests.toolkit.faulty import scripted_registry
from tests.toolkit.ports import free_port
from tests.toolkit.registries import debian_registry
from tests.toolkit.service import Workforce, finished
from tests.worker.test_worker import submit


@pytest.mark.parametrize(
    "dockerfile",
    [
        "FROM HOST/app:1\n",
        "FROM scratch\nCOPY --from=HOST/app:1 / /\n",
        "FROM base\nRUN --mount=from=HOST/app:1,target=/x true\n",
    ],
)
def test_registry_inside_is_out_of_a_runs_reach(service: Service, workers: Workforce, dockerfile: str) -> None:
    with scripted_registry() as inside:
        workers.start("--concurrency", "1")
        run = finished(service, submit(service, dockerfile.replace("HOST", inside.host)).number)
        assert (run.state, run.attempt) == ("failed", 1)
        assert run.result is not None
        assert "has the address 127.0.0.1, which is not a public one" in run.result.error
        assert "SHIPLAP_GIT_ALLOWED_HOSTS" in run.result.error
        assert not inside.seen


def test_services_own_registry_and_hosts_that_are_allowed_are_within_it(
    service: Service, workers: Workforce, settings: ServiceSettings, tmp_path: Path
) -> None:
    for name in ("own", "other"):
        (tmp_path / name).mkdir()
    with debian_registry(tmp_path / "own") as own, debian_registry(tmp_path / "other") as other:
        workers.start("--concurrency", "1", environ={"SHIPLAP_REGISTRY": own.host})
        worker = workers.workers[0]
        pushed = submit(service, "FROM base\nRUN echo x >/x\n", options=BuildOptions(tags=("app:1",)))
        assert finished(service, pushed.number).state == "succeeded"
        assert finished(service, submit(service, f"FROM {own.host}/app:1\nRUN cat /x\n").number).state == "succeeded"
        outward = submit(service, "FROM base\n", options=BuildOptions(tags=(f"{other.host}/app:1",)))
        assert "not a public one" in finished(service, outward.number).reason
        worker.stop()
        allowed = {"SHIPLAP_GIT_ALLOWED_HOSTS": other.host, "SHIPLAP_DENIED_NETWORKS": "127.0.0.0/8"}
        workers.start("--concurrency", "1", environ=allowed)
        outward = submit(service, "FROM base\n", options=BuildOptions(tags=(f"{other.host}/app:1",)))
        assert finished(service, outward.number).state == "succeeded"


@pytest.mark.parametrize("answer", ["none", "503"])
def test_registry_that_is_away_is_asked_again_by_another_attempt(
    service: Service, workers: Workforce, answer: str
) -> None:
    with scripted_registry() as registry:
        host = registry.host if answer == "503" else f"127.0.0.1:{free_port()}"
        registry.fault("/manifests/", *[status(503)] * 100)
        workers.start("--concurrency", "1", environ={"SHIPLAP_GIT_ALLOWED_HOSTS": "127.0.0.1"})
        run = finished(service, submit(service, f"FROM {host}/app:1\n", max_attempts=2).number)
        assert (run.state, run.attempt) == ("error", 2)
        assert "pulling it failed" in run.reason
