"""A repository with ``.shiplap.yml`` on a service with real workers: its jobs run, and end, whatever ends a worker."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sqlalchemy import select, update

from core.settings import ServiceSettings
from images.store import Store
from pipelines.logs.lines import decode_line
from pipelines.logs.store import read_lines
from pipelines.model import BuildOptions, GitSource, HookSettings, Project, Run, RunRequest, Trigger
from pipelines.runs.artifacts import KEPT_S
from pipelines.runs.histories import History
from pipelines.runs.pipelines import PLANNING
from pipelines.schema import jobs, schedules
from pipelines.service import Service
from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.git import git
from tests.toolkit.service import FOR_ALL, Workforce, finished
from worker.keptrows import kept_name, settle_kept

CHAIN = """
jobs:
  lint:
    image: base
    run: echo linted
  make:
    image: base
    outputs: [out]
    exports: [VERSION]
    run:
      - mkdir out
      - cat README > out/copy
      - echo VERSION=7 >> $SHIPLAP_EXPORTS
  use:
    needs: [lint, make]
    image: base
    env: {V: "${make.VERSION}"}
    run: echo "v$V of $(cat out/copy) by $SHIPLAP_EVENT of $SHIPLAP_BRANCH"
"""


class Repository:
    """A project's repository."""

    def __init__(self, service: Service, path: Path) -> None:
        self.service = service
        self.path = path
        path.mkdir(parents=True)
        git(path, "init", "--quiet", "--initial-branch=main")
        git(path, "config", "uploadpack.allowAnySHA1InWant", "true")
        self.url = f"file://{path}"
        service.projects.put(Project("app", hook=HookSettings(self.url, "plain")))

    def commit(self, files: dict[str, str]) -> str:
        for name, text in files.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_text(text)
        git(self.path, "add", ".")
        git(self.path, "commit", "--quiet", "--allow-empty", "-m", "one")
        return git(self.path, "rev-parse", "HEAD")

    def push_as_told_by_a_hook(self, files: dict[str, str], branch: str) -> int:
        """Submit the run of a push of which nobody says what the default branch is; its number."""
        if branch != "main":
            git(self.path, "checkout", "--quiet", "-b", branch)
        commit = self.commit(files)
        if branch != "main":
            git(self.path, "checkout", "--quiet", "main")  # the server says what is checked out
        trigger = Trigger("push", "ada", branch=branch, commit=commit)
        return self.service.runs.submit(RunRequest(GitSource(self.url, commit, branch=branch), "app"), trigger).number

    def push(self, files: dict[str, str], *, options: BuildOptions | None = None, trusted: bool = True) -> int:
        """Submit the run of a push of these files to main; its number."""
        commit = self.commit(files)
        trigger = Trigger(
            "push" if trusted else "pull_request", "ada", branch="main", commit=commit, default_branch="main",
            pull_request=0 if trusted else 3, fork=not trusted, target="" if trusted else "main",
        )  # fmt: skip
        source = GitSource(self.url, commit, branch="main", trusted=trusted)
        return self.service.runs.submit(RunRequest(source, "app", options or BuildOptions()), trigger).number

    def run(self, files: dict[str, str], **members: object) -> Run:
        return finished(self.service, self.push(files, **members))  # type: ignore[arg-type]


@pytest.fixture
def repository(service: Service, settings: ServiceSettings) -> Repository:
    return Repository(service, settings.root / "git" / "app")


def states(service: Service, run: int) -> dict[str, str]:
    with service.database.read() as connection:
        rows = connection.execute(select(jobs.c.name, jobs.c.state).where(jobs.c.run == run).order_by(jobs.c.place))
        return {row.name: row.state for row in rows}


def log(service: Service, run: int, name: str) -> list[str]:
    with service.database.read() as connection:
        wanted = select(jobs.c.number, jobs.c.lines).where(jobs.c.run == run, jobs.c.name == name)
        job = connection.execute(wanted).one()
        return [decode_line(data).text for _, data in read_lines(connection, job.number, 1, job.lines)]


