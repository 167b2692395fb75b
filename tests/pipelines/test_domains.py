"""For whom a run is: by what the service and the repository's server know, never by what the run's author wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy.engine import Connection

from core.trust import Domain, of_branch, of_fork, of_stranger, of_user, protected
from pipelines.errors import StaleAttemptError
from pipelines.forges.events import Payload
from pipelines.forges.known import FORGES
from pipelines.hooks.planning import Await, Build, by_hand, plan
from pipelines.model import (
    BuildOptions,
    Claim,
    ContextSource,
    GitSource,
    HookSettings,
    Project,
    Run,
    RunRequest,
    RunResult,
    Trigger,
)
from pipelines.projects.defaultnames import Origin
from pipelines.runs.domains import domain_of, found, origin, told, unambiguous
from pipelines.sealing.vault import Secrets
from pipelines.service import Service
from pipelines.sources.git import Checkout, fetch_git
from tests.toolkit import forgepayloads as sent
from tests.toolkit.git import git

CONTEXT = ContextSource("sha256:" + "0" * 64)
GIT = GitSource("https://git.test/app.git")


@pytest.mark.parametrize(
    ("source", "trigger", "domain"),
    [
        (CONTEXT, Trigger(by="ann"), of_user("p", "ann")),
        (CONTEXT, Trigger(by="ann", branch="main", default_branch="main"), of_user("p", "ann")),
        (GIT, Trigger("push", "eve", branch="main", default_branch="main"), protected("p")),
        (GIT, Trigger("push", "eve", branch="x", default_branch="main"), of_branch("p", "x")),
        (GIT, Trigger("push", "eve", branch="main"), None),
        (GIT, Trigger("tag", "eve", tag="v1"), protected("p")),
        (GIT, Trigger("pull_request", "ann", branch="x", pull_request=7), of_branch("p", "x")),
        (GIT, Trigger("pull_request", "ann", branch="main", pull_request=7), of_branch("p", "main")),
        (GIT, Trigger("pull_request", "eve", branch="main", pull_request=7, fork=True), of_fork("p", 7)),
        (GIT, Trigger(by="ann"), None),
        (GitSource("https://git.test/app.git", trusted=False), Trigger(by="ann"), of_stranger("p", "ann")),
        (GitSource("https://git.test/app.git", branch="main", tag="v1"), Trigger(by="ann"), None),
    ],
)  # fmt: skip
def test_what_is_known_before_the_repository_is_asked(
    source: ContextSource | GitSource, trigger: Trigger, domain: Domain | None
) -> None:
    assert told(source, "p", trigger) == domain


def read(hook: sent.Hook) -> Payload:
    headers, body = hook.request()
    return FORGES[hook.forge].parse({name.lower(): value for name, value in headers.items()}, body)


PUSHES = {
    "github": sent.github_push(),
    "gitlab": sent.gitlab_push(),
    "gitea": sent.gitea_push(),
    "forgejo": sent.gitea_push("forgejo"),
}


@pytest.mark.parametrize("forge", PUSHES)
def test_forges_say_which_branch_is_the_default_one(forge: str) -> None:
    (event,) = read(PUSHES[forge]).events
    assert getattr(event, "default_branch", None) == "main"


def test_pull_request_from_a_fork_is_the_fork_s_once_it_is_approved(service: Service) -> None:
    hook = HookSettings("https://github.com/octo-org/hello.git", "github", pull_requests="approve")
    project = Project("p", hook=hook)
    (action,) = plan(project, read(sent.github_pull_request(fork=True)))
    assert isinstance(action, Await)
    service.projects.put(project)
    with service.database.write() as connection:
        service.approvals.ask(connection, action.request, action.trigger)
    (waiting,) = service.approvals.list("p")
    run = service.approvals.approve("p", waiting.id, waiting.commit, "admin")
    assert domain_of(run) == of_fork("p", action.trigger.pull_request)


# Asked from the repository's server


class Repository:
    """``main`` at a second commit, ``other`` and tag ``v1`` beside it, and what a fork has pushed."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "app"
        self.path.mkdir(parents=True)
        self._directory = directory
        self._fetched = 0
        git(self.path, "init", "--quiet", "--initial-branch=main")
        git(self.path, "config", "uploadpack.allowAnySHA1InWant", "true")
        self.first, self.tip = self.commit("one"), self.commit("two")
        git(self.path, "checkout", "--quiet", "-b", "other")
        self.other = self.commit("three")
        git(self.path, "tag", "v1")
        git(self.path, "checkout", "--quiet", "--detach")
        self.forked = self.commit("a stranger's")
        git(self.path, "update-ref", "refs/pull/7/head", self.forked)
        git(self.path, "checkout", "--quiet", "main")
        self.url = f"file://{self.path}"

    def commit(self, text: str) -> str:
        (self.path / "Dockerfile").write_text(f"FROM scratch\n# {text}\n")
        git(self.path, "add", ".")
        git(self.path, "commit", "--quiet", "-m", text)
        return git(self.path, "rev-parse", "HEAD")

    def fetch(self, source: GitSource) -> Checkout:
        self._fetched += 1
        directory = self._directory / f"checkout-{self._fetched}"
        return fetch_git(source, directory, local=self._directory, ask_head=True)


