"""Two projects, a branch, a user and a fork on one service, with one worker and with two: docs/trust.md, both ways."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, TypeAlias

import pytest
from sqlalchemy import select

from core.settings import ServiceSettings
from core.trust import Domain, of_branch, of_fork, of_user, protected
from pipelines.logs.lines import decode_line
from pipelines.model import BuildOptions, GitSource, HookSettings, Project, Run, RunRequest, RunResult, Source, Trigger
from pipelines.runs.domains import domain_of
from pipelines.schema import jobs
from pipelines.service import Service
from tests.toolkit.git import git, make_certificate, serving_git
from tests.toolkit.service import FOR_ALL, Workforce, eventually, finished, upload
from tests.web.processes import WebProcess
from tests.worker.conftest import import_base

Who: TypeAlias = Literal["main", "branch", "ann", "fork", "other fork", "shop", "shop's branch"]

DOMAINS: Final[dict[Who, Domain]] = {
    "main": protected("app"),
    "branch": of_branch("app", "b"),
    "ann": of_user("app", "ann"),
    "fork": of_fork("app", 7),
    "other fork": of_fork("app", 8),
    "shop": protected("shop"),
    "shop's branch": of_branch("shop", "b"),
}
INSIDERS: Final[tuple[Who, ...]] = ("main", "branch", "ann")
STRANGERS: Final[tuple[Who, ...]] = ("fork", "other fork", "shop", "shop's branch")


class Scene:
    """A service with the projects ``app`` and ``shop``. With two workers ``main`` builds on one, the others on another.

    SECRET: the value of the secret ``token`` of ``app``.
    """

    SECRET = "tell-nobody"

    def __init__(self, service: Service, repositories: Path, server: str, *, apart: bool) -> None:
        self.service = service
        self.apart = apart
        self._server = server
        self._trees = {project: repositories / project for project in ("app", "shop")}
        for project, tree in self._trees.items():
            tree.mkdir(parents=True)
            git(tree, "init", "--quiet", "--initial-branch=main")
            hook = HookSettings(self.url(project), "plain")
            service.projects.put(Project(project, hook=hook))
        service.secrets.put("token", self.SECRET.encode(), project="app")

    def runs(self, who: Who, files: dict[str, str], *, secrets: tuple[str, ...] = (), **sent: bytes) -> Run:
        """Build ``files`` for somebody, as the service would; the run, ended well, and all that it leaves written.

        sent: secrets that come with it.
        """
        domain = DOMAINS[who]
        source, trigger = self._source(domain, files)
        labels = ("first" if who == "main" else "second",) if self.apart else ()
        options = BuildOptions(secrets=secrets)
        request = RunRequest(source, domain.project, options, worker_labels=labels, secrets=dict(sent))
        run = finished(self.service, self.service.runs.submit(request, trigger).number)
        assert run.state == "succeeded", (who, run.reason)
        assert domain_of(run) == domain
        eventually(lambda: not self._may_write_cache(run), why="the run's part of the shared cache is written")
        return run

    def counts(
        self, who: Who, files: dict[str, str], *, secrets: tuple[str, ...] = (), **sent: bytes
    ) -> tuple[int, int]:
        """Steps that ran, and steps that a cache answered."""
        result = self.runs(who, files, secrets=secrets, **sent).result
        assert isinstance(result, RunResult)
        return result.executed, result.cached

    def _may_write_cache(self, run: Run) -> bool:
        """Whether its worker still has the run's token: until it is done with the run's part of the shared cache."""
        with self.service.database.read() as connection:
            token = connection.execute(select(jobs.c.token).where(jobs.c.run == run.number)).scalar_one()
        return bool(token)

    def output(self, run: Run) -> str:
        lines = [decode_line(data) for _, data in self.service.logs.read(run.number, 1, 1000)]
        return "\n".join(line.text for line in lines if line.kind == "output")

    def commit(self, project: str, files: dict[str, str], ref: str) -> str:
        """A commit of just these files, at ``ref``; its hash."""
        tree = self._trees[project]
        git(tree, "checkout", "--quiet", "--orphan", "new")
        git(tree, "rm", "-rfq", "--ignore-unmatch", ".")
        for name, text in files.items():
            (tree / name).write_text(text)
        git(tree, "add", ".")
        git(tree, "commit", "--quiet", "--allow-empty", "-m", "files")
        commit = git(tree, "rev-parse", "HEAD")
        git(tree, "update-ref", ref, commit)
        git(tree, "symbolic-ref", "HEAD", "refs/heads/main")
        git(tree, "update-ref", "-d", "refs/heads/new")
        return commit

    def url(self, project: str) -> str:
        return f"{self._server}/{project}"

    def _source(self, domain: Domain, files: dict[str, str]) -> tuple[Source, Trigger]:
        project, url = domain.project, self.url(domain.project)
        match domain.lane:
            case "by":
                return upload(self.service.contexts, files), Trigger(by=domain.name)
            case "fork":
                commit, number = self.commit(project, files, f"refs/pull/{domain.name}/head"), int(domain.name)
                trigger = Trigger("pull_request", "eve", branch="main", pull_request=number, commit=commit, fork=True)
                return GitSource(url, commit, trusted=False), trigger
            case "branch":
                commit = self.commit(project, files, f"refs/heads/{domain.name}")
                trigger = Trigger("push", "bob", branch=domain.name, commit=commit)
                return GitSource(url, commit, branch=domain.name), trigger
            case _:
                commit = self.commit(project, files, "refs/heads/main")
                return GitSource(url, commit, branch="main"), Trigger("push", "bob", branch="main", commit=commit)


@pytest.fixture(params=["one worker", "two workers"])
def scene(
    request: pytest.FixtureRequest,
    settings: ServiceSettings,
    service: Service,
    workers: Workforce,
    tmp_path: Path,
    busybox_tar: Path,
) -> Iterator[Scene]:
    repositories = tmp_path / "repositories"
    repositories.mkdir()
    certificate = make_certificate(_readable(), "127.0.0.1")
    git_environ = {"SHIPLAP_GIT_ALLOWED_HOSTS": "127.0.0.1", "SHIPLAP_GIT_CA_FILE": str(certificate)}
    apart = request.param == "two workers"
    with serving_git(repositories, certificate) as server, contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, certificate.parent)
        made = Scene(service, repositories, f"https://127.0.0.1:{server.port}", apart=apart)
        if not apart:
            workers.start("--concurrency", "1", environ=git_environ)
            yield made
            return
        web = stack.enter_context(WebProcess(settings))
        token = service.tokens.create("worker", ["build"])[1]
        registry = _with_registry(web, token, tmp_path / "docker")
        other = tmp_path / "elsewhere"
        import_base(other, busybox_tar)
        key = tmp_path / "elsewhere.key"
        shutil.copy(settings.root / "serve" / "secret.key", key)
        environ = {
            "SHIPLAP_ROOT": str(other), "SHIPLAP_SECRET_KEY_FILE": str(key), "SHIPLAP_WEB_URL": web.url,
            "SHIPLAP_WEB_TOKEN": token,
        }  # fmt: skip
        workers.start("--concurrency", "1", "--labels", "first", environ={**git_environ, **registry})
        workers.start("--concurrency", "1", "--labels", "second", environ={**git_environ, **registry, **environ})
        yield made


def _readable() -> Path:
    """A directory that nobody, as whom git runs, can walk to."""
    made = Path(tempfile.mkdtemp(prefix="shiplap-trust-"))
    made.chmod(0o755)
    return made


def _with_registry(web: WebProcess, token: str, directory: Path) -> dict[str, str]:
    host = web.url.removeprefix("http://")
    directory.mkdir()
    auth = base64.b64encode(f"worker:{token}".encode()).decode()
    (directory / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return {"SHIPLAP_REGISTRY": host, "DOCKER_CONFIG": str(directory)}


COMMON: Final = {
    "Dockerfile": "FROM base\nWORKDIR /w\nCOPY plans /\nRUN cat /plans > /g\n"
    "FROM base\nCOPY --from=0 /g /\nRUN cat /g\n",
    "plans": "for the merger\n",
}
SECRET: Final = {
    "Dockerfile": "FROM base\n"
    "RUN --mount=type=secret,id=token cat /run/secrets/token > /t 2>/dev/null || true\n"
    "RUN echo it is: $(cat /t)\n"
}


def caching(name: str) -> dict[str, str]:
    step = f"RUN --mount=type=cache,target=/c cat /c/* > /seen 2>/dev/null; echo {name} > /c/{name}; sort /seen\n"
    return {"Dockerfile": f"FROM base\n{step}"}


def test_first_build_of_what_is_common_has_all_steps_cached(scene: Scene) -> None:
    """A branch's, a user's, a fork's, another project's: with two workers what the project's cache brings, no more."""
    assert scene.counts("main", COMMON) == (5, 0)
    assert scene.counts("main", COMMON) == (0, 5)
    for who in ("branch", "ann"):
        assert scene.counts(who, COMMON) == (0, 5), who
    # What came from the project's cache counts for the project: on a worker of their own others build it themselves.
    assert scene.counts("fork", COMMON) == ((5, 0) if scene.apart else (0, 5))
    assert scene.counts("shop", COMMON) == ((5, 0) if scene.apart else (0, 5))
    others: tuple[Who, ...] = ("shop's branch", "other fork", "branch")
    for who in others:
        assert scene.counts(who, COMMON) == (0, 5), who