def attempts(service: Service, run: int) -> dict[str, int]:
    with service.database.read() as connection:
        rows = connection.execute(select(jobs.c.name, jobs.c.attempt).where(jobs.c.run == run))
        return {row.name: row.attempt for row in rows}


def test_server_says_for_whom_a_push_is_whether_the_mirror_or_a_checkout_is_asked(
    service: Service, workers: Workforce, repository: Repository
) -> None:
    workers.start("--concurrency", "1")
    file = {".shiplap.yml": "jobs:\n  one: {image: base, run: 'echo on $SHIPLAP_BRANCH: $(cat a)'}\n"}
    for number, branch in enumerate(("main", "main", "feature", "main")):
        run = finished(service, repository.push_as_told_by_a_hook({**file, "a": f"{number}\n"}, branch))
        assert run.state == "succeeded", run.reason
        assert run.domain == ("protected" if branch == "main" else f"branch {branch}"), run.domain
        assert f"on {branch}: {number}" in log(service, run.number, "one")


@pytest.mark.parametrize("branch", ["x;touch${IFS}y`id`", "fix#12", "grün"])
def test_branch_of_any_name_is_run(service: Service, workers: Workforce, repository: Repository, branch: str) -> None:
    workers.start("--concurrency", "1")
    file = {".shiplap.yml": "jobs:\n  one: {image: base, run: 'echo \"on $SHIPLAP_BRANCH.\"; ls'}\n"}
    repository.run(file)
    run = finished(service, repository.push_as_told_by_a_hook(file, branch))
    assert run.state == "succeeded", run.reason
    assert [line for line in log(service, run.number, "one") if line in ("y", f"on {branch}.")] == [f"on {branch}."]


def test_push_runs_the_jobs_of_its_file(
    service: Service, settings: ServiceSettings, workers: Workforce, repository: Repository
) -> None:
    workers.start("--concurrency", "1")
    workers.start("--concurrency", "1")
    run = repository.run({".shiplap.yml": CHAIN, "README": "hello"})
    assert run.state == "succeeded", (run.reason, log(service, run.number, PLANNING))
    assert states(service, run.number) == dict.fromkeys((PLANNING, "lint", "make", "use"), "succeeded")
    assert "v7 of hello by push of main" in log(service, run.number, "use")
    assert ".shiplap.yml: 3 jobs" in log(service, run.number, PLANNING)
    assert run.finished_at is not None
    until = run.finished_at + KEPT_S
    with Store.open(settings.root) as store:
        (name,) = store.kept.names(f"run/{run.number}/")

        def is_kept_for_a_week() -> bool:
            row = store.kept.get(name)
            return row is not None and row.until == until

        eventually(is_kept_for_a_week, why="the worker writes down when the run ended")


@pytest.mark.parametrize("how", ["cancelled", "reaped"])
def test_what_jobs_output_is_kept_a_week_from_the_end_whoever_ends_the_run(
    service: Service, settings: ServiceSettings, workers: Workforce, repository: Repository, how: str
) -> None:
    worker = workers.start("--concurrency", "1")
    text = """
jobs:
  make: {image: base, outputs: [out], run: "mkdir out; echo kept > out/x"}
  late: {needs: make, image: base, workers: [late], run: "true"}
"""
    number = repository.push({".shiplap.yml": text})
    eventually(lambda: states(service, number).get("late") == "queued", why="the second job waits for its worker")
    worker.kill()
    if how == "cancelled":
        service.runs.cancel(number, by="ana")
    else:
        with service.database.write() as connection:
            connection.execute(update(jobs).where(jobs.c.run == number).values(max_attempts=1))
        claim = service.claims.take("elsewhere", ("late",))
        assert claim is not None
        service.claims.release(claim.number, claim.attempt, "worker elsewhere stopped answering")
    run = service.runs.get(number)
    assert run.finished_at is not None
    with Store.open(settings.root) as store:
        (name,) = store.kept.names(f"run/{number}/")
        found = store.kept.get(name)
        assert found is not None
        assert found.until > run.finished_at + KEPT_S + 3600.0, "for as long as the run could have taken"
        store.kept.keep(kept_name(number + 1, "make"), found.layers, until=found.until)
        settle_kept(service.database, store.kept, time.time())
        settled, of_unknown = store.kept.get(name), store.kept.get(kept_name(number + 1, "make"))
        assert settled is not None
        assert settled.until == run.finished_at + KEPT_S
        assert of_unknown is not None
        assert of_unknown.until == found.until


