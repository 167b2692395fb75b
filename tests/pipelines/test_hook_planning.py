"""What a project's settings make of events, without a database."""

from __future__ import annotations

from typing import Any

import pytest

from ci.patterns import means, means_any
from pipelines.errors import InvalidRequestError
from pipelines.forges.events import Event, Payload, Ping, PullRequest, PullRequestClosed, Push, Repository, Tag
from pipelines.hooks.planning import Action, Await, Build, Close, Hold, Skip, is_about, plan
from pipelines.model import GitSource, HookSettings, Project
from pipelines.projects.checking import check_hook

URL = "https://git.example/o/r.git"
COMMIT, BASE = "a" * 40, "b" * 40
PUSH = Push("main", BASE, COMMIT, ("src/a.c", "README.md"), "title", "mona", "https://git.example/c")
PULL = PullRequest(7, COMMIT, "topic", "main", BASE, fork=False, title="t", author="x")
FORK = PullRequest(7, COMMIT, "topic", "main", BASE, fork=True, title="t", author="x")


def action(event: Event, *, token: bool = True, **hook: Any) -> Action:
    settings = HookSettings(repository=URL, forge="gitea", **hook)
    project = Project("app", hook=settings, has_status_token=token)
    (found,) = plan(project, Payload(Repository("o/r", (URL,)), (event,)))
    return found


def source(found: Action) -> GitSource:
    assert isinstance(found, Build | Await)
    assert isinstance(found.request.source, GitSource)
    return found.request.source


def test_push_is_built_at_its_commit_with_the_project_s_options() -> None:
    found = action(
        PUSH, file="docker/Dockerfile", context="sub", target="final", build_args={"A": "1"},
        ssh_key="deploy",
    )  # fmt: skip
    assert isinstance(found, Build)
    assert source(found) == GitSource(URL, COMMIT, "sub", ssh_key="deploy", branch="main")
    options = found.request.options
    assert (options.file, options.target, options.build_args) == ("docker/Dockerfile", "final", {"A": "1"})
    assert (found.trigger.kind, found.trigger.branch, found.trigger.commit) == ("push", "main", COMMIT)
    assert found.trigger.context == "shiplap"


def test_no_status_is_planned_without_a_token() -> None:
    found = action(PUSH, token=False)
    assert isinstance(found, Build)
    assert found.trigger.context == ""


@pytest.mark.parametrize(
    ("patterns", "name", "meant"),
    [
        ((), "anything", True), (("main",), "main", True), (("main",), "maintenance", False),
        (("release/*",), "release/1.0", True), (("release/*",), "release", False), (("*",), "feature/x", True),
        (("!wip/**",), "wip/x", False), (("!wip/**",), "main", True), (("main", "!main"), "main", False),
        (("!a", "a"), "a", True), (("docs",), "docs/a/b.md", True), (("**/*.go",), "x/y.go", True),
    ],
)  # fmt: skip
def test_patterns_are_those_of_dockerignore(patterns: tuple[str, ...], name: str, meant: bool) -> None:
    assert means(patterns, name) is meant


def test_one_file_that_is_meant_is_enough() -> None:
    assert means_any(("src",), ("README.md", "src/a.c"))
    assert not means_any(("!docs",), ("docs/a.md", "docs/b.md"))


def test_branches_and_paths_are_filtered() -> None:
    assert isinstance(action(PUSH, branches=("release/**",)), Skip)
    assert isinstance(action(PUSH, paths=("docs",)), Skip)
    found = action(PUSH, paths=("src",))
    assert source(found).paths == ()  # the payload has told all that changed


def test_paths_that_the_payload_does_not_tell_are_left_to_the_worker() -> None:
    unknown = Push("main", BASE, COMMIT, None)
    assert source(action(unknown, paths=("src",))) == GitSource(URL, COMMIT, branch="main", base=BASE, paths=("src",))
    new = Push("main", "", COMMIT, None)  # a new branch has nothing to be compared with
    assert source(action(new, paths=("src",))).paths == ()


