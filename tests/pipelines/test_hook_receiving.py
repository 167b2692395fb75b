"""Webhooks against both databases: what is written, and when nothing is."""

from __future__ import annotations

import threading

import pytest

from pipelines.errors import ConflictError, InvalidRequestError, NotFoundError
from pipelines.forges.errors import MissingSignatureError, WebhookError, WrongSignatureError
from pipelines.hooks.deliveries import Deliveries
from pipelines.hooks.receiving import Answer
from pipelines.model import GitSource, HookSettings, Project, RunResult
from pipelines.service import Service
from pipelines.statuses.outbox import list_statuses
from tests.toolkit import forgepayloads as sent
from tests.toolkit.forgepayloads import AFTER, SECRET, Hook

on_one_database = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
"""For what asks nothing new of the database."""

REPOSITORIES = {
    "github": "https://github.com/octo-org/hello.git",
    "gitlab": "https://gitlab.com/mike/diaspora.git",
    "gitea": "ssh://git@gitea.example:2222/gitea/webhooks.git",
    "bitbucket": "https://bitbucket.org/team/widgets.git",
}


def set_up(service: Service, forge: str = "github", **hook: object) -> None:
    settings = HookSettings(repository=REPOSITORIES[forge], forge=forge, **hook)  # type: ignore[arg-type]  # a test's shorthand
    service.projects.put(Project("app", hook=settings))
    service.projects.set_webhook_secret("app", SECRET)


def send(service: Service, hook: Hook, *, secret: str = SECRET, project: str = "app") -> Answer:
    headers, body = hook.request(secret)
    return service.receiver.receive(project, {name.lower(): value for name, value in headers.items()}, body)


def test_push_becomes_a_run_and_the_delivery_is_kept(service: Service) -> None:
    set_up(service)
    hook = sent.github_push()
    delivery = send(service, hook).delivery
    (run,) = service.runs.list()
    assert delivery.runs == (run.number,)
    assert (delivery.outcome, delivery.status, delivery.delivery) == ("queued", 202, hook.delivery)
    assert run.source == GitSource(REPOSITORIES["github"], AFTER, branch="main")
    assert (run.trigger.kind, run.trigger.by, run.trigger.title) == ("push", "octocat", "Greet everybody")
    assert run.trigger.delivery == delivery.id
    kept = service.deliveries.get("app", delivery.id)
    assert kept.body == hook.request()[1]
    assert kept.headers["x-github-event"] == "push"
    assert kept.headers["x-hub-signature-256"] == "(withheld)"


@on_one_database
@pytest.mark.parametrize(
    ("forge", "hook"),
    [("gitlab", sent.gitlab_push()), ("gitea", sent.gitea_push()), ("bitbucket", sent.bitbucket_push())],
)
def test_other_forges_start_runs_too(service: Service, forge: str, hook: Hook) -> None:
    set_up(service, forge)
    assert send(service, hook).delivery.runs


def test_redelivery_of_the_forge_starts_nothing(service: Service) -> None:
    set_up(service)
    hook = sent.github_push()
    first = send(service, hook)
    again = send(service, hook)
    assert not first.repeated
    assert again.repeated
    assert again.delivery.id == first.delivery.id
    assert service.deliveries.list("app")[0].repeats == 1
    assert len(service.runs.list()) == 1