@pytest.fixture
def repository(tmp_path: Path, privileged: None) -> Repository:
    return Repository(tmp_path / "repositories")


def project_of(repository: Repository) -> Project:
    return Project("p", hook=HookSettings(repository.url, "plain"))


BY_ANN = Trigger(by="ann")


def submitted(service: Service, source: GitSource, trigger: Trigger = BY_ANN) -> Run:
    return service.runs.submit(RunRequest(source, "p"), trigger)


def for_whom(service: Service, repository: Repository, source: GitSource, trigger: Trigger = BY_ANN) -> Domain:
    run = submitted(service, source, trigger)
    assert run.domain == ""
    return found(run, source, project_of(repository), repository.fetch(source))


def test_what_the_server_says_decides_of_a_run_by_hand(service: Service, repository: Repository) -> None:
    def asked(ref: str, branch: str = "", tag: str = "") -> Domain:
        return for_whom(service, repository, GitSource(repository.url, ref, branch=branch, tag=tag))

    assert asked("") == protected("p")
    assert asked("main") == protected("p")
    assert asked("refs/heads/main") == protected("p")
    assert asked(repository.tip) == protected("p")
    assert asked("v1") == protected("p")
    assert asked("other") == of_branch("p", "other")
    assert asked(repository.other) == of_user("p", "ann")
    assert asked(repository.forked) == of_user("p", "ann")
    assert asked(repository.forked, branch="main", tag="v1") == of_user("p", "ann")
    assert asked("refs/pull/7/head", branch="main") == of_user("p", "ann")


def test_git_s_author_decides_nothing(service: Service, repository: Repository) -> None:
    """Whoever commits writes any name there: an administrator's for a fork's commit, a stranger's on the own branch."""

    def commit_as(name: str, branch: str) -> str:
        git(repository.path, "checkout", "--quiet", *(("--detach", "main") if not branch else (branch,)))
        who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER")
               for what, value in (("NAME", name), ("EMAIL", f"{name}@example.org"))}  # fmt: skip
        signed = f"work\n\nSigned-off-by: {name} <{name}@example.org>"
        git(repository.path, "commit", "--quiet", "--allow-empty", "-m", signed, **who)
        made = git(repository.path, "rev-parse", "HEAD")
        git(repository.path, "checkout", "--quiet", "main")  # which is the default branch
        return made

    service.users.create("root", "admin", "a long password")
    for name in ("root", "stranger"):
        commit_as(name, "other")
        assert for_whom(service, repository, GitSource(repository.url, "other")) == of_branch("p", "other")
        commit_as(name, "main")
        assert for_whom(service, repository, GitSource(repository.url, "main")) == protected("p")
        git(repository.path, "update-ref", "refs/pull/8/head", forked := commit_as(name, ""))
        assert for_whom(service, repository, GitSource(repository.url, forked)) == of_user("p", "ann")


