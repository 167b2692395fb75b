"""Runs of private repositories: fetched over ssh with a deploy key, from no other server than the one that is known."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from core.settings import ServiceSettings
from pipelines.logs.lines import decode_line
from pipelines.model import GitSource, RunRequest
from pipelines.service import Service
from tests.toolkit.git import git
from tests.toolkit.service import FOR_ALL, Workforce, finished
from tests.toolkit.ssh import SshServer, make_key, ssh_server


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    made = tmp_path / "repositories" / "private"
    made.mkdir(parents=True)
    git(made, "init", "--quiet", "--initial-branch=main")
    (made / "Dockerfile").write_text("FROM base\nCOPY secret-plan /\nRUN cat secret-plan\n")
    (made / "secret-plan").write_text("tell nobody\n")
    git(made, "add", ".")
    git(made, "commit", "--quiet", "-m", "one")
    return made


def why_it_failed(service: Service, source: GitSource) -> str:
    run = finished(service, service.runs.submit(RunRequest(source)).number)
    assert run.state == "failed"
    assert run.result is not None
    return run.result.error


def test_private_repository_is_built_with_a_deploy_key(
    settings: ServiceSettings, service: Service, workers: Workforce, repository: Path, tmp_path: Path
) -> None:
    with ssh_server(tmp_path) as server:
        workers.start("--concurrency", "1", environ={"SHIPLAP_GIT_ALLOWED_HOSTS": "127.0.0.1"})
        service.secrets.put("deploy", server.key.read_bytes(), project="default", policy=FOR_ALL)
        url = f"ssh://root@127.0.0.1:{server.port}{repository}"
        source = GitSource(url, ref="main", ssh_key="deploy", known_hosts=server.known_hosts)
        run = finished(service, service.runs.submit(RunRequest(source)).number)
        lines = [decode_line(data) for _, data in service.logs.read(run.number)]
        assert run.state == "succeeded", run.result
        assert [line.text for line in lines if line.kind == "output"] == ["tell nobody"]
        assert refusals(service, source, server, tmp_path) == []


def test_what_a_deploy_key_opened_is_the_project_s(
    settings: ServiceSettings, service: Service, workers: Workforce, repository: Path, tmp_path: Path
) -> None:
    """Others that build the very same, with a key of their own, do not learn that it was built."""
    with ssh_server(tmp_path) as server:
        workers.start("--concurrency", "1", environ={"SHIPLAP_GIT_ALLOWED_HOSTS": "127.0.0.1"})
        url = f"ssh://root@127.0.0.1:{server.port}{repository}"
        source = GitSource(url, ref="main", ssh_key="deploy", known_hosts=server.known_hosts)
        counts = []
        for project in ("one", "one", "two"):
            service.secrets.put("deploy", server.key.read_bytes(), project=project, policy=FOR_ALL)
            run = finished(service, service.runs.submit(RunRequest(source, project)).number)
            assert run.result is not None, run.reason
            counts.append((run.result.executed, run.result.cached))
        assert counts == [(2, 0), (0, 2), (2, 0)]


def refusals(service: Service, source: GitSource, server: SshServer, directory: Path) -> list[str]:
    """What is fetched although it must not be: with another key, with none, from a server that is not known."""
    stranger, impostor = make_key(directory / "stranger"), make_key(directory / "impostor")
    service.secrets.put("stranger", stranger.read_bytes(), project="default", policy=FOR_ALL)
    service.secrets.put("no-key", b"no key at all", project="default", policy=FOR_ALL)
    public = impostor.with_suffix(".pub").read_text()
    cases = [
        ({"ssh_key": "stranger"}, "Permission denied"),
        ({"ssh_key": ""}, "Permission denied"),
        ({"known_hosts": f"127.0.0.1 {public}"}, "Host key verification failed"),
        ({"known_hosts": ""}, "Host key verification failed"),
        ({"ssh_key": "missing"}, "there is no secret missing"),
        ({"ssh_key": "no-key"}, "the deploy key no-key"),
    ]
    told = [(why_it_failed(service, msgspec.structs.replace(source, **changes)), why) for changes, why in cases]
    return [text for text, why in told if why not in text]
