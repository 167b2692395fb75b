"""Which commits a repository's pipelines run for, on a service with a real worker: paths, pull requests, [skip ci]."""

from __future__ import annotations

import pytest

from core.settings import ServiceSettings
from pipelines.model import GitSource, HookSettings, Project, Run, RunRequest, Trigger
from pipelines.service import Service
from pipelines.statuses.outbox import list_statuses
from tests.toolkit.git import git
from tests.toolkit.service import Workforce, finished
from tests.worker.test_worker_pipelines import Repository, log, states

UNCHANGED = "no file that the pipeline is about has changed"
OF_SOURCES = """
on: {push: {paths: [src]}, pull_request: {paths: [src]}}
jobs: {a: {image: base, run: test ! -e src/bad}}
"""


class Forge:
    """A repository and its pushes, as a forge tells of them."""

    def __init__(self, service: Service, repository: Repository, workers: Workforce) -> None:
        self.service = service
        self.repository = repository
        self.heads: dict[str, str] = {}
        workers.start("--concurrency", "1")

    def commit(self, files: dict[str, str], branch: str = "main", title: str = "one") -> str:
        path = self.repository.path
        known = git(path, "branch", "--list", branch)
        if branch != "main" or known:
            git(path, "checkout", "--quiet", *([] if known else ["-b"]), branch)
        self.repository.commit(files)
        git(path, "commit", "--quiet", "--amend", "--allow-empty", "-m", title)
        return git(path, "rev-parse", "HEAD")

    def push(
        self,
        files: dict[str, str],
        branch: str = "main",
        title: str = "one",
        *,
        before: str | None = None,
        context: str = "",
    ) -> Run:
        commit = self.commit(files, branch, title)
        trigger = Trigger("push", "ada", branch=branch, commit=commit, default_branch="main", context=context)
        told = self.heads.get(branch, "") if before is None else before
        self.heads[branch] = commit
        source = GitSource(self.repository.url, commit, branch=branch)
        with self.service.database.write() as connection:
            run = self.service.runs.insert(connection, RunRequest(source, "app"), trigger, before=told)
        self.service.runs.announce(run)
        return finished(self.service, run.number)

    def pull(self, branch: str = "topic", target: str = "main", *, context: str = "") -> Run:
        commit = self.heads[branch]
        trigger = Trigger(
            "pull_request", "ada", branch=branch, commit=commit, pull_request=7, target=target, context=context
        )
        source = GitSource(self.repository.url, commit, only_pipelines=True)
        return finished(self.service, self.service.runs.submit(RunRequest(source, "app"), trigger).number)


@pytest.fixture
def forge(service: Service, settings: ServiceSettings, workers: Workforce) -> Forge:
    return Forge(service, Repository(service, settings.root / "git" / "app"), workers)


def test_paths_are_compared_with_the_last_success_of_the_branch(forge: Forge) -> None:
    assert forge.push({".shiplap.yml": OF_SOURCES, "src/a": "1"}).state == "succeeded"
    idle = forge.push({"README": "1"})
    assert (idle.state, idle.reason) == ("succeeded", UNCHANGED)
    assert forge.push({"src/bad": "1"}).state == "failed"
    still = forge.push({"README": "2"})
    assert (still.state, still.reason.partition(":")[0]) == ("failed", "a"), "what failed is not green by a comment"
    (forge.repository.path / "src/bad").unlink()
    assert forge.push({"README": "3"}).reason == UNCHANGED, "the sources are as they were when they were tried"
    again = finished(forge.service, forge.service.runs.retry(1).number)
    assert states(forge.service, again.number)["a"] == "succeeded", "repeated, it is all run again"


def test_paths_of_a_branch_without_success_are_compared_with_what_it_was_before(forge: Forge) -> None:
    forge.commit({".shiplap.yml": OF_SOURCES, "src/a": "1"})
    base = forge.repository.commit({"README": "1"})
    assert forge.push({"README": "2"}, before=base).reason == UNCHANGED
    assert forge.push({"src/b": "1"}, "topic", before="").state == "succeeded"
    assert states(forge.service, 2)["a"] == "succeeded", "since it left main, the new branch has changed the sources"
    assert forge.push({"README": "3"}, "other", before="").reason != UNCHANGED, "and this one has been made from it"
    git(forge.repository.path, "checkout", "--quiet", "main")
    assert forge.push({"README": "4"}, "docs", before="").reason == UNCHANGED
    forged = forge.push({"src/c": "1"}, "docs", before="f" * 40)
    assert states(forge.service, forged.number)["a"] == "succeeded", "what cannot be compared fits"


def test_skip_ci_in_a_title_runs_nothing_and_says_so(forge: Forge) -> None:
    run = forge.push({".shiplap.yml": "jobs: {a: {image: base, run: 'true'}}"}, title="docs: a comma [Skip CI]")
    assert (run.state, run.reason) == ("succeeded", "[skip ci] is in the commit's title")
    assert list(states(forge.service, run.number)) == [".plan"]
    again = finished(forge.service, forge.service.runs.retry(run.number, by="ana").number)
    assert states(forge.service, again.number)["a"] == "succeeded", "somebody wants it, whatever the title says"


