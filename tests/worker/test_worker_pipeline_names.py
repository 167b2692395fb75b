"""What the ``build`` jobs of pipelines call their images: the project's template, or tags that no branch can take."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from core.settings import ServiceSettings
from images.oci import OCI_MANIFEST
from pipelines.model import GitSource, Project, Run, RunRequest, Trigger
from pipelines.projects.defaultnames import behind_branch
from pipelines.service import Service
from tests.toolkit.git import git
from tests.toolkit.registries import debian_registry
from tests.toolkit.service import Workforce, finished
from tests.worker.test_worker_pipelines import Repository, log, states

DEFAULT = """
jobs:
  app: {build: .}
  try: {needs: app, image: {job: app}, env: {IMAGE: "${app.IMAGE}"}, run: 'echo "image $IMAGE"'}
"""
TAGGED = """
jobs:
  app: {build: {context: ., tags: ["app:1.0", "app/sub"]}}
  try: {needs: app, image: {job: app}, env: {IMAGE: "${app.IMAGE}"}, run: 'echo "image $IMAGE"'}
"""


class Site:
    """A project with pipelines, and a registry for its images."""

    def __init__(self, service: Service, repository: Repository, host: str) -> None:
        self.service = service
        self.repository = repository
        self.host = host

    def push(self, branch: str, pipeline: str, text: str, **trigger: Any) -> Run:
        """The run of a commit whose image has this text in it."""
        files = {".shiplap.yml": pipeline, "text": text, "Dockerfile": "FROM base\nCOPY text /text\n"}
        commit = self.repository.commit(files)
        if branch not in ("", "main"):
            git(self.repository.path, "branch", "--force", branch, commit)
        if "tag" in trigger:
            git(self.repository.path, "tag", trigger["tag"], commit)
        told = {"kind": "push", "branch": branch, "commit": commit, "default_branch": "main", **trigger}
        source = GitSource(self.repository.url, commit, trusted=not trigger.get("fork"))
        run = finished(self.service, self.service.runs.submit(RunRequest(source, "app"), Trigger(**told)).number)
        assert run.state == "succeeded", (run.reason, states(self.service, run.number))
        return run

    def tags(self, name: str = "app") -> set[str]:
        return set(self._get(f"{name}/tags/list")["tags"] or ())

    def manifest(self, name: str, tag: str) -> Any:
        return self._get(f"{name}/manifests/{tag}")

    def image(self, run: Run) -> str:
        """What the job after the build got as the name of its image."""
        (line,) = (line for line in log(self.service, run.number, "try") if line.startswith("image "))
        return line.removeprefix("image ")

    def sha(self, run: Run) -> str:
        assert isinstance(run.source, GitSource)
        return f"sha-{git(self.repository.path, 'rev-parse', run.source.ref)[:12]}"

    def _get(self, path: str) -> Any:
        with urlopen(Request(f"http://{self.host}/v2/{path}", headers={"Accept": OCI_MANIFEST})) as answer:
            return json.load(answer)


@pytest.fixture
def site(service: Service, workers: Workforce, settings: ServiceSettings, tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "registry").mkdir()
    with debian_registry(tmp_path / "registry") as registry:
        workers.start("--concurrency", "1", environ={"SHIPLAP_REGISTRY": registry.host})
        yield Site(service, Repository(service, settings.root / "git" / "app"), registry.host)


def test_image_without_tags_has_the_names_that_a_build_alone_would_have(site: Site) -> None:
    main = site.push("main", DEFAULT, "main")
    names = {str(main.number), "main", "latest", site.sha(main)}
    assert site.tags() == names
    assert site.image(main).startswith(f"{site.host}/app@sha256:")
    latest = site.manifest("app", "latest")
    topic = site.push("topic", DEFAULT, "topic")
    assert site.tags() == names | {str(topic.number), "topic", site.sha(topic)}
    assert site.manifest("app", "latest") == latest, "it stays the default branch's"
    pull = site.push(
        "topic", f"on: pull_request\n{DEFAULT}", "pull", kind="pull_request", pull_request=7, target="main"
    )
    tag = site.push("", DEFAULT, "tag", kind="tag", tag="v1.2.3")
    own = {str(pull.number), "pr-7", site.sha(pull), str(tag.number), "1.2.3", "1.2", site.sha(tag)}
    assert site.tags() >= own
    site.service.projects.put(Project("app", tag_template="{registry}/{project}/{branch}:{commit}"))
    other = site.push("topic", DEFAULT, "template")
    assert site.tags("app/topic") == {site.sha(other).removeprefix("sha-")}


def test_tags_of_a_file_are_the_protected_branch_s_and_others_have_theirs_in_front(site: Site) -> None:
    site.push("main", TAGGED, "main")
    protected = site.manifest("app", "1.0"), site.manifest("app/sub", "latest")
    assert (site.tags(), site.tags("app/sub")) == ({"1.0"}, {"latest"})
    topic = site.push("feature/x", TAGGED, "topic")
    mine = behind_branch("feature/x", "1.0")
    assert site.tags() == {"1.0", mine}
    assert site.image(topic).startswith(f"{site.host}/app@sha256:")
    assert site.tags("app/sub") == {"latest", behind_branch("feature/x", "latest")}
    site.push("topic", f"on: pull_request\n{TAGGED}", "pull", kind="pull_request", pull_request=7, target="main")
    assert site.tags() == {"1.0", mine, behind_branch("topic", "1.0")}
    assert (site.manifest("app", "1.0"), site.manifest("app/sub", "latest")) == protected
    before = site.tags()
    fork = site.push("main", TAGGED, "fork", kind="pull_request", pull_request=8, fork=True, target="main")
    assert site.tags() == before, "what a stranger wrote goes nowhere"
    assert site.image(fork).startswith("sha256:")
