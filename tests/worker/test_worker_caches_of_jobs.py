"""What jobs of pipelines build is in the shared cache: another host runs no step of it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.references import Reference
from core.settings import ServiceSettings
from core.trust import of_branch, of_fork, protected
from pipelines.bare.making import make_repository
from pipelines.model import GitSource, HookSettings, Project, Run, RunRequest, StepState
from pipelines.service import Service
from tests.toolkit.git import git
from tests.toolkit.service import Workforce, finished
from tests.web.processes import WebProcess
from tests.worker.conftest import import_base
from tests.worker.test_worker_elsewhere import elsewhere, wait_for_cache, with_registry
from tests.worker.test_worker_pipelines import Repository, log, states
from worker.sharedcache import shared_caches_of_job

_PIPELINE = """
jobs:
  app: {build: {context: ., tags: ["app:1"]}}
  lint: {image: {build: ci}, run: "cat /tool"}
"""
_FILES = {
    ".shiplap.yml": _PIPELINE,
    "Dockerfile": "FROM base\nCOPY small /\nRUN cat small > /made\n",
    "ci/Dockerfile": "FROM base\nRUN echo tool > /tool\n",
    "small": "small\n",
}


def outcomes(service: Service, run: Run) -> dict[str, set[StepState]]:
    """By job, what became of the steps of its build."""
    found = {}
    for job in service.jobs.list(run.number)[1:]:
        steps = [step for step in service.runs.steps(run.number, job.place) if "RUN" in step.name]
        found[job.name] = {step.state for step in steps}
    return found


def test_what_jobs_built_on_one_host_is_not_built_again_on_another(
    settings: ServiceSettings, service: Service, workers: Workforce, tmp_path: Path, busybox_tar: Path
) -> None:
    bare, clone, root = make_repository(settings.root, "app"), tmp_path / "clone", tmp_path / "elsewhere"
    service.projects.put(Project("app", hook=HookSettings(forge="plain", repository=f"file://{bare}")))
    git(tmp_path, "init", "--quiet", "--initial-branch=main", str(clone))
    for name, text in _FILES.items():
        (clone / name).parent.mkdir(exist_ok=True)
        (clone / name).write_text(text)
    git(clone, "add", ".")
    git(clone, "commit", "--quiet", "-m", "one")
    (bare / "hooks" / "post-receive").unlink(missing_ok=True)
    git(clone, "push", "--quiet", str(bare), "main")
    import_base(root, busybox_tar)
    with WebProcess(settings) as web:
        registry = with_registry(web, tmp_path)
        workers.start("--concurrency", "1", "--labels", "first", environ=registry)
        other = elsewhere(settings, web, service.tokens.create("worker", ["build"])[1], root)
        workers.start("--concurrency", "1", "--labels", "second", environ={**registry, **other})
        runs: list[Run] = []
        for label, written in (("first", 2), ("second", 3)):  # an image of which no step ran is not written again
            request = RunRequest(GitSource(f"file://{bare}", "main"), "app", worker_labels=(label,))
            run = finished(service, service.runs.submit(request).number)
            assert run.state == "succeeded", (run.reason, states(service, run.number))
            wait_for_cache(service, written)
            assert "tool" in log(service, run.number, "lint")
            assert run.domain == protected("app").label
            runs.append(run)
    assert [outcomes(service, run) for run in runs] == [
        {"app": {"done"}, "lint": {"done"}}, {"app": {"cached"}, "lint": {"cached"}},
    ]  # fmt: skip
    images = [service.jobs.get(run.number, "app").image for run in runs]
    assert images[0] == images[1] != ""


def test_jobs_read_and_write_the_lanes_that_builds_do() -> None:
    names = (Reference.parse("ci:5000/app:1"),)

    def places(domain: object, *what: str, names: tuple[Reference, ...] = names) -> list[str]:
        return [each.location for each in shared_caches_of_job(domain, "ci:5000", what, names)]  # type: ignore[arg-type]

    (main,) = places(protected("app"), "main", "job", "app")
    assert main.startswith("ci:5000/cache/app:protected-")
    own, lane = places(of_branch("app", "topic"), "main", "job", "app")
    assert (lane, own.startswith("ci:5000/cache/app:branch-topic-")) == (main, True)
    assert places(of_fork("app", 3), "main", "job", "app") == []
    others = [
        places(protected("app"), *what) for what in (("main", "job", "b"), ("b", "job", "app"), ("main", "image"))
    ]
    assert len({main, *(place for (place,) in others)}) == 4


@pytest.mark.parametrize("tag", ["cache/app:protected-1", "cache/app"])
def test_no_image_of_a_job_takes_the_place_of_a_shared_cache(
    settings: ServiceSettings, service: Service, workers: Workforce, tmp_path: Path, tag: str
) -> None:
    repository = Repository(service, settings.root / "git" / "app")
    with WebProcess(settings) as web:
        workers.start("--concurrency", "1", environ=with_registry(web, tmp_path))
        text = f"jobs: {{app: {{build: {{context: ., tags: ['{tag}']}}}}}}\n"
        run = repository.run({".shiplap.yml": text, "Dockerfile": "FROM base\n"})
    assert run.state == "failed"
    assert "is what workers share" in run.reason