def test_outputs_survive_a_prune_between_two_jobs(
    service: Service, settings: ServiceSettings, workers: Workforce, repository: Repository
) -> None:
    workers.start("--concurrency", "1")
    text = """
jobs:
  make: {image: base, outputs: [out], run: "mkdir out; echo kept > out/x"}
  use: {needs: make, image: base, workers: [late], run: cat out/x}
"""
    number = repository.push({".shiplap.yml": text})
    eventually(lambda: states(service, number).get("use") == "queued", why="the second job waits for its worker")
    with Store.open(settings.root) as store:
        store.images.prune(cache=True)
    workers.start("--concurrency", "1", "--label", "late")
    run = finished(service, number)
    assert run.state == "succeeded", run.reason
    assert "kept" in log(service, number, "use")


def test_repository_without_a_file_is_built(service: Service, workers: Workforce, repository: Repository) -> None:
    workers.start("--concurrency", "1")
    run = repository.run({"Dockerfile": "FROM base\nRUN echo built\n"})
    assert run.state == "succeeded", run.reason
    assert states(service, run.number) == {"build": "succeeded"}
    assert run.result is not None
    assert run.result.image


def test_file_with_errors_fails_its_own_pipeline_with_all_of_them(
    service: Service, workers: Workforce, repository: Repository
) -> None:
    workers.start("--concurrency", "1")
    good = "jobs: {a: {image: base, run: 'true'}}\n"
    wrong = "jobs:\n  a: {image: 'x:latest', run: x, needs: b}\n  c: {imagee: base, run: x}\n"
    number = repository.push({".shiplap/good.yml": good, ".shiplap/wrong.yml": wrong})
    assert finished(service, number).state == "succeeded"
    other = finished(service, number + 1)
    assert (other.state, states(service, other.number)) == ("failed", {PLANNING: "failed"})
    told = "\n".join(log(service, other.number, PLANNING))
    assert 'no job "b"' in told
    assert "imagee" in told
    assert other.reason.startswith(".shiplap/wrong.yml:2:")
    assert ": error: " in other.reason, "what it is marked with is no warning"


def test_both_kinds_of_file_are_an_error(service: Service, workers: Workforce, repository: Repository) -> None:
    workers.start("--concurrency", "1")
    run = repository.run({".shiplap.yml": CHAIN, ".shiplap/other.yml": CHAIN})
    assert run.state == "failed"
    assert "there are both" in run.reason


def test_pipeline_that_has_nothing_to_do_succeeds_and_says_why(
    service: Service, workers: Workforce, repository: Repository
) -> None:
    workers.start("--concurrency", "1")
    run = repository.run({".shiplap.yml": f"on: tag\n{CHAIN}"})
    assert (run.state, run.reason) == ("succeeded", "the pipeline does not listen to push")