def test_the_same_delivery_at_once_starts_one_run(service: Service) -> None:
    set_up(service)
    hook = sent.github_push()
    threads = [threading.Thread(target=send, args=(service, hook)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(service.runs.list()) == 1
    assert len(service.deliveries.list("app")) == 1


def test_wrong_secret_is_recorded_without_body_and_uses_up_no_id(service: Service) -> None:
    set_up(service)
    hook = sent.github_push()
    with pytest.raises(WrongSignatureError):
        send(service, hook, secret="some other secret")
    (refused,) = service.deliveries.list("app")
    assert (refused.outcome, refused.status, refused.delivery, refused.has_body) == ("refused", 403, "", False)
    assert service.runs.list() == []
    assert send(service, hook).delivery.outcome == "queued"
    with pytest.raises(ConflictError):
        service.receiver.redeliver("app", refused.id)


@on_one_database
def test_missing_signature_is_refused(service: Service) -> None:
    set_up(service)
    headers, body = sent.github_push().request()
    bare = {name.lower(): value for name, value in headers.items() if "Signature" not in name}
    with pytest.raises(MissingSignatureError):
        service.receiver.receive("app", bare, body)
    assert service.deliveries.list("app")[0].status == 401


@on_one_database
def test_a_flood_of_refusals_writes_little_and_pushes_nothing_out(service: Service) -> None:
    set_up(service)
    send(service, sent.github_push())
    now = [1e9]
    deliveries = Deliveries(service.database, clock=lambda: now[0])

    def refuse(times: int, *, every_s: float) -> int:
        for _ in range(times):
            now[0] += every_s
            deliveries.refuse("app", "github", "push", {"authorization": "x"}, 403, "no")
        return sum(one.outcome == "refused" for one in deliveries.list("app", limit=200))

    assert refuse(100, every_s=0.0) == 20
    assert refuse(1, every_s=5.0) == 21
    assert refuse(60, every_s=2.0) == 50
    assert deliveries.list("app", limit=200)[-1].outcome == "queued"


@on_one_database
def test_another_repository_with_the_right_secret_is_refused(service: Service) -> None:
    set_up(service)
    hook = sent.github_push()
    hook.document["repository"] = sent.github_repository("evil/hello", 1)
    with pytest.raises(WrongSignatureError, match="evil/hello"):
        send(service, hook)
    assert service.runs.list() == []
    assert service.deliveries.list("app")[0].has_body is False


@on_one_database
@pytest.mark.parametrize("project", ["nowhere", "quiet"])
def test_strangers_do_not_learn_which_projects_there_are(service: Service, project: str) -> None:
    service.projects.put(Project("quiet"))
    with pytest.raises(WrongSignatureError, match="the signature does not fit"):
        send(service, sent.github_push(), project=project)


@on_one_database
def test_another_forge_s_request_is_refused(service: Service) -> None:
    set_up(service)
    with pytest.raises(WebhookError, match="no headers of the project's forge"):
        send(service, sent.gitlab_push())
    with pytest.raises(WebhookError, match="no webhooks of gitlab"):
        service.receiver.receive("app", {"x-github-event": "push"}, b"", forge="gitlab")


@on_one_database
def test_ignored_events_are_kept_with_the_reason(service: Service) -> None:
    set_up(service, branches=("release/**",))
    delivery = send(service, sent.github_push()).delivery
    assert (delivery.outcome, delivery.status) == ("ignored", 200)
    assert delivery.reason == "branch main is not among the project's branches"
    assert send(service, sent.github_ping()).delivery.reason == "pong: the webhook works"


def test_several_branches_at_once_are_several_runs(service: Service) -> None:
    set_up(service, "bitbucket")
    changes = [sent.bitbucket_change("branch", name, None, AFTER) for name in ("one", "two")]
    delivery = send(
        service, sent.bitbucket_push(*changes, sent.bitbucket_change("branch", "old", AFTER, None))
    ).delivery
    assert len(delivery.runs) == 2
    assert {run.trigger.branch for run in service.runs.list()} == {"one", "two"}
    assert "branch old was deleted" in delivery.reason


def test_newer_push_supersedes_the_branch_s_older_runs(service: Service) -> None:
    set_up(service)
    first = send(service, sent.github_push()).delivery.runs[0]
    other = send(service, sent.github_push("refs/heads/other")).delivery.runs[0]
    tag = send(service, sent.github_push("refs/tags/v1")).delivery.runs[0]
    claim = service.claims.take("w", ())
    assert claim is not None
    assert claim.run.number == first
    second = send(service, sent.github_push()).delivery.runs[0]
    third = send(service, sent.github_push()).delivery.runs[0]
    assert service.runs.get(first).cancel_requested
    service.claims.finish(claim, "cancelled", "cancelled", RunResult(), store=lambda connection: None)
    assert service.runs.get(first).superseded_by == second
    assert service.runs.get(first).reason == f"superseded by #{second}"
    assert service.runs.get(second).state == "cancelled"
    assert service.runs.get(second).reason == f"superseded by #{third}"
    assert [service.runs.get(number).state for number in (other, tag, third)] == ["queued"] * 3


@on_one_database
def test_newer_commit_of_a_fork_ends_the_run_of_the_approved_one(service: Service) -> None:
    set_up(service, pull_requests="approve")
    send(service, sent.github_pull_request("opened", fork=True))
    (waiting,) = service.approvals.list("app", state="waiting")
    with pytest.raises(ConflictError, match="is for commit"):
        service.approvals.approve("app", waiting.id, AFTER[:11], "admin")
    run = service.approvals.approve("app", waiting.id, AFTER[:12].upper(), "admin")
    send(service, sent.github_pull_request("reopened", fork=True))
    assert service.runs.get(run.number).state == "queued", "it is of the newest commit"
    newer = "9" * 40
    send(service, sent.github_pull_request("synchronize", fork=True, commit=newer))
    assert service.runs.get(run.number).state == "cancelled"
    assert service.runs.get(run.number).reason == f"superseded by commit {newer[:12]}, which waits for approval"


@on_one_database
def test_superseded_runs_go_on_where_the_project_says_so(service: Service) -> None:
    set_up(service, cancel_superseded=False)
    first = send(service, sent.github_push()).delivery.runs[0]
    send(service, sent.github_push())
    assert service.runs.get(first).state == "queued"


def test_fork_s_commit_is_built_once_somebody_approved_just_it(service: Service) -> None:
    set_up(service, pull_requests="approve")
    old = "c" * 40
    assert "waits for approval" in send(service, sent.github_pull_request(fork=True, commit=old)).delivery.reason
    send(service, sent.github_pull_request("synchronize", fork=True))
    assert service.runs.list() == []
    newer, older = service.approvals.list("app")
    assert (newer.commit, newer.state, older.state) == (AFTER, "waiting", "outdated")
    with pytest.raises(ConflictError, match="is for commit"):
        service.approvals.approve("app", newer.id, old, "admin")
    with pytest.raises(ConflictError, match="outdated"):
        service.approvals.approve("app", older.id, old, "admin")
    with pytest.raises(NotFoundError):
        service.approvals.approve("other", newer.id, AFTER, "admin")
    run = service.approvals.approve("app", newer.id, AFTER, "admin")
    assert isinstance(run.source, GitSource)
    assert not run.source.trusted
    assert run.source.ref == AFTER
    assert run.trigger.fork
    with pytest.raises(ConflictError, match="approved"):
        service.approvals.approve("app", newer.id, AFTER, "admin")
    assert "approved already" in send(service, sent.github_pull_request("reopened", fork=True)).delivery.reason
    assert len(service.runs.list()) == 1


def test_closed_pull_request_ends_its_runs_and_questions(service: Service) -> None:
    set_up(service, pull_requests="approve", branches=("main",))
    run = send(service, sent.github_pull_request()).delivery.runs[0]
    send(service, sent.github_pull_request(fork=True, commit="d" * 40))
    send(service, sent.github_pull_request("closed"))
    assert service.runs.get(run).state == "cancelled"
    assert service.approvals.list("app", state="waiting") == []


def test_own_redelivery_acts_again_by_the_settings_of_now(service: Service) -> None:
    set_up(service, branches=("release/**",))
    first = send(service, sent.github_push()).delivery
    set_up(service)
    again = service.receiver.redeliver("app", first.id)
    assert again.redelivery_of == first.id
    assert len(again.runs) == 1
    set_up(service, "gitlab")
    with pytest.raises(ConflictError, match="not the project's repository"):
        service.receiver.redeliver("app", first.id)


def test_secrets_are_encrypted_and_shown_once(service: Service) -> None:
    service.projects.put(Project("app"))
    made = service.projects.set_webhook_secret("app")
    service.projects.set_status_token("app", "ghp_token")
    assert service.projects.webhook_secret("app") == made.encode()
    assert service.projects.status_token("app") == "ghp_token"
    with service.database.read() as connection:
        stored = connection.exec_driver_sql("SELECT webhook_secret, status_token FROM projects").one()
    assert all(made.encode() not in bytes(value) and b"ghp" not in bytes(value) for value in stored)
    with pytest.raises(InvalidRequestError):
        service.projects.set_webhook_secret("app", "short")
    service.projects.put(Project("app", concurrency=3))  # settings leave them alone
    assert service.projects.get("app").has_webhook_secret


def test_project_is_removed_with_all_that_is_its_own(service: Service) -> None:
    set_up(service)
    run = send(service, sent.github_push()).delivery.runs[0]
    service.secrets.put("npm", b"s3cret", project="app")
    with pytest.raises(ConflictError, match=f"run {run}"):
        service.projects.remove("app")
    service.runs.cancel(run)
    service.projects.remove("app")
    assert service.runs.list() == []
    assert service.deliveries.list("app") == []
    assert service.secrets.list(project="app") == []
    with pytest.raises(NotFoundError):
        service.projects.remove("app")


def test_run_s_states_go_into_the_outbox_with_it(service: Service) -> None:
    set_up(service)
    service.projects.set_status_token("app", "ghp_token")
    number = send(service, sent.github_push()).delivery.runs[0]
    claim = service.claims.take("w", ())
    assert claim is not None
    service.claims.finish(claim, "failed", "RUN exited with 1\nmore", RunResult(), store=lambda connection: None)
    found = list_statuses(service.database, "app")[::-1]
    assert [(one.state, one.description) for one in found] == [
        ("pending", "waits for a worker"), ("running", "is being built"), ("failure", "RUN exited with 1"),
    ]  # fmt: skip
    assert {one.run for one in found} == {number}
    assert {one.commit for one in found} == {AFTER}
