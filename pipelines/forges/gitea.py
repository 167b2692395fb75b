"""Gitea and Forgejo, which differ in the names of headers.

Source: docs.gitea.com "Webhooks", forgejo.org/docs "Webhooks", both servers' modules/structs/hook.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from pipelines.forges.base import (
    ListedCommit,
    branch_of,
    changed_paths,
    check_hmac,
    commit_or_none,
    decode,
    first_line,
    origin,
    present,
)
from pipelines.forges.events import (
    ApiCall,
    Event,
    ForgeName,
    Ignored,
    Payload,
    Ping,
    PullRequest,
    PullRequestClosed,
    Push,
    Repository,
    Status,
    StatusState,
    Tag,
)

_DESCRIPTION_LENGTH: Final = 255
_STATES: Final[Mapping[StatusState, str]] = {
    "pending": "pending", "running": "pending", "success": "success", "failure": "failure", "error": "error",
    "cancelled": "error",
}  # fmt: skip


class _Repository(msgspec.Struct, frozen=True):
    id: int
    full_name: str
    html_url: str = ""
    clone_url: str = ""
    ssh_url: str = ""
    default_branch: str = ""


class _Commit(msgspec.Struct, frozen=True):
    """Its lists are null where the server does not give them."""

    id: str = ""
    message: str = ""
    url: str = ""
    added: list[str] | None = None
    modified: list[str] | None = None
    removed: list[str] | None = None


class _Person(msgspec.Struct, frozen=True):
    login: str = ""
    username: str = ""

    @property
    def shown(self) -> str:
        return self.login or self.username


class _Push(msgspec.Struct, frozen=True):
    ref: str
    after: str
    repository: _Repository
    before: str = ""
    commits: list[_Commit] | None = None
    total_commits: int | None = None
    head_commit: _Commit | None = None
    compare_url: str = ""
    pusher: _Person = _Person()


class _Create(msgspec.Struct, frozen=True):
    ref: str
    ref_type: str
    repository: _Repository
    sha: str = ""
    sender: _Person = _Person()


class _End(msgspec.Struct, frozen=True):
    ref: str
    sha: str
    repo_id: int = 0
    repo: _Repository | None = None


class _Pull(msgspec.Struct, frozen=True):
    head: _End
    base: _End
    title: str = ""
    html_url: str = ""
    merge_base: str = ""
    user: _Person | None = None


class _PullEvent(msgspec.Struct, frozen=True):
    action: str
    number: int
    pull_request: _Pull
    repository: _Repository


class _Other(msgspec.Struct, frozen=True):
    repository: _Repository | None = None


class Gitea:
    """See ``Forge``."""

    name: ForgeName = "gitea"

    def event_name(self, headers: Mapping[str, str]) -> str:
        return headers.get(f"x-{self.name}-event", "")

    def delivery_id(self, headers: Mapping[str, str]) -> str:
        return headers.get(f"x-{self.name}-delivery", "")

    def verify(self, secret: bytes, headers: Mapping[str, str], body: bytes) -> None:
        check_hmac(secret, body, headers.get(f"x-{self.name}-signature", ""))

    def parse(self, headers: Mapping[str, str], body: bytes) -> Payload:
        event = self.event_name(headers)
        match event:
            case "push":
                push = decode(headers, body, _Push)
                return Payload(_repository(push.repository), (_pushed(push),))
            case "create":
                create = decode(headers, body, _Create)
                return Payload(_repository(create.repository), (_created(create),))
            case "pull_request" | "pull_request_sync":
                pull = decode(headers, body, _PullEvent)
                return Payload(_repository(pull.repository), (_pulled(pull),))
            case _:
                found = decode(headers, body, _Other).repository
                repository = _repository(found) if found else None
                return Payload(repository, (Ignored(f"{event} events build nothing"),))

    def default_api(self, repository_url: str) -> str:
        return f"{origin(repository_url)}/api/v1"

    def status_call(self, repository: str, commit: str, status: Status, token: str) -> ApiCall:
        body = {
            "state": _STATES[status.state],
            "target_url": status.url,
            "description": status.description[:_DESCRIPTION_LENGTH],
            "context": status.context,
        }
        return ApiCall("POST", f"/repos/{repository}/statuses/{commit}", {"Authorization": f"token {token}"}, body)


class Forgejo(Gitea):
    """Sends Gitea's headers too, for those who know only these."""

    name: ForgeName = "forgejo"


def _pushed(push: _Push) -> Event:
    if push.ref.startswith("refs/tags/"):
        return Ignored(f"the create event of {push.ref} says the same")
    branch = branch_of(push.ref)
    if not branch:
        return Ignored(f"{push.ref} is no branch")
    commit, before = commit_or_none(push.after), commit_or_none(push.before)
    if not commit:
        return Ignored(f"{push.ref} was deleted")
    if commit == before:
        return Ping()  # what "Test delivery" sends; a push that moves nothing is none
    head = push.head_commit or _Commit()
    return Push(
        branch, before, commit, _paths(push) if before else None, first_line(head.message), push.pusher.shown,
        push.compare_url or head.url, push.repository.default_branch,
    )  # fmt: skip


def _paths(push: _Push) -> tuple[str, ...] | None:
    """All that changed, if the payload has every commit, with its lists."""
    commits = push.commits or []
    if not commits or (push.total_commits is not None and push.total_commits != len(commits)):
        return None
    changes = []
    for commit in commits:
        if commit.added is None or commit.modified is None or commit.removed is None:
            return None
        changes.append(ListedCommit(added=commit.added, modified=commit.modified, removed=commit.removed))
    return changed_paths(changes)


def _created(create: _Create) -> Event:
    if create.ref_type != "tag":
        return Ignored(f"the push event of the new {create.ref_type} {create.ref} says the same")
    name = create.ref.removeprefix("refs/tags/")
    return Tag(name, commit_or_none(create.sha), "", create.sender.shown, create.repository.html_url)


def _pulled(event: _PullEvent) -> Event:
    pull = event.pull_request
    if event.action == "closed":
        return PullRequestClosed(event.number)
    if event.action not in ("opened", "reopened", "synchronized", "synchronize"):
        return Ignored(f"pull request {event.number}: {event.action} changes no code")
    head = pull.head.repo.id if pull.head.repo else 0
    base = pull.base.repo.id if pull.base.repo else event.repository.id
    return PullRequest(
        number=event.number,
        commit=pull.head.sha,
        branch=pull.head.ref,
        target=pull.base.ref,
        base=pull.merge_base or pull.base.sha,
        fork=head != base,
        title=first_line(pull.title),
        author=pull.user.shown if pull.user else "",
        url=pull.html_url,
    )


def _repository(found: _Repository) -> Repository:
    return Repository(found.full_name, present(found.clone_url, found.html_url, found.ssh_url))