def test_failure_is_retried_as_its_file_says_and_what_tells_of_it_runs(
    service: Service, settings: ServiceSettings, workers: Workforce, repository: Repository
) -> None:
    workers.start("--concurrency", "1")
    text = """
jobs:
  bad:
    image: base
    retry: 1
    run: "echo attempt $SHIPLAP_ATTEMPT | tee of-$SHIPLAP_ATTEMPT; exit 3"
    outputs: [{path: of-1, name: first, on: failure}, {path: of-2, name: second, on: failure}]
  next: {needs: bad, image: base, run: "true"}
  tell: {needs: bad, after: failure, image: base, run: echo told}
"""
    run = repository.run({".shiplap.yml": text})
    assert run.state == "failed"
    assert run.reason.startswith("bad: ")
    assert states(service, run.number) == {
        PLANNING: "succeeded", "bad": "failed", "next": "skipped", "tell": "succeeded",
    }  # fmt: skip
    told = log(service, run.number, "bad")
    assert [line for line in told if line.startswith("attempt ") and line.split()[1] in "12"] != []
    assert attempts(service, run.number)["bad"] == 2
    with Store.open(settings.root) as store:
        kept = store.kept.names("output/")
    assert kept == [f"output/{run.number}/bad/second"], "of an attempt that is followed by another, nobody finds any"


def test_job_gets_the_secrets_of_its_run_masked_and_a_fork_gets_none(
    service: Service, workers: Workforce, repository: Repository
) -> None:
    service.secrets.put("KEY", b"opensesame", project="app", policy=FOR_ALL)
    workers.start("--concurrency", "1")
    options = BuildOptions(secrets=("KEY",))
    text = """
jobs:
  a: {image: base, secrets: [{name: KEY, optional: true}], run: 'echo "key=${KEY-none} ${#KEY}"'}
  b: {image: base, run: 'echo opense''''same'}
"""
    run = repository.run({".shiplap.yml": text}, options=options)
    assert run.state == "succeeded", (run.reason, log(service, run.number, "a"))
    assert any(line.endswith(" 10") and "opensesame" not in line for line in log(service, run.number, "a"))
    assert not any("opensesame" in line for line in log(service, run.number, "b"))
    fork = repository.run({".shiplap.yml": text}, options=options, trusted=False)
    assert fork.state == "succeeded", fork.reason
    assert "key=none 0" in log(service, fork.number, "a")


def test_outputs_for_people_of_a_fork_are_gone_within_a_week(
    service: Service, settings: ServiceSettings, workers: Workforce, repository: Repository
) -> None:
    workers.start("--concurrency", "1")
    outputs = "outputs: [{path: a, name: long, keep: 300d}, {path: a, name: short, keep: 1d}]"
    text = f"jobs: {{a: {{image: base, run: 'echo x >a', {outputs}}}}}"
    days = {}
    for trusted in (True, False):
        run = repository.run({".shiplap.yml": text}, trusted=trusted)
        ((first, second),) = service.outputs.of_run(run.number).values()
        ended = service.jobs.get(run.number, "a").finished_at
        assert ended is not None
        days[trusted] = [round((view.until - ended) / 86400) for view in (first, second)]
    assert days == {True: [300, 1], False: [7, 1]}
    with Store.open(settings.root) as store:
        row = store.kept.get(f"output/{run.number}/a/long")
    assert row is not None
    assert row.until < time.time() + 8 * 86400


def test_cancelled_run_ends_its_job_by_sigterm_and_cleans_up(
    service: Service, workers: Workforce, repository: Repository
) -> None:
    workers.start("--concurrency", "1")
    text = """
jobs:
  up: {image: base, run: "trap 'echo let go; exit 0' TERM; echo ready; while true; do sleep 0.1; done"}
  down: {needs: up, after: always, image: base, run: echo cleaned}
  more: {needs: up, image: base, run: echo never}
"""
    number = repository.push({".shiplap.yml": text})
    eventually(lambda: states(service, number).get("up") == "running", why="the job runs")
    eventually(lambda: "ready" in log(service, number, "up"), why="it is ready")
    service.runs.cancel(number, by="ana")
    run = finished(service, number)
    assert (run.state, run.reason) == ("cancelled", "cancelled by ana")
    assert states(service, number) == {
        PLANNING: "succeeded", "up": "cancelled", "down": "succeeded", "more": "cancelled",
    }  # fmt: skip
    assert "let go" in log(service, number, "up")
    assert "cleaned" in log(service, number, "down")


