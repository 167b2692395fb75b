"""A fork of a bare repository of the service's, whose jobs are done on another host."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import ServiceSettings
from pipelines.bare.making import install_hook, make_repository
from pipelines.model import GitSource, HookSettings, Project, RunRequest, Trigger
from pipelines.runs.pipelines import PLANNING
from pipelines.service import Service
from tests.toolkit.git import git, make_certificate, serving_git
from tests.toolkit.service import Workforce, finished
from tests.web.processes import WebProcess
from tests.worker.conftest import import_base
from tests.worker.test_worker_elsewhere import elsewhere
from tests.worker.test_worker_pipelines import log, states

_JOBS = "jobs: {{a: {{image: base, run: 'echo {text}; ls -d .git'}}}}\n"


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where nobody, as whom git runs, may read the certificate."""
    found = Path(tempfile.mkdtemp(prefix="shiplap-fork-"))
    found.chmod(0o755)
    yield found
    shutil.rmtree(found)


def commit(clone: Path, text: str) -> None:
    (clone / ".shiplap.yml").write_text(_JOBS.format(text=text))
    git(clone, "add", ".")
    git(clone, "commit", "--quiet", "-m", text)


def test_fork_of_a_bare_repository_is_run_on_another_host(
    settings: ServiceSettings, service: Service, workers: Workforce, tmp_path: Path, directory: Path, busybox_tar: Path
) -> None:
    """Its base is only named there, for the mirror that the fork borrows from: the fork's run may not fetch it."""
    path = make_repository(settings.root, "app")
    service.projects.put(Project("app", hook=HookSettings(forge="plain", repository=f"file://{path}")))
    clone, fork = tmp_path / "clone", directory / "repositories" / "fork.git"
    git(tmp_path, "init", "--quiet", "--initial-branch=main", str(clone))
    commit(clone, "ours")
    certificate, root = make_certificate(directory, "127.0.0.1"), tmp_path / "elsewhere"
    import_base(root, busybox_tar)
    with serving_git(fork.parent, certificate) as server, WebProcess(settings) as web:
        install_hook(path, f"{web.url}/hooks/app", service.projects.set_webhook_secret("app"))
        git(clone, "push", "--quiet", str(path), "main")
        commit(clone, "theirs")
        git(tmp_path, "clone", "--quiet", "--bare", str(clone), str(fork))
        allowed = {"SHIPLAP_GIT_ALLOWED_HOSTS": "127.0.0.1", "SHIPLAP_GIT_CA_FILE": str(certificate)}
        workers.start("--concurrency", "1", environ={**elsewhere(settings, web, "", root), **allowed})
        (ours,) = service.runs.list(project="app")
        assert finished(service, ours.number).state == "succeeded"
        source = GitSource(f"https://127.0.0.1:{server.port}/fork.git", "main", trusted=False)
        trigger = Trigger("pull_request", "eve", branch="main", target="main", pull_request=3, fork=True)
        run = finished(service, service.runs.submit(RunRequest(source, "app"), trigger).number)
    assert run.state == "succeeded", run.reason
    assert states(service, run.number) == {PLANNING: "succeeded", "a": "succeeded"}
    assert {"theirs", ".git"} <= set(log(service, run.number, "a"))