def test_a_branch_at_the_default_branch_s_tip_is_still_another_branch(service: Service, repository: Repository) -> None:
    git(repository.path, "branch", "same", "main")
    assert for_whom(service, repository, GitSource(repository.url, "same")) == of_branch("p", "same")


@pytest.mark.parametrize(
    "options", [BuildOptions(build_args={"MIRROR": "http://evil.test"}), BuildOptions(add_hosts=(("a", "10.0.0.1"),))]
)
def test_default_branch_with_arguments_of_one_s_own_is_for_who_gave_them_alone(
    service: Service, repository: Repository, options: BuildOptions
) -> None:
    """Its steps write to the cache mounts of whom it is for."""
    source = GitSource(repository.url, "main")
    run = service.runs.submit(RunRequest(source, "p", options), BY_ANN)
    assert found(run, source, project_of(repository), repository.fetch(source)) == of_user("p", "ann")


def test_default_branch_with_the_project_s_arguments_is_protected(service: Service, repository: Repository) -> None:
    hook = HookSettings(repository.url, "plain", build_args={"MIRROR": "http://ours.test"})
    build = by_hand(Project("p", hook=hook), "", "ann", "user ann")
    run = service.runs.submit(build.request, build.trigger)
    assert isinstance(run.source, GitSource)
    assert found(run, run.source, Project("p", hook=hook), repository.fetch(run.source)) == protected("p")


def test_another_repository_is_for_who_named_it_alone(service: Service, repository: Repository, tmp_path: Path) -> None:
    fork = Repository(tmp_path / "fork")
    run = submitted(service, source := GitSource(fork.url, "main"))
    assert found(run, source, project_of(repository), fork.fetch(source)) == of_user("p", "ann")


def test_push_without_the_forge_s_word_is_asked_of_the_server(service: Service, repository: Repository) -> None:
    def pushed(branch: str, commit: str) -> Domain:
        source = GitSource(repository.url, commit, branch=branch)
        return for_whom(service, repository, source, Trigger("push", "ann", branch=branch))

    assert pushed("main", repository.first) == protected("p")
    assert pushed("other", repository.tip) == of_branch("p", "other")
    git(repository.path, "symbolic-ref", "HEAD", "refs/heads/other")
    assert pushed("main", repository.tip) == of_branch("p", "main")


def test_branch_built_by_hand_is_asked_of_the_server(service: Service, repository: Repository) -> None:
    for branch, domain in (("", protected("p")), ("main", protected("p")), ("other", of_branch("p", "other"))):
        build = by_hand(project_of(repository), branch, "ann", "user ann")
        assert isinstance(build, Build)
        assert isinstance(build.request.source, GitSource)
        assert for_whom(service, repository, build.request.source, build.trigger) == domain


# What its image is called after


def after(service: Service, repository: Repository, source: GitSource, trigger: Trigger, **options: Any) -> Origin:
    run = service.runs.submit(RunRequest(source, "p", options=BuildOptions(**options)), trigger)
    checkout, project = repository.fetch(source), project_of(repository)
    return origin(run, domain_of(run) or found(run, source, project, checkout), project.hook, checkout)


def test_image_is_called_after_what_the_server_says(service: Service, repository: Repository, tmp_path: Path) -> None:
    url, tip, other = repository.url, repository.tip, repository.other

    def by_ann(source: GitSource, **options: Any) -> Origin:
        return after(service, repository, source, BY_ANN, **options)

    assert by_ann(GitSource(url)) == by_ann(GitSource(url, "main")) == Origin("main", is_default=True, commit=tip)
    assert by_ann(GitSource(url, "other")) == Origin("other", commit=other)
    assert by_ann(GitSource(url, "v1")) == Origin(tag="v1", commit=other)
    assert by_ann(GitSource(url, repository.forked, branch="main", tag="v1")) == Origin()
    assert by_ann(GitSource(url, tip)) == by_ann(GitSource(url, tip, branch="main")) == Origin(commit=tip)
    assert by_ann(GitSource(url, tip, branch="other")) == by_ann(GitSource(url, tip, tag="v1")) == Origin()
    assert by_ann(GitSource(url, "main", subdirectory=".")) == Origin()
    for options in ({"target": "test"}, {"file": "Other"}, {"platform": "linux/arm64"}, {"build_args": {"a": "b"}}):
        assert by_ann(GitSource(url, "main"), **options) == Origin()
    elsewhere = Repository(tmp_path / "elsewhere")
    run = submitted(service, source := GitSource(elsewhere.url, "main"))
    checkout = elsewhere.fetch(source)
    domain = found(run, source, project_of(repository), checkout)
    assert origin(run, domain, project_of(repository).hook, checkout) == Origin()