def test_job_of_a_killed_worker_is_done_by_another(
    service: Service, workers: Workforce, repository: Repository
) -> None:
    force = {name: workers.start("--concurrency", "1") for name in ("worker-1", "worker-2")}
    text = """
jobs:
  slow: {image: base, outputs: [out], run: "echo begun; sleep 2; mkdir out; echo x > out/x"}
  next: {needs: slow, image: base, run: cat out/x}
"""
    number = repository.push({".shiplap.yml": text})
    eventually(lambda: states(service, number).get("slow") == "running", why="the job runs")
    with service.database.read() as connection:
        wanted = select(jobs.c.worker).where(jobs.c.run == number, jobs.c.name == "slow")
        force[connection.execute(wanted).scalar_one()].kill()
    run = finished(service, number, timeout_s=stretched(60.0))
    assert run.state == "succeeded", run.reason
    assert attempts(service, number) == {PLANNING: 1, "slow": 2, "next": 1}


def test_image_of_a_job_is_what_another_runs_in(service: Service, workers: Workforce, repository: Repository) -> None:
    workers.start("--concurrency", "1")
    text = """
jobs:
  files: {image: base, outputs: [made], run: echo 42 > made}
  app: {needs: files, build: .}
  try: {image: {job: app}, run: "cat /made; ls -d .git"}
"""
    run = repository.run({".shiplap.yml": text, "Dockerfile": "FROM base\nCOPY made /made\n"})
    assert run.state == "succeeded", (run.reason, states(service, run.number))
    assert {"42", ".git"} <= set(log(service, run.number, "try"))
    assert service.jobs.get(run.number, "app").state == "succeeded"


def test_job_with_inputs_is_reused_by_the_next_push(
    service: Service, workers: Workforce, repository: Repository
) -> None:
    workers.start("--concurrency", "1")
    text = "jobs: {a: {image: base, inputs: [src], run: cat src/x}}\n"
    first = repository.run({".shiplap.yml": text, "src/x": "one\n"})
    assert first.state == "succeeded", first.reason
    second = repository.run({"README": "another\n"})
    assert second.state == "succeeded", second.reason
    job = service.jobs.get(second.number, "a")
    assert (job.state, job.reused_from) == ("reused", str(first.number))
    third = repository.run({"src/x": "two\n"})
    assert service.jobs.get(third.number, "a").state == "succeeded"
    assert "two" in log(service, third.number, "a")


def test_retry_does_again_what_it_needs_and_cannot_take_over(
    service: Service, settings: ServiceSettings, workers: Workforce, repository: Repository
) -> None:
    workers.start("--concurrency", "1")
    text = """
jobs:
  make:
    image: base
    outputs: [out, {path: out/x, name: seen, on: always}]
    exports: [V]
    run: "mkdir out; echo x > out/x; echo V=1 >> $SHIPLAP_EXPORTS"
  side: {image: base, outputs: [side], run: "mkdir side; echo y > side/y"}
  bad: {needs: make, image: base, env: {V: "${make.V}"}, run: "cat out/x; echo v=$V; exit 3"}
"""
    first = repository.run({".shiplap.yml": text})
    assert states(service, first.number)["bad"] == "failed"
    again = finished(service, service.runs.retry(first.number, failed=True).number)
    assert states(service, again.number) == {PLANNING: "succeeded", "make": "reused", "side": "reused", "bad": "failed"}
    assert {"x", "v=1"} <= set(log(service, again.number, "bad"))
    with Store.open(settings.root) as store:
        assert len(store.kept.names(f"run/{again.number}/")) == 2
        assert store.kept.names(f"output/{again.number}/") == [f"output/{again.number}/make/seen"]
        assert [view.name for (view,) in service.outputs.of_run(again.number).values()] == ["seen"]
        store.kept.drop(store.kept.names("run/"))
        store.images.prune(cache=True)
    third = finished(service, service.runs.retry(again.number, failed=True).number)
    assert states(service, third.number) == {
        PLANNING: "succeeded", "make": "succeeded", "side": "reused", "bad": "failed",
    }  # fmt: skip
    told = log(service, third.number, PLANNING)
    assert f"make is done again: what it made in run {again.number} is not kept any more" in told
    assert {"x", "v=1"} <= set(log(service, third.number, "bad"))