def test_what_a_fork_builds_is_for_nobody_else(scene: Scene) -> None:
    assert scene.counts("fork", COMMON) == (5, 0)
    assert scene.counts("fork", COMMON) == (0, 5)
    for who in ("other fork", "branch"):
        assert scene.counts(who, COMMON) == (5, 0), who
    assert scene.counts("fork", COMMON) == (0, 5)
    assert scene.counts("main", COMMON) == ((5, 0) if scene.apart else (0, 5))  # as the branch is elsewhere, or here


def test_layer_with_a_secret_is_printed_by_nobody_who_may_not_have_it(scene: Scene) -> None:
    scene.service.secrets.set_policy("token", FOR_ALL, project="app")
    made = scene.runs("main", SECRET, secrets=("token",))
    assert scene.output(made) == "it is: ***"
    assert scene.counts("branch", SECRET, secrets=("token",)) == (0, 2)
    for who in (*INSIDERS, *STRANGERS):
        run = scene.runs(who, SECRET)
        assert scene.SECRET not in scene.output(run), who


def test_layer_without_the_secret_is_shipped_by_nobody_who_has_it(scene: Scene) -> None:
    for who in ("fork", "shop", "branch"):
        assert scene.output(scene.runs(who, SECRET)) in ("it is:", ""), who
    assert scene.output(scene.runs("main", SECRET, secrets=("token",))) == "it is: ***"