def test_image_is_called_after_what_the_forge_says(service: Service, repository: Repository) -> None:
    source, tip = GitSource(repository.url, repository.tip, branch="lies", tag="v9"), repository.tip

    def told_by(trigger: Trigger) -> Origin:
        return after(service, repository, source, trigger)

    assert told_by(Trigger("push", branch="x", default_branch="main")) == Origin("x", commit=tip)
    main = Origin("main", is_default=True, commit=tip)
    assert told_by(Trigger("push", branch="main", default_branch="main")) == main
    assert told_by(Trigger("push", branch="main")) == main
    assert told_by(Trigger("tag", tag="v1.2.3")) == Origin(tag="v1.2.3", commit=tip)
    assert told_by(Trigger("pull_request", branch="main", pull_request=7)) == Origin(pull_request=7, commit=tip)
    assert told_by(Trigger("pull_request", branch="main", pull_request=7, fork=True)) == Origin()


# Kept


def taken(service: Service) -> Claim:
    claim = service.claims.take("w", ())
    assert claim is not None
    return claim


def ended(service: Service, claim: Claim) -> None:
    def store_nothing(connection: Connection) -> None:
        del connection

    service.claims.finish(claim, "failed", "", RunResult(), store=store_nothing)


def test_retry_keeps_its_domain_whoever_asks_for_it(service: Service) -> None:
    first = service.runs.submit(RunRequest(CONTEXT), Trigger(by="ann"))
    ended(service, taken(service))
    again = service.runs.retry(first.number, by="bob")
    assert (again.trigger.by, domain_of(again)) == ("bob", of_user("default", "ann"))


def test_attempts_and_retries_keep_what_the_server_said(service: Service, repository: Repository) -> None:
    submitted(service, source := GitSource(repository.url, "v1"))
    claim = taken(service)
    checkout = repository.fetch(source)
    domain = found(claim.run, source, project_of(repository), checkout)
    service.claims.settle_domain(claim, domain, unambiguous(source, checkout))
    git(repository.path, "branch", "v1", repository.forked)  # a branch would be found first
    service.claims.release(claim.number, claim.attempt, "as if its worker had died")
    claim = taken(service)
    ended(service, claim)
    for run in (claim.run, service.runs.retry(claim.run.number, by="bob")):
        assert domain_of(run) == protected("p")
        assert isinstance(run.source, GitSource)
        assert repository.fetch(run.source).commit == repository.other


def test_attempt_that_was_given_up_settles_nothing(service: Service) -> None:
    submitted(service, source := GitSource("https://git.test/app.git"))
    claim = taken(service)
    service.claims.release(claim.number, claim.attempt, "as if its worker had died")
    with pytest.raises(StaleAttemptError):
        service.claims.settle_domain(claim, protected("p"), source)
    assert service.runs.get(claim.run.number).domain == ""


def test_run_of_before_there_were_domains_gets_one_when_it_is_tried_again(service: Service) -> None:
    first = service.runs.submit(RunRequest(CONTEXT), Trigger(by="ann"))
    assert domain_of(msgspec.structs.replace(first, domain="")) == of_user("default", "ann")


def test_what_stands_for_a_secret_s_value_tells_nothing_to_who_has_not_the_key(
    service: Service, tmp_path: Path
) -> None:
    printed = service.secrets.fingerprint(b"hunter2")
    assert printed == service.secrets.fingerprint(b"hunter2")
    assert printed != service.secrets.fingerprint(b"hunter3")
    assert "hunter2" not in printed
    assert printed != Secrets(service.database, tmp_path / "another.key").fingerprint(b"hunter2")