def test_what_jobs_report_is_kept_of_each_attempt(service: Service, workers: Workforce, repository: Repository) -> None:
    workers.start("--concurrency", "1")
    text = """
jobs:
  test:
    image: base
    retry: 1
    run: |
      again='<testcase name="again"/>'
      [ "$SHIPLAP_ATTEMPT" = 2 ] || again='<testcase name="again"><failure message="late"/></testcase>'
      echo "<testsuite name='s'><testcase name='one'/>$again</testsuite>" > j.xml
      echo "covered: 81.5 %"; [ "$SHIPLAP_ATTEMPT" = 2 ]
    reports: {junit: j.xml, coverage: 'covered: ([\\d.]+)'}
"""
    run = repository.run({".shiplap.yml": text})
    assert run.state == "warnings", run.reason
    (view,) = service.reports.of_run(run.number)
    assert (view.job, view.attempt, view.tests.total, view.tests.failed, view.coverage) == ("test", 2, 2, 0, 81.5)
    assert [(test.name, test.history) for test in service.reports.of_project("app")] == [("again", History(1, 1, 2))]
    assert service.jobs.get(run.number, "test").exit_code == 0
    with service.database.read() as connection:
        result = connection.execute(select(jobs.c.result).where(jobs.c.name == "test")).scalar_one()
    assert "cases" not in result  # they are kept apart: a list of jobs does not read them


def test_reports_of_a_stranger_s_run_are_shown_and_count_nowhere(
    service: Service, workers: Workforce, repository: Repository
) -> None:
    workers.start("--concurrency", "1")
    text = """
jobs:
  test:
    image: base
    run: |
      echo "<testsuite name='s'><testcase name='one'><failure/></testcase></testsuite>" > j.xml
    reports: {junit: j.xml}
"""
    run = repository.run({".shiplap.yml": text}, trusted=False)
    assert [view.tests.failed for view in service.reports.of_run(run.number)] == [1]
    assert service.reports.of_project("app") == []


def test_times_of_the_default_branch_are_kept_and_a_run_begins_at_one(
    service: Service, workers: Workforce, repository: Repository
) -> None:
    workers.start("--concurrency", "1")
    job = "jobs:\n  a:\n    image: base\n    run: echo by $SHIPLAP_EVENT of $SHIPLAP_BRANCH\n"
    repository.run({".shiplap.yml": "on: {cron: {at: 0 3 * * *}, push: {}}\n" + job})
    (view,) = service.schedules.list("app")
    assert (view.pipeline, view.at, view.last_run) == ("main", "0 3 * * *", None)
    with service.database.write() as connection:
        connection.execute(update(schedules).values(due_at=1.0, at="*/1 * * * *"))
    eventually(lambda: service.schedules.list("app")[0].last_run is not None, timeout_s=60)
    number = service.schedules.list("app")[0].last_run
    assert number is not None
    run = finished(service, number)
    assert (run.state, run.trigger.kind, run.domain) == ("succeeded", "cron", "protected")
    assert "by cron of main" in log(service, number, "a")
    repository.run({".shiplap.yml": "on: {push: {}}\n" + job})
    assert service.schedules.list("app") == []
