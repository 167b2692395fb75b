"""Gitea and Forgejo, which differ in the names of headers.

Source: docs.gitea.com "Webhooks", forgejo.org/docs "Webhooks", both servers' modules/structs/hook.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from pipelines.forges.base import (
    OTHERS,
    EventForge,
    ListedCommit,
    Reader,
    branch_of,
    changed_paths,
    commit_or_none,
    first_line,
    ignoring,
    origin,
    present,
    reader,
    status_body,
)
from pipelines.forges.events import (
    ApiCall,
    Event,
    ForgeName,
    Ignored,
    Ping,
    PullRequest,
    PullRequestClosed,
    Push,
    Repository,
    Status,
    Tag,
)

_DESCRIPTION_LENGTH: Final = 255


class _Repository(msgspec.Struct, frozen=True):
    id: int
    full_name: str
    html_url: str = ""
    clone_url: str = ""
    ssh_url: str = ""
    default_branch: str = ""


class _Commit(msgspec.Struct, frozen=True):
    """A commit of a push. Its lists are null where the server does not give them."""

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
        return Ping()  # "Test delivery" sends this; a push that moves nothing is no push
    head = push.head_commit or _Commit()
    return Push(
        branch, before, commit, _paths(push) if before else None, first_line(head.message), push.pusher.shown,
        push.compare_url or head.url, push.repository.default_branch,
    )  # fmt: skip


def _paths(push: _Push) -> tuple[str, ...] | None:
    """All paths that changed, if the payload has every commit with its lists; else None."""
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


def _about(body: _Push | _Create | _PullEvent | _Other) -> Repository | None:
    found = body.repository
    if found is None:
        return None
    return Repository(found.full_name, present(found.clone_url, found.html_url, found.ssh_url))


_PULL: Final = reader(_PullEvent, _about, _pulled)


class Gitea(EventForge):
    """See ``Forge``."""

    name: ForgeName = "gitea"
    event_header = "x-gitea-event"
    delivery_headers = ("x-gitea-delivery",)
    signature_header = "x-gitea-signature"
    signature_prefix = ""
    readers: Mapping[str, Reader] = {
        "push": reader(_Push, _about, _pushed),
        "create": reader(_Create, _about, _created),
        "pull_request": _PULL,
        "pull_request_sync": _PULL,
        OTHERS: ignoring(_Other, _about),
    }

    def default_api(self, repository_url: str) -> str:
        return f"{origin(repository_url)}/api/v1"

    def status_call(self, repository: str, commit: str, status: Status, token: str) -> ApiCall:
        body = status_body(status, _DESCRIPTION_LENGTH)
        return ApiCall("POST", f"/repos/{repository}/statuses/{commit}", {"Authorization": f"token {token}"}, body)


class Forgejo(Gitea):
    """Sends Gitea's headers too, for those who know only these."""

    name: ForgeName = "forgejo"
    event_header = "x-forgejo-event"
    delivery_headers = ("x-forgejo-delivery",)
    signature_header = "x-forgejo-signature"
