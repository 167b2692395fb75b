"""What a worker calls an image unless somebody chose otherwise, and what the image says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from core.settings import ServiceSettings
from images.oci import OCI_MANIFEST
from pipelines.model import BuildOptions, GitSource, HookSettings, Project, Run, RunRequest, Trigger
from pipelines.service import Service
from tests.toolkit.git import git
from tests.toolkit.registries import debian_registry
from tests.toolkit.service import Workforce, finished, upload

_PREFIX = "org.opencontainers.image."


class Site:
    """A project with a repository of its own, and a registry for its images."""

    def __init__(self, service: Service, repository: Path, host: str) -> None:
        self.service = service
        self.host = host
        self._repository = repository
        repository.mkdir(parents=True)
        git(repository, "init", "--quiet", "--initial-branch=main")
        git(repository, "config", "uploadpack.allowAnySHA1InWant", "true")
        self.url = f"file://{repository}"
        service.projects.put(Project("app", hook=HookSettings(self.url, "plain")))

    def commit(self, dockerfile: str) -> str:
        (self._repository / "Dockerfile").write_text(dockerfile)
        git(self._repository, "add", ".")
        git(self._repository, "commit", "--quiet", "--allow-empty", "-m", "one")
        return git(self._repository, "rev-parse", "HEAD")

    def run(self, commit: str, trigger: Trigger, options: BuildOptions | None = None) -> Run:
        request = RunRequest(GitSource(self.url, commit), "app", options or BuildOptions())
        run = finished(self.service, self.service.runs.submit(request, trigger).number)
        assert run.state == "succeeded", run.result
        return run

    def tags(self, run: Run) -> list[str]:
        assert run.result is not None
        return [name.removeprefix(f"{self.host}/app:") for name in run.result.names]

    def manifest(self, tag: str) -> Any:
        return self._get(f"manifests/{tag}")

    def labels(self, tag: str) -> dict[str, str]:
        labels: dict[str, str] = self._get(f"blobs/{self.manifest(tag)['config']['digest']}")["config"].get(
            "Labels", {}
        )
        return {name.removeprefix(_PREFIX): value for name, value in labels.items()}

    def _get(self, path: str) -> Any:
        with urlopen(Request(f"http://{self.host}/v2/app/{path}", headers={"Accept": OCI_MANIFEST})) as answer:
            return json.load(answer)


@pytest.fixture
def site(service: Service, workers: Workforce, settings: ServiceSettings, tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "registry").mkdir()
    with debian_registry(tmp_path / "registry") as registry:
        workers.start("--concurrency", "1", environ={"SHIPLAP_REGISTRY": registry.host})
        yield Site(service, settings.root / "git" / "app.git", registry.host)


def test_each_kind_of_run_pushes_its_names(site: Site) -> None:
    commit = site.commit("FROM base\nRUN echo x > /x\n")
    sha = f"sha-{commit[:12]}"
    main = site.run(commit, Trigger("push", branch="main", default_branch="main"))
    assert site.tags(main) == [str(main.number), "main", "latest", sha]
    topic = site.run(commit, Trigger("push", branch="latest", default_branch="main"))
    assert site.tags(topic)[1].startswith("latest-")
    newer = site.run(commit, Trigger("tag", tag="v101.2.0"))
    assert site.tags(newer) == [str(newer.number), "101.2.0", "101.2", "101", sha]
    older = site.run(commit, Trigger("tag", tag="v101.1.9"))
    assert site.tags(older) == [str(older.number), "101.1.9", "101.1", sha]
    assert site.labels("101")["version"] == "101.2.0"
    assert site.labels("101.1")["version"] == "101.1.9"
    pull = site.run(commit, Trigger("pull_request", branch="topic", pull_request=7))
    assert site.tags(pull) == [str(pull.number), "pr-7", sha]
    fork = site.run(commit, Trigger("pull_request", branch="topic", pull_request=8, fork=True))
    assert "pr-8" not in site.tags(fork)
    source = upload(site.service.contexts, {"Dockerfile": "FROM base\nRUN echo x > /x\n"})
    sent = finished(site.service, site.service.runs.submit(RunRequest(source, "app")).number)
    assert site.tags(sent) == [str(sent.number)]
    assert not site.labels(str(sent.number))


def test_image_says_what_it_was_built_from(site: Site) -> None:
    commit = site.commit(
        "FROM base AS first\nLABEL org.opencontainers.image.version=mine\nFROM first\nRUN echo x > /x\n"
    )
    push = Trigger("push", branch="main", default_branch="main")
    first = site.run(commit, push)
    labels = site.labels("latest")
    assert (labels["revision"], labels["version"]) == (commit, "mine")
    assert labels["created"].endswith("Z")
    assert site.manifest("latest")["annotations"] == {f"{_PREFIX}{name}": value for name, value in labels.items()}
    again = site.run(commit, push)
    assert first.result is not None
    assert again.result is not None
    assert (again.result.manifest, again.result.executed) == (first.result.manifest, 0)
    other = site.run(site.commit("FROM base AS first\nLABEL a=b\nFROM first\nRUN echo x > /x\n"), push)
    assert other.result is not None
    assert other.result.executed == 0  # labels are of the config alone
    own = BuildOptions(labels={f"{_PREFIX}created": "then"}, build_args={"SOURCE_DATE_EPOCH": "1000000000"})
    site.run(commit, push, own)
    assert site.labels("latest")["created"] == "then"
    site.run(commit, push, BuildOptions(build_args={"SOURCE_DATE_EPOCH": "1000000000"}))
    assert site.labels("latest")["created"] == "2001-09-09T01:46:40Z"
