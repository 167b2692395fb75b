"""GitLab: gitlab.com, and instances of one's own.

Source: docs.gitlab.com, "Webhook events", "Commits API: set commit pipeline status".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

import msgspec

from pipelines.forges.base import (
    OTHERS,
    EventForge,
    ListedCommit,
    Reader,
    branch_of,
    changed_paths,
    check_equal,
    commit_or_none,
    first_line,
    ignoring,
    origin,
    present,
    reader,
    tag_of,
)
from pipelines.forges.errors import MissingSignatureError
from pipelines.forges.events import (
    ApiCall,
    Event,
    ForgeName,
    Ignored,
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
    "pending": "pending", "running": "running", "success": "success", "failure": "failed", "error": "failed",
    "cancelled": "canceled",
}  # fmt: skip


class _Project(msgspec.Struct, frozen=True):
    id: int
    path_with_namespace: str
    web_url: str = ""
    git_http_url: str = ""
    git_ssh_url: str = ""
    homepage: str = ""
    default_branch: str | None = None


class _Push(msgspec.Struct, frozen=True):
    ref: str
    after: str
    project: _Project
    before: str = ""
    checkout_sha: str | None = None
    commits: list[ListedCommit] = []
    total_commits_count: int = 0
    user_username: str = ""
    user_name: str = ""
    message: str | None = None


class _Person(msgspec.Struct, frozen=True):
    username: str = ""


class _Attributes(msgspec.Struct, frozen=True):
    iid: int
    source_branch: str
    target_branch: str
    source_project_id: int | None
    target_project_id: int
    last_commit: ListedCommit
    action: str = ""
    oldrev: str | None = None
    title: str = ""
    url: str = ""


class _Merge(msgspec.Struct, frozen=True):
    project: _Project
    object_attributes: _Attributes
    user: _Person = _Person()


class _Other(msgspec.Struct, frozen=True):
    project: _Project | None = None


def _pushed(push: _Push) -> Event:
    commit = commit_or_none(push.checkout_sha) or commit_or_none(push.after)
    branch = branch_of(push.ref)
    if not branch:
        return Ignored(f"{push.ref} is no branch")
    if not commit_or_none(push.after):
        return Ignored(f"{push.ref} was deleted")
    before = commit_or_none(push.before)
    # GitLab lists the newest twenty commits, and for a forced push none of those that went.
    listed = before and push.commits and len(push.commits) == push.total_commits_count
    head = next((one for one in push.commits if one.id == commit), ListedCommit())
    return Push(
        branch,
        before,
        commit,
        changed_paths(push.commits) if listed else None,
        first_line(head.message),
        push.user_username or push.user_name,
        head.url,
        push.project.default_branch or "",
    )


def _tagged(push: _Push) -> Event:
    name = tag_of(push.ref)
    if not name:
        return Ignored(f"{push.ref} is no tag")
    if not commit_or_none(push.after):
        return Ignored(f"{push.ref} was deleted")
    head = next((one for one in push.commits if one.id == push.checkout_sha), ListedCommit())
    commit = commit_or_none(push.checkout_sha) or push.after  # ``after`` of an annotated tag is the tag's object
    title = first_line(push.message) or first_line(head.message)
    return Tag(name, commit, title, push.user_username or push.user_name, head.url)


def _merged(event: _Merge) -> Event:
    merge = event.object_attributes
    if merge.action in ("close", "merge"):
        return PullRequestClosed(merge.iid)
    if merge.action not in ("open", "reopen", "update"):
        return Ignored(f"merge request {merge.iid}: {merge.action or 'no action'} changes no code")
    if merge.action == "update" and not merge.oldrev:
        return Ignored(f"merge request {merge.iid}: the update changes no code")
    return PullRequest(
        number=merge.iid,
        commit=merge.last_commit.id,
        branch=merge.source_branch,
        target=merge.target_branch,
        base="",
        fork=merge.source_project_id is None or merge.source_project_id != merge.target_project_id,
        title=first_line(merge.title),
        author=event.user.username,
        url=merge.url,
    )


def _about(body: _Push | _Merge | _Other) -> Repository | None:
    found = body.project
    if found is None:
        return None
    urls = present(found.git_http_url, found.web_url, found.git_ssh_url, found.homepage)
    return Repository(found.path_with_namespace, urls)


class GitLab(EventForge):
    """See ``Forge``."""

    name: ForgeName = "gitlab"
    event_header = "x-gitlab-event"
    delivery_headers = ("idempotency-key", "webhook-id", "x-gitlab-event-uuid")
    signature_header = "x-gitlab-token"
    readers: Mapping[str, Reader] = {
        "Push Hook": reader(_Push, _about, _pushed),
        "Tag Push Hook": reader(_Push, _about, _tagged),
        "Merge Request Hook": reader(_Merge, _about, _merged),
        OTHERS: ignoring(_Other, _about),
    }

    def verify(self, secret: bytes, headers: Mapping[str, str], body: bytes) -> None:
        """GitLab sends the secret itself, and signs nothing."""
        del body
        given = headers.get(self.signature_header, "")
        if not given:
            raise MissingSignatureError("the request has no token", hint="set the webhook's secret token in GitLab")
        check_equal(secret.decode(), given)

    def default_api(self, repository_url: str) -> str:
        return f"{origin(repository_url)}/api/v4"

    def status_call(self, repository: str, commit: str, status: Status, token: str) -> ApiCall:
        body = {
            "state": _STATES[status.state],
            "target_url": status.url,
            "description": status.description[:_DESCRIPTION_LENGTH],
            "name": status.context,
        }
        if status.branch:
            body["ref"] = status.branch  # else GitLab has to guess which of the commit's pipelines is meant
        path = f"/projects/{quote(repository, safe='')}/statuses/{commit}"
        return ApiCall("POST", path, {"PRIVATE-TOKEN": token}, body)
