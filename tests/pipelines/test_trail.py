"""The trail, on both databases: from a commit to its runs, from a run to its images, and back from an image."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from ci.ends import JobOutcome
from core.settings import ServiceSettings
from pipelines.database import Database, _engine, migrate
from pipelines.errors import NotFoundError
from pipelines.model import GitSource, RunRequest, RunResult, Trigger
from pipelines.schema import made_images
from pipelines.service import Service
from tests.pipelines.test_jobs import before_jobs
from tests.pipelines.test_pipelines import COMMIT, claimed, node, nothing, pipeline, write

OWN = {"ci.example"}
MANIFEST, IMAGE = "sha256:" + "1" * 64, "sha256:" + "2" * 64
OTHER = "c0ffee" + "0" * 34


def build(
    service: Service,
    *names: str,
    project: str = "app",
    commit: str = COMMIT,
    manifest: str = MANIFEST,
    branch: str = "main",
) -> int:
    """A run that made an image. Returns its number."""
    source = GitSource("https://git.example/app.git")
    trigger = Trigger("push", "ada", branch=branch, commit=commit, title=f"commit {commit[:3]}")
    run = service.runs.submit(RunRequest(source, project), trigger)
    result = RunResult(image=IMAGE, manifest=manifest, names=names or ("ci.example/app:main",))
    service.claims.finish(claimed(service), "succeeded", "", result, store=nothing)
    return run.number


def test_an_image_leads_to_the_newest_run_that_made_it(service: Service) -> None:
    first = build(service)
    second = build(service, commit=OTHER)
    maker = service.trails.makers("app", [MANIFEST, "sha256:none"], OWN)[MANIFEST]
    assert (maker.run, maker.commit, maker.others, maker.trigger.title) == (second, OTHER, 1, "commit c0f")
    assert service.trails.makers_of_images([IMAGE], OWN)[IMAGE].run == second
    assert [each.repository for each in service.trails.images_of([first, second])[first]] == ["app"]


def test_an_image_of_the_same_name_elsewhere_is_another_one(service: Service) -> None:
    build(service, "ghcr.io/app:main")
    assert service.trails.makers("app", [MANIFEST], OWN) == {}
    assert service.trails.makers_of_images([IMAGE], OWN) == {}


def test_a_project_that_may_not_be_seen_made_nothing(service: Service) -> None:
    mine = build(service, "ci.example/shared:1")
    build(service, "ci.example/shared:1", project="secret")
    seen = service.trails.makers("shared", [MANIFEST], OWN, ["app"])[MANIFEST]
    assert (seen.run, seen.others) == (mine, 0)
    assert service.trails.makers_of_images([IMAGE], OWN, ["app"])[IMAGE].run == mine
    assert service.trails.makers("shared", [MANIFEST], OWN, []) == {}


def test_a_job_of_a_pipeline_makes_images_too(service: Service) -> None:
    run = service.runs.submit(
        RunRequest(GitSource("https://git.example/app.git", "main"), "app"), Trigger(by="ada", branch="main")
    )
    write(service, claimed(service), pipeline(node("app")))
    assert service.trails.commit_of(run.number) == COMMIT  # from its plan: nobody said it before
    exports = {"IMAGE": f"ci.example/app@{MANIFEST}", "DIGEST": MANIFEST}
    outcome = JobOutcome("succeeded", exports=exports, image=IMAGE)
    service.claims.finish(claimed(service), "succeeded", "", outcome, store=nothing)
    (made,) = service.trails.images_of([run.number])[run.number]
    assert (made.job, made.registry, made.repository, made.manifest, made.image) == (
        "app", "ci.example", "app", MANIFEST, IMAGE,
    )  # fmt: skip


def test_what_failed_made_nothing(service: Service) -> None:
    run = service.runs.submit(RunRequest(GitSource("https://git.example/app.git"), "app"))
    service.claims.finish(claimed(service), "failed", "no", RunResult(error="no"), store=nothing)
    assert service.trails.images_of([run.number]) == {}
    with service.database.read() as connection:
        assert connection.execute(made_images.select()).all() == []


def test_a_commit_has_its_runs_in_parts(service: Service) -> None:
    numbers = [build(service) for _ in range(3)]
    build(service, commit=OTHER)
    build(service, project="other")
    found = service.trails.runs_of("app", COMMIT, limit=2)
    rest = service.trails.runs_of("app", COMMIT, before=found[-1].number, limit=9)
    assert [run.number for run in (*found, *rest)] == numbers[::-1]


def test_a_commit_is_found_by_its_beginning_in_its_project_alone(service: Service) -> None:
    build(service)
    build(service, commit="abcdef1" + "0" * 33)
    build(service, commit="abcdef1" + "1" * 33)
    assert service.trails.commit("app", COMMIT[:7].upper()) == COMMIT
    for text_ in ("abcdef1", "aaaaaa", "zzzzzzzz", "a" * 65, "", "a%aaaaa"):
        with pytest.raises(NotFoundError):
            service.trails.commit("app", text_)
    with pytest.raises(NotFoundError):
        service.trails.commit("other", COMMIT)


def test_commits_between_two_runs_are_those_of_the_branch(service: Service) -> None:
    older = build(service)
    build(service, commit="b" * 40)
    build(service, commit="c" * 40, branch="topic")
    fork = Trigger("pull_request", "eve", branch="main", commit="f" * 40, title="theirs", pull_request=7, fork=True)
    service.runs.submit(RunRequest(GitSource("https://git.example/eve.git"), "app"), fork)
    service.claims.finish(claimed(service), "succeeded", "", RunResult(), store=nothing)
    newer = build(service, commit="d" * 40)
    build(service, commit="e" * 40)
    of = Trigger("push", branch="main")
    assert [each.commit[0] for each in service.trails.between("app", of, older, newer)] == ["d", "b"]
    assert [each.by for each in service.trails.between("app", fork, older, newer)] == ["eve"], "a fork has its own main"


def test_the_image_before_is_of_the_same_branch_and_another_one(service: Service) -> None:
    older = build(service, manifest="sha256:" + "3" * 64)
    build(service, manifest="sha256:" + "4" * 64, branch="topic")
    build(service)
    build(service)
    maker = service.trails.makers("app", [MANIFEST], OWN)[MANIFEST]
    before = service.trails.made_before(maker, OWN)
    assert before is not None
    assert (before.run, before.manifest) == (older, "sha256:" + "3" * 64)


def test_removed_runs_leave_no_trail(service: Service) -> None:
    build(service)
    service.projects.remove("app")
    assert service.trails.makers("app", [MANIFEST], OWN) == {}


def test_the_migration_finds_commits_and_images_of_the_runs_that_there_are(settings: ServiceSettings) -> None:
    before_jobs(settings)
    database = Database(_engine(settings))
    with database.write() as connection:
        names = '["ci.example:5000/team/app:main","ci.example:5000/team/app:1","app:1"]'
        result = f'{{"image":"{IMAGE}","manifest":"{MANIFEST}","names":{names}}}'
        connection.execute(text("UPDATE runs SET result = :result WHERE number = 2"), {"result": result})
    database.close()
    migrate(settings)
    with Service.open(settings) as service:
        maker = service.trails.makers("team/app", [MANIFEST], {"ci.example:5000"})[MANIFEST]
        assert (maker.run, maker.image) == (2, IMAGE)
        assert service.trails.commit_of(4) == COMMIT
