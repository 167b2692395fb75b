"""GitHub: github.com, and GitHub Enterprise Server.

Source: docs.github.com, "Webhook events and payloads", "REST API endpoints for commit statuses".
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
    tag_of,
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

_LISTED_COMMITS: Final = 2048  # a payload has no more, and then lacks some of the files
_DESCRIPTION_LENGTH: Final = 140


class _Repository(msgspec.Struct, frozen=True):
    id: int
    full_name: str
    html_url: str = ""
    clone_url: str = ""
    ssh_url: str = ""
    default_branch: str = ""
    git_url: str = ""


class _Person(msgspec.Struct, frozen=True):
    login: str = ""
    name: str = ""


class _Push(msgspec.Struct, frozen=True):
    ref: str
    after: str
    repository: _Repository
    before: str = ""
    deleted: bool = False
    forced: bool = False
    commits: list[ListedCommit] = []
    head_commit: ListedCommit | None = None
    compare: str = ""
    sender: _Person = _Person()


class _End(msgspec.Struct, frozen=True):
    sha: str
    ref: str
    repo: _Repository | None = None


class _Pull(msgspec.Struct, frozen=True):
    head: _End
    base: _End
    title: str = ""
    html_url: str = ""
    user: _Person | None = None


class _PullEvent(msgspec.Struct, frozen=True):
    action: str
    number: int
    pull_request: _Pull
    repository: _Repository


class _Other(msgspec.Struct, frozen=True):
    repository: _Repository | None = None


def _pushed(push: _Push) -> Event:
    tag = tag_of(push.ref)
    commit = commit_or_none(push.after)
    if push.deleted or not commit:
        return Ignored(f"{push.ref} was deleted")
    head = push.head_commit or ListedCommit()
    author = push.sender.login or push.sender.name
    if tag:  # ``after`` of an annotated tag is the tag's object
        return Tag(tag, head.id or commit, first_line(head.message), author, head.url or push.compare)
    branch = branch_of(push.ref)
    if not branch:
        return Ignored(f"{push.ref} is no branch and no tag")
    before = commit_or_none(push.before)
    listed = before and not push.forced and len(push.commits) < _LISTED_COMMITS
    paths = changed_paths(push.commits) if listed else None
    default, url = push.repository.default_branch, push.compare or head.url
    return Push(branch, before, commit, paths, first_line(head.message), author, url, default)


def _pulled(event: _PullEvent) -> Event:
    pull = event.pull_request
    if event.action == "closed":
        return PullRequestClosed(event.number)
    if event.action not in ("opened", "reopened", "synchronize"):
        return Ignored(f"pull request {event.number}: {event.action} changes no code")
    head, base = pull.head.repo, pull.base.repo or event.repository
    return PullRequest(
        number=event.number,
        commit=pull.head.sha,
        branch=pull.head.ref,
        target=pull.base.ref,
        base=pull.base.sha,
        fork=head is None or head.id != base.id,  # null: the fork is gone
        title=first_line(pull.title),
        author=pull.user.login if pull.user else "",
        url=pull.html_url,
    )


def _about(body: _Push | _PullEvent | _Other) -> Repository | None:
    found = body.repository
    if found is None:
        return None
    return Repository(found.full_name, present(found.clone_url, found.html_url, found.ssh_url, found.git_url))


class GitHub(EventForge):
    """See ``Forge``."""

    name: ForgeName = "github"
    event_header = "x-github-event"
    delivery_headers = ("x-github-delivery",)
    signature_header = "x-hub-signature-256"
    readers: Mapping[str, Reader] = {
        "push": reader(_Push, _about, _pushed),
        "pull_request": reader(_PullEvent, _about, _pulled),
        "ping": reader(_Other, _about, lambda _: Ping()),
        OTHERS: ignoring(_Other, _about),
    }

    def default_api(self, repository_url: str) -> str:
        site = origin(repository_url)
        return "https://api.github.com" if site == "https://github.com" else f"{site}/api/v3"

    def status_call(self, repository: str, commit: str, status: Status, token: str) -> ApiCall:
        headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        return ApiCall(
            "POST", f"/repos/{repository}/statuses/{commit}", headers, status_body(status, _DESCRIPTION_LENGTH)
        )
