"""What there is not and what cannot be: each part of a service refuses it, says why, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from core.settings import ServiceSettings
from pipelines.errors import (
    ConflictError,
    InvalidRequestError,
    LinkError,
    NotFoundError,
    PipelineError,
    ScopeError,
    TokenError,
)
from pipelines.model import BuildOptions, ContextSource, GitSource, HookSettings, Project, RunRequest
from pipelines.owning.grants import Grant
from pipelines.projects.checking import check_hook
from pipelines.runs.queue import check_labels
from pipelines.runs.runs import check_request
from pipelines.service import Service
from pipelines.sources.contexts import ContextEntry

_PASSWORD = "correct horse battery"
_DIGEST = "sha256:" + "a" * 64
_GIT = GitSource("https://git.example/app.git", "main")


@pytest.fixture
def service(settings: ServiceSettings, service: Service) -> Service:
    """A service with one project, ``app``, and two users, the administrator ``ann`` and ``bob``."""
    service.projects.put(Project("app"))
    service.users.create("ann", "admin", _PASSWORD)
    service.users.create("bob", "member", _PASSWORD)
    return service


_ABSENT: list[tuple[str, Callable[[Service], object]]] = [
    ("there is no project none", lambda s: s.projects.get("none")),
    ("there is no project none", lambda s: s.projects.remove("none")),
    ("there is no project none", lambda s: s.projects.webhook_secret("none")),
    ("there is no project none", lambda s: s.projects.set_webhook_secret("none", "")),
    ("there is no project none", lambda s: s.projects.status_token("none")),
    ("there is no project none", lambda s: s.projects.set_status_token("none", "t")),
    ("there is no project none", lambda s: s.grants.give(Grant("none", "secret", "TOKEN"))),
    ("there is no project none", lambda s: s.roles.set("none", "user", "bob", "read")),
    ("there is no project none", lambda s: s.roles.create_token("none", "robot", "read")),
    ("project app was given no secret TOKEN", lambda s: s.grants.take(Grant("app", "secret", "TOKEN"))),
    ("user bob has no role in project app", lambda s: s.roles.remove("app", "user", "bob")),
    ("there is no user 'nobody'", lambda s: s.roles.set("app", "user", "nobody", "read")),
    ("there is no token 99", lambda s: s.roles.set("app", "token", "99", "read")),
    ("there is no token 'x'", lambda s: s.roles.set("app", "token", "x", "read")),
    ("project app has no delivery 9", lambda s: s.deliveries.get("app", 9)),
    ("project app has no delivery 9", lambda s: s.receiver.redeliver("app", 9)),
    ("project app has no delivery one", lambda s: s.deliveries.runs_of("app", "one")),
    ("project app has no approval 9", lambda s: s.approvals.approve("app", 9, "c" * 40, "ann")),
    ("project app has no approval 9", lambda s: s.approvals.reject("app", 9, "c" * 40, "ann")),
    ("there is no log-in to quay.example", lambda s: s.logins.delete("quay.example")),
    ("there is no secret NONE", lambda s: s.secrets.delete("NONE")),
    ("there is no secret NONE of project app", lambda s: s.secrets.delete("NONE", project="app")),
    ("there is no secret NONE", lambda s: s.secrets.reveal(["NONE"], project="app")),
    ("there is no run 9", lambda s: s.runs.get(9)),
    ("there is no run 9", lambda s: s.runs.job(9)),
    ("there is no run 9", lambda s: s.runs.cancel(9)),
    ("there is no run 9", lambda s: s.runs.retry(9)),
    ("there is no run 9", lambda s: s.jobs.list(9)),
    ("there is no run 9", lambda s: s.jobs.has_failed(9)),
    ("run 9 has no job 1", lambda s: s.jobs.number(9, 1)),
    ("there is no job 9", lambda s: s.logs.read(9)),
    ("there is no job 9", lambda s: list(s.logs.text(9))),
    ("there is no job 9", lambda s: s.logs.search(9, "x")),
    ("there is no job 9", lambda s: s.logs.matches(9, "x")),
    ("there is no job 9", lambda s: s.logs.marks(9)),
    ("bob has no session 9", lambda s: s.sessions.end_one("bob", 9)),
    ("there is no user 'nobody'", lambda s: s.links.create("nobody")),
    ("there is no token 9", lambda s: s.tokens.revoke(9)),
    ("there is no token 9", lambda s: s.tokens.revoke(9, owner="bob")),
    ("there is no build context", lambda s: s.contexts.manifest(_DIGEST)),
    ("the file sha256:aaaaaaaaaaaa of a build context is not here", lambda s: s.contexts.blobs([_DIGEST])),
]  # fmt: skip


def test_what_there_is_not_is_named(service: Service) -> None:
    for message, action in _ABSENT:
        with pytest.raises(NotFoundError) as told:
            pytest.fail(f"{action(service)} where this was expected: {message}")
        assert message in told.value.message
    assert not service.contexts.has(_DIGEST)
    assert service.jobs.pipeline(9) is None
    assert service.tokens.list() == [], "a robot's token for no project was taken back"


_IMPOSSIBLE: list[tuple[str, Callable[[Service], object]]] = [
    ("concurrency, keep_runs and keep_days are 0 or more", lambda s: s.projects.put(Project("app", concurrency=-1))),
    ("concurrency, keep_runs and keep_days are 0 or more", lambda s: s.projects.put(Project("app", keep_runs=-1))),
    ("concurrency, keep_runs and keep_days are 0 or more", lambda s: s.projects.put(Project("app", keep_days=-1))),
    ("weight 0 is not within 1 … 1000", lambda s: s.projects.put(Project("app", weight=0))),
    ("weight 1001 is not within 1 … 1000", lambda s: s.projects.put(Project("app", weight=1001))),
    ("the tag template is empty", lambda s: s.projects.put(Project("app", tag_template=" , "))),
    ("tag template '{x' expected '}'", lambda s: s.projects.put(Project("app", tag_template="{x"))),
    ("has the unknown member {tags}", lambda s: s.projects.put(Project("app", tag_template="{tags}"))),
    ("has the unknown member {tag}", lambda s: s.projects.put(Project("app", tag_template="{tag!r}"))),
    ("has the unknown member {tag}", lambda s: s.projects.put(Project("app", tag_template="{tag:9}"))),
    ("tag template 'UPPER': invalid image name", lambda s: s.projects.put(Project("app", tag_template="UPPER"))),
    ("a webhook's secret has 16 to 500", lambda s: s.projects.set_webhook_secret("app", "x" * 15)),
    ("a webhook's secret has 16 to 500", lambda s: s.projects.set_webhook_secret("app", "x" * 501)),
    ("a webhook's secret has 16 to 500", lambda s: s.projects.set_webhook_secret("app", "ä" * 16)),
    ("a webhook's secret has 16 to 500", lambda s: s.projects.set_webhook_secret("app", "\n" * 16)),
    ("a token has at most 500", lambda s: s.projects.set_status_token("app", "x" * 501)),
    ("a token has at most 500", lambda s: s.projects.set_status_token("app", "ä")),
    ("a token has at most 500", lambda s: s.projects.set_status_token("app", "a\nb")),
    ("invalid role 'king'", lambda s: s.roles.set("app", "user", "bob", "king")),  # type: ignore[arg-type]
    ("invalid role 'king'", lambda s: s.roles.create_token("app", "robot", "king")),  # type: ignore[arg-type]
    ("invalid role 'king'", lambda s: s.users.create("eve", "king")),  # type: ignore[arg-type]
    ("invalid scopes none", lambda s: s.tokens.create("x", [])),
    ("invalid scopes read, fly", lambda s: s.tokens.create("x", ["read", "fly"])),
    ("a token needs a name of at most 200 characters", lambda s: s.tokens.create(" ", ["read"])),
    ("a token needs a name of at most 200 characters", lambda s: s.tokens.create("x" * 201, ["read"])),
    ("a token needs a name of at most 200 characters", lambda s: s.tokens.create("a\0", ["read"])),
    ("a token expires after a positive number", lambda s: s.tokens.create("x", ["read"], 0)),
    ("a token expires after a positive number", lambda s: s.tokens.create("x", ["read"], 1e10)),
]  # fmt: skip


def test_what_cannot_be_is_refused_and_changes_nothing(service: Service) -> None:
    before = service.projects.list()
    for message, action in _IMPOSSIBLE:
        with pytest.raises(InvalidRequestError) as refused:
            pytest.fail(f"{action(service)} where this was expected: {message}")
        shown = refused.value.message.replace("': expected", "' expected")
        assert message in shown
    assert service.projects.list() == before
    assert service.projects.webhook_secret("app") is None
    assert service.projects.status_token("app") == ""
    assert service.tokens.list() == []
    assert service.users.get("bob").role == "member"


def test_bounds_of_a_project_are_within_it(service: Service) -> None:
    for weight in (1, 1000):
        service.projects.put(Project("app", weight=weight, concurrency=0, keep_runs=0, keep_days=0))
    assert service.projects.set_webhook_secret("app", "x" * 16) == "x" * 16
    assert service.projects.set_webhook_secret("app", "x" * 500) == "x" * 500
    assert len(service.projects.set_webhook_secret("app")) == 48, "a random one"
    service.projects.set_status_token("app", "x" * 500)
    assert service.projects.status_token("app") == "x" * 500
    service.projects.set_status_token("app", "")
    assert service.projects.status_token("app") == "", "forgotten"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"forge": "github"}, "a webhook needs the repository's URL"),
        ({"context": "/x"}, "context '/x' is not a path in the repository"),
        ({"file": "a/../../x"}, "file 'a/../../x' is not a path in the repository"),
        ({"build_args": {"A-B": ""}}, "invalid name of a build argument: 'A-B'"),
        ({"status_context": "a" * 31}, "invalid status context"),
        ({"status_context": ""}, "invalid status context"),
        ({"api_url": "ftp://h.test"}, "invalid URL of an API: 'ftp://h.test'"),
        ({"api_url": "https://"}, "invalid URL of an API"),
        ({"api_url": "https://h.test:port"}, "invalid URL of an API"),
        ({"api_url": "https://h.test:0"}, "invalid URL of an API"),
        ({"api_url": "https://me@h.test"}, "invalid URL of an API"),
        ({"api_url": "https://h.test?a=b"}, "invalid URL of an API"),
        ({"api_url": "https://h.test#a"}, "invalid URL of an API"),
        ({"branches": ("a[",)}, "branches: "),
        ({"tags": ("a[",)}, "tags: "),
        ({"paths": ("a[",)}, "paths: "),
        ({"target": "a\0"}, "a NUL character in the settings"),
        ({"build_args": {"A": "\0"}}, "a NUL character in the settings"),
    ],
)
def test_settings_of_a_webhook_that_cannot_work_name_what_cannot(members: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        check_hook(HookSettings(**members))
    assert message in refused.value.message


def test_settings_of_a_webhook_that_can_work_are_taken(service: Service) -> None:
    for hook in (
        HookSettings(context="a/../b", file="x/Dockerfile", status_context="a" * 30),
        HookSettings(api_url="http://h.test:8080/api"),
        HookSettings(repository="https://github.com/o/r.git"),
    ):
        service.projects.put(Project("app", hook=hook))
    assert service.projects.get("app").hook.forge == "github", "by its well-known host"


_RUN = RunRequest(_GIT, "app")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"priority": 101}, "priority 101 is not within ±100"),
        ({"priority": -101}, "priority -101 is not within ±100"),
        ({"max_attempts": 0}, "max_attempts 0 is not within 1 … "),
        ({"max_attempts": 11}, "max_attempts 11 is not within 1 … 10"),
        ({"options": BuildOptions(timeout_s=0)}, "timeout_s 0 is not within 1 … "),
        ({"options": BuildOptions(timeout_s=10**9)}, "timeout_s 1000000000 is not within 1 … "),
        ({"source": ContextSource(_DIGEST), "pipeline": "ci"}, "a pipeline is run from a git repository"),
        ({"source": ContextSource("sha256:x")}, "not a digest: 'sha256:x'"),
        ({"pipeline": "x" * 101}, "the name of the pipeline has more than"),
        ({"options": BuildOptions(build_args={"A-B": ""})}, "invalid name of a build argument: 'A-B'"),
        ({"options": BuildOptions(tags=("UPPER",))}, "invalid image name 'UPPER'"),
        ({"options": BuildOptions(platform="a/b/c/d")}, "a/b/c/d"),
        ({"options": BuildOptions(target="\0")}, "a NUL character in the request"),
        ({"worker_labels": ("Big",)}, "invalid worker label 'Big'"),
    ],
)
def test_run_that_could_never_be_done_is_refused(members: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        check_request(msgspec.structs.replace(_RUN, **members))
    assert message in refused.value.message


def test_run_at_its_bounds_is_taken() -> None:
    for members in (
        {"priority": 100},
        {"priority": -100},
        {"max_attempts": 1},
        {"max_attempts": 10},
        {"pipeline": "x" * 100},
    ):
        assert check_request(msgspec.structs.replace(_RUN, **members)) == ()


def test_labels_are_sorted_each_once() -> None:
    assert check_labels(["b", "a", "b"]) == ("a", "b")
    assert check_request(msgspec.structs.replace(_RUN, worker_labels=("z", "gpu.2"))) == ("gpu.2", "z")


def test_run_is_cancelled_and_done_again_once_it_has_ended(service: Service) -> None:
    run = service.runs.submit(_RUN).number
    with pytest.raises(ConflictError):
        service.runs.retry(run)
    with pytest.raises(ConflictError, match=f"run {run} of project app has not ended") as refused:
        service.projects.remove("app")
    assert refused.value.hint == "cancel it first"
    assert service.runs.cancel(run, by="ann").state == "cancelled"
    with pytest.raises(ConflictError, match=f"run {run} has ended: cancelled"):
        service.runs.cancel(run)
    again = service.runs.retry(run)
    assert (again.trigger.retry_of, again.state) == (run, "queued")


def _entry(path: str, **members: Any) -> ContextEntry:
    return msgspec.structs.replace(ContextEntry(path, "file", 0o644, 0, 3, _DIGEST), **members)


def test_context_that_no_directory_can_be_is_refused(service: Service) -> None:
    for entries, message in (
        ([_entry("")], "invalid path in a context: ''"),
        ([_entry("/a")], "invalid path in a context: '/a'"),
        ([_entry("..")], "invalid path in a context: '..'"),
        ([_entry(".")], "invalid path in a context: '.'"),
        ([_entry("a\0b")], "invalid path in a context"),
        ([_entry("a" * 256)], "invalid path in a context"),
        ([_entry("a"), _entry("a")], "'a' is in the context twice"),
        ([_entry("a/b")], "'a/b' is in no directory of the context"),
        ([_entry("a"), _entry("a/b")], "'a/b' is in no directory of the context"),
        ([_entry("a", mode=0o10000)], "'a' has an impossible mode, time or size"),
        ([_entry("a", mode=-1)], "'a' has an impossible mode, time or size"),
        ([_entry("a", mtime=-1)], "'a' has an impossible mode, time or size"),
        ([_entry("a", mtime=1 << 62)], "'a' has an impossible mode, time or size"),
        ([_entry("a", size=-1)], "'a' has an impossible mode, time or size"),
        ([_entry("a", digest="sha512:" + "a" * 128)], "contexts have sha256 digests, not sha512"),
        ([_entry("a", digest="")], "not a digest: ''"),
        ([_entry("a", type="directory")], "'a' is no file, but has a digest"),
        ([_entry("a", type="link", digest="")], "'a' has an impossible link target"),
        ([_entry("a", type="link", digest="", target="x\0")], "'a' has an impossible link target"),
        ([_entry("a", type="link", digest="", target="x" * 5000)], "'a' has an impossible link target"),
        ([_entry("a", target="x")], "'a' has an impossible link target"),
    ):
        with pytest.raises(InvalidRequestError) as refused:
            service.contexts.begin(entries)
        assert message in refused.value.message
    link = _entry("a", type="link", digest="", target="x")
    assert service.contexts.begin([link, _entry("b" * 255, mode=0o7777, size=0)])[1] == [_DIGEST]


def test_token_tells_why_it_opens_nothing(service: Service) -> None:
    _, text = service.tokens.create("reader", ["read"])
    assert service.tokens.verify(text, "read").name == "reader"
    with pytest.raises(ScopeError, match="the token 'reader' allows read, this needs admin"):
        service.tokens.verify(text, "admin")
    _, own = service.tokens.create("own", ["admin"], owner="bob")
    with pytest.raises(ScopeError, match="the token's owner, bob, has the role member, this needs admin"):
        service.tokens.verify(own, "admin")
    service.users.set_disabled("bob", True)
    with pytest.raises(TokenError, match="the API token's owner, bob, is disabled"):
        service.tokens.verify(own, "read")
    with pytest.raises(TokenError, match="the API token is not known"):
        service.tokens.verify("shiplap_x", "read")


def test_token_is_revoked_by_its_owner_alone_unless_anybody_s_is_meant(service: Service) -> None:
    token, text = service.tokens.create("own", ["read"], owner="bob")
    with pytest.raises(NotFoundError):
        service.tokens.revoke(token.id, owner="ann")
    assert service.tokens.identify(text).id == token.id
    assert [each.id for each in service.tokens.list(owner="bob")] == [token.id]
    assert service.tokens.list(owner="ann") == []
    service.tokens.revoke(token.id, owner="bob")
    with pytest.raises(TokenError):
        service.tokens.identify(text)


def test_link_of_another_kind_is_told(service: Service) -> None:
    assert service.links.create_first() is None, "there are users"
    with pytest.raises(LinkError, match="this link was used, has expired, or never was one") as told:
        service.links.use("x", "eve", _PASSWORD)
    assert "shiplap user link NAME" in str(told.value.hint)
    link = service.links.create("bob")
    service.users.set_disabled("bob", True)
    with pytest.raises(PipelineError):
        service.links.use(link, "", "another password")
    service.users.set_disabled("bob", False)
    assert service.users.sign_in("bob", _PASSWORD).name == "bob", "the password stayed"
