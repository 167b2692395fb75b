"""A worker that shares no disk with the web process: contexts, secrets and images reach it over the network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import ServiceSettings
from pipelines.loglines import decode_line
from pipelines.model import BuildOptions, Run, RunRequest
from pipelines.service import Service
from tests.toolkit.service import Workforce, finished, upload
from tests.web.processes import WebProcess
from tests.worker.conftest import import_base

DOCKERFILE = """FROM base
COPY big small /
RUN --mount=type=secret,id=key cat small; echo; wc -c < big; wc -c < /run/secrets/key
"""


@pytest.fixture
def web(settings: ServiceSettings, service: Service) -> Iterator[WebProcess]:
    del service  # it has made the database
    with WebProcess(settings) as process:
        yield process


def elsewhere(settings: ServiceSettings, web: WebProcess, token: str, root: Path) -> dict[str, str]:
    """The environment of a worker that has nothing of the web process but its address, a token and the key."""
    key = root.with_suffix(".key")
    shutil.copy(settings.root / "serve" / "secret.key", key)
    return {
        "SHIPLAP_ROOT": str(root),
        "SHIPLAP_SECRET_KEY_FILE": str(key),
        "SHIPLAP_WEB_URL": web.url,
        "SHIPLAP_WEB_TOKEN": token,
    }


def submit(service: Service, small: str) -> Run:
    source = upload(service.contexts, {"Dockerfile": DOCKERFILE, "big": bytes(3 << 20), "small": small})
    return service.runs.submit(RunRequest(source, options=BuildOptions(secrets=("key",))))


def output(service: Service, number: int) -> list[str]:
    lines = [decode_line(data) for _, data in service.logs.read(number)]
    return [line.text for line in lines if line.kind == "output"]


def test_context_comes_from_the_web_process(
    settings: ServiceSettings, service: Service, web: WebProcess, workers: Workforce, tmp_path: Path, busybox_tar: Path
) -> None:
    service.secrets.put("key", b"12345")
    root = tmp_path / "elsewhere"
    import_base(root, busybox_tar)
    token = service.tokens.create("worker", ["build"])[1]
    workers.start("--concurrency", "1", environ=elsewhere(settings, web, token, root))
    run = finished(service, submit(service, "small").number)
    assert run.state == "succeeded", run.result
    assert output(service, run.number) == ["small", str(3 << 20), "5"]
    fetched = set((root / "serve" / "contexts" / "blobs").iterdir())
    again = finished(service, submit(service, "other").number)
    assert output(service, again.number)[0] == "other"
    assert len(set((root / "serve" / "contexts" / "blobs").iterdir()) - fetched) == 1
    web.signal(9)
    web.wait()
    given_up = finished(service, submit(service, "third").number)
    assert (given_up.state, given_up.attempt) == ("error", 3)
    assert "cannot fetch a build context" in given_up.reason


def test_worker_without_the_address_of_the_web_process_says_so(
    settings: ServiceSettings, service: Service, web: WebProcess, workers: Workforce, tmp_path: Path
) -> None:
    service.secrets.put("key", b"12345")
    environ = elsewhere(settings, web, "", tmp_path / "elsewhere")
    workers.start("--concurrency", "1", environ={**environ, "SHIPLAP_WEB_URL": ""})
    run = finished(service, submit(service, "small").number)
    assert run.state == "failed"
    assert run.result is not None
    assert "SHIPLAP_WEB_URL" in run.result.error