def test_commit_of_an_own_pull_request_is_run_once_by_each_pipeline(forge: Forge) -> None:
    job = "jobs: {a: {image: base, run: 'true'}}\n"
    forge.push({"README": "1", "Dockerfile": "FROM base\n"})
    built = forge.push({"README": "2"}, "topic")
    assert built.result is not None
    assert built.result.image
    idle = forge.pull()
    assert (idle.state, idle.reason) == ("succeeded", "the push to branch topic builds it")
    files = {
        ".shiplap/always.yml": job,
        ".shiplap/once.yml": f"on: {{push: {{branches: [main]}}, pull_request: {{}}}}\n{job}",
    }
    push = forge.push(files, "topic")
    assert states(forge.service, push.number) == {".plan": "succeeded", "a": "succeeded"}
    other = finished(forge.service, push.number + 1)
    assert other.reason == "the pipeline is not for branch topic"
    pull = forge.pull()
    assert pull.reason == "the push of its branch runs it"
    once = finished(forge.service, pull.number + 1)
    assert states(forge.service, once.number) == {".plan": "succeeded", "a": "succeeded"}
    project = Project("app", hook=HookSettings(forge.repository.url, "plain", branches=("main",)))
    forge.service.projects.put(project)
    pull = forge.pull()
    assert states(forge.service, pull.number)["a"] == "succeeded", "nobody runs the pushes of this branch"


def test_jobs_of_a_pipeline_that_is_not_run_are_marked_too(forge: Forge) -> None:
    hook = HookSettings(forge.repository.url, "gitea")  # whose commits are marked; the marks wait in the outbox
    forge.service.projects.put(Project("app", hook=hook))
    forge.service.projects.set_status_token("app", "token")
    text = """
on: {push: {paths: [src]}, pull_request: {}}
statuses: jobs
jobs:
  a: {image: base, run: "true"}
  m: {image: base, matrix: {X: [1, 2]}, run: "true"}
"""
    first = forge.push({".shiplap.yml": text, "src/a": "1"}, context="shiplap")
    idle = forge.push({"README": "1"}, context="shiplap")
    found = {
        (row.run, row.context): (row.state, row.description)
        for row in reversed(list_statuses(forge.service.database, "app"))
    }
    assert found[first.number, "shiplap"] == ("success", "see shiplap/main")
    contexts = ("shiplap/main", "shiplap/main/a", "shiplap/main/m (1)", "shiplap/main/m (2)")
    assert {found[first.number, context][0] for context in contexts} == {"success"}
    assert found[idle.number, contexts[0]] == ("success", UNCHANGED)
    assert {found[idle.number, context] for context in contexts[1:]} == {("success", f"left out: {UNCHANGED}")}
    pull = forge.pull(context="shiplap/pr", branch="main", target="release")
    assert pull.reason == "the push of its branch runs it"
    assert {row.context for row in list_statuses(forge.service.database, "app") if row.run == pull.number} == {
        "shiplap/pr"
    }


def test_every_key_of_a_file_passes_through_the_service(forge: Forge) -> None:
    forge.service.secrets.put("KEY", b"opensesame", project="app")
    text = """
x-common: &common {image: base}
on: {push: {branches: [main], paths: ["**"]}, tag: {tags: ["v*"]}, pull_request: {branches: [main]}, manual: }
env: {GLOBAL: "${SHIPLAP_BRANCH}"}
defaults: {timeout: 10m, env: {DEFAULT: "1"}, retry: 0}
timeout: 1h
stop_on_failure: true
source: {history: 3, submodules: false, lfs: false}
statuses: run
jobs:
  all:
    <<: *common
    when: [{event: push, branch: main, paths: ["**"], fork: false}, {tag: "v*"}]
    matrix: {X: [1, 2], include: [{X: 3}], exclude: [{X: 2}], max_parallel: 1, fail_fast: true}
    env: {OWN: "${X}"}
    outputs: [{path: out, into: "of-${X}", optional: true}]
    shell: sh
    user: "0"
    workdir: /work
    tty: false
    limits: {memory: 200m, pids: 100}
    network: none
    timeout: 5m
    grace: 1s
    retry: {times: 1, on: [failure, 3]}
    may_fail: false
    run: ["mkdir -p out", 'echo "$GLOBAL $DEFAULT $OWN" > out/said']
  seen:
    needs: [all, "none?"]
    after: always
    image: {build: .}
    inputs: ["of-*/**"]
    exports: [SAID]
    reuse: false
    run: 'echo "SAID=$(cat of-1/said)" >> $SHIPLAP_EXPORTS'
  none: {image: base, when: {event: tag}, run: "true"}
  args: {<<: *common, needs: seen, env: {SAID: "${seen.SAID}"}, args: [sh, -c, 'echo "said $SAID"']}
  secret: {<<: *common, secrets: [{name: KEY, file: /key, optional: true}], run: "test -s /key"}
"""
    run = forge.push({".shiplap.yml": text, "Dockerfile": "FROM base\n"})
    told = {name: log(forge.service, run.number, name)[-2:] for name in states(forge.service, run.number)}
    assert run.state == "succeeded", (run.reason, told)
    assert "said main 1 1" in log(forge.service, run.number, "args")