def test_tags_are_built_by_their_own_settings() -> None:
    tag = Tag("v1.2", COMMIT)
    found = action(tag, tags=("v*",))
    assert isinstance(found, Build)
    assert source(found).tag == "v1.2"
    assert found.trigger.context == "shiplap/tag"
    assert isinstance(action(tag, tags=("release-*",)), Skip)
    assert source(action(Tag("v1.2", ""))).ref == "refs/tags/v1.2"


def test_own_pull_request_is_built_unless_its_branch_is() -> None:
    held = action(PULL)
    assert isinstance(held, Hold)
    assert held.reason == "pull request 7: the push to branch topic builds it"
    assert held.trigger.context == ""
    assert isinstance(held.request.source, GitSource)
    assert held.request.source.only_pipelines
    found = action(PULL, branches=("main",))
    assert isinstance(found, Build)
    assert source(found).trusted
    assert not source(found).only_pipelines
    assert found.trigger.context == "shiplap/pr"
    assert isinstance(action(PULL, branches=("main",), pull_requests="off"), Skip)
    assert isinstance(action(PULL, branches=("release",)), Skip)


def test_fork_waits_for_approval_and_gets_nothing() -> None:
    assert isinstance(action(FORK), Skip)
    found = action(FORK, pull_requests="approve")
    assert isinstance(found, Await)
    assert found.request.options.secrets == ()
    assert not source(found).trusted
    assert found.trigger.fork


def test_deploy_key_opens_the_own_repository_only() -> None:
    assert source(action(FORK, pull_requests="approve", ssh_key="deploy")).ssh_key == "deploy"
    elsewhere = PullRequest(7, COMMIT, "topic", "main", BASE, fork=True, clone_url="https://git.example/x/r.git")
    assert source(action(elsewhere, pull_requests="approve", ssh_key="deploy")).ssh_key == ""


def test_short_commit_is_fetched_by_its_branch_and_checked() -> None:
    short = PullRequest(3, COMMIT[:12], "round", "main", "", fork=True, clone_url="https://bitbucket.org/x/r.git")
    found = source(action(short, pull_requests="approve"))
    assert (found.url, found.ref, found.commit) == (
        "https://bitbucket.org/x/r.git", "refs/heads/round", COMMIT[:12],
    )  # fmt: skip


def test_ping_and_closed_pull_requests() -> None:
    assert isinstance(action(Ping()), Skip)
    assert action(PullRequestClosed(7)) == Close(7)


@pytest.mark.parametrize(
    ("own", "sent", "same"),
    [
        (URL, "https://git.example/O/R", True), (URL, "ssh://git@git.example:2222/o/r.git", True),
        (URL, "git@git.example:o/r.git", True), ("git@git.example:o/r.git", URL, True),
        (URL, "https://git.example/o/r2", False), (URL, "https://evil.example/o/r", False), ("", URL, False),
        (URL, "https://git.example/x/o/r", False),
    ],
)  # fmt: skip
def test_repository_is_the_project_s_own_whatever_the_scheme(own: str, sent: str, same: bool) -> None:
    assert is_about(HookSettings(repository=own), Repository("o/r", (sent,))) is same


@pytest.mark.parametrize(
    "hook",
    [
        {"repository": "http://git.example/x"}, {"repository": "https://user:pass@git.example/x"},
        {"forge": "github"}, {"branches": ("[",)}, {"branches": ("",)}, {"paths": tuple(map(str, range(101)))},
        {"context": "../up"}, {"context": "/etc"}, {"file": "../Dockerfile"}, {"build_args": {"1x": ""}},
        {"status_context": ""}, {"status_context": "x" * 41}, {"api_url": "ftp://x"}, {"api_url": "https://u@x/api"},
        {"target": "a\0b"},
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(hook: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        check_hook(HookSettings(**hook))