def test_secret_of_the_same_name_is_another_project_s(scene: Scene) -> None:
    scene.service.secrets.put("token", b"another one", project="shop")
    scene.runs("main", SECRET, secrets=("token",))
    assert scene.counts("shop", SECRET, secrets=("token",)) == (2, 0)


def test_fork_that_asks_for_secrets_gets_neither_them_nor_what_they_made(scene: Scene) -> None:
    scene.runs("main", SECRET, secrets=("token",))
    run = scene.runs("fork", SECRET, secrets=("token",))
    assert scene.output(run) == "it is:"


def test_secret_that_is_changed_is_used(scene: Scene) -> None:
    scene.runs("main", SECRET, secrets=("token",))
    assert scene.counts("main", SECRET, secrets=("token",)) == (0, 2)
    scene.service.secrets.put("token", b"a new one", project="app")
    assert scene.counts("main", SECRET, secrets=("token",)) == (2, 0)


def test_secret_that_somebody_sent_stays_with_who_sent_it(scene: Scene) -> None:
    scene.service.secrets.set_policy("token", FOR_ALL, project="app")
    assert scene.counts("ann", SECRET, token=b"of ann's own") == (2, 0)
    assert scene.counts("ann", SECRET, token=b"of ann's own") == (0, 2)
    assert scene.counts("branch", SECRET, secrets=("token",)) == (2, 0)
    assert scene.counts("main", SECRET, secrets=("token",)) == ((2, 0) if scene.apart else (0, 2))
    assert "of ann's own" not in scene.output(scene.runs("main", SECRET))


def test_cache_mounts_show_nothing_across_the_borders(scene: Scene) -> None:
    seen: dict[Who, list[str]] = {}
    for who in (*STRANGERS, *INSIDERS):
        left = who.replace(" ", "-").replace("'", "")
        seen[who] = scene.output(scene.runs(who, caching(left))).split()
    assert seen == {
        "fork": [], "other fork": [], "shop": [], "shop's branch": [], "main": [], "branch": [], "ann": ["branch"],
    }  # fmt: skip


def test_why_a_step_ran_names_no_file_of_others(scene: Scene) -> None:
    def told(who: Who, files: dict[str, str]) -> str:
        return "\n".join(step.reason for step in scene.service.runs.steps(scene.runs(who, files).number))

    dockerfile = {"Dockerfile": "FROM base\nCOPY . /\n"}
    told("main", {**dockerfile, "plans": "1", "kept": "1"})
    for who in STRANGERS:
        assert "plans" not in told(who, {**dockerfile, "kept": "2"}), who
    assert "plans" not in told("other fork", {**dockerfile, "kept": "3"})
    assert "kept" in told("other fork", {**dockerfile, "kept": "4"})


def test_commit_of_a_fork_built_by_its_hash_is_for_who_asked_alone(scene: Scene) -> None:
    scene.commit("app", COMMON, "refs/heads/main")
    forked = scene.commit("app", {"Dockerfile": "FROM base\nRUN echo forked\n"}, "refs/pull/7/head")
    labels = ("first",) if scene.service.workers.list()[0].labels else ()
    source = GitSource(scene.url("app"), forked, branch="main", tag="v1")
    request = RunRequest(source, "app", worker_labels=labels)
    run = finished(scene.service, scene.service.runs.submit(request, Trigger(by="ann")).number)
    assert run.state == "succeeded", run.reason
    assert run.domain == "by ann"
    again = finished(scene.service, scene.service.runs.retry(run.number, by="bob").number)
    assert again.domain == "by ann"
