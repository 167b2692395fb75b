"""Bitbucket Cloud.

Source: support.atlassian.com, "Event payloads", "Manage webhooks"; developer.atlassian.com, "Commit statuses".
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final

import msgspec

from pipelines.forges.base import OTHERS, EventForge, Reader, first_line, ignoring, present, reader
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
    StatusState,
    Tag,
)

_KEY_LENGTH: Final = 40
_STATES: Final[Mapping[StatusState, str]] = {
    "pending": "INPROGRESS", "running": "INPROGRESS", "success": "SUCCESSFUL", "failure": "FAILED", "error": "FAILED",
    "cancelled": "STOPPED",
}  # fmt: skip


class _Link(msgspec.Struct, frozen=True):
    href: str = ""


class _Links(msgspec.Struct, frozen=True):
    html: _Link = _Link()


class _Repository(msgspec.Struct, frozen=True):
    full_name: str
    uuid: str = ""
    links: _Links = _Links()


class _Target(msgspec.Struct, frozen=True):
    hash: str
    message: str = ""
    links: _Links = _Links()


class _Ref(msgspec.Struct, frozen=True):
    type: str
    name: str
    target: _Target


class _Change(msgspec.Struct, frozen=True):
    new: _Ref | None = None
    old: _Ref | None = None
    links: _Links = _Links()


class _Changes(msgspec.Struct, frozen=True):
    changes: list[_Change]


class _Person(msgspec.Struct, frozen=True):
    nickname: str = ""
    display_name: str = ""

    @property
    def shown(self) -> str:
        return self.nickname or self.display_name


class _Push(msgspec.Struct, frozen=True):
    push: _Changes
    repository: _Repository
    actor: _Person = _Person()


class _Hash(msgspec.Struct, frozen=True):
    hash: str


class _Branch(msgspec.Struct, frozen=True):
    name: str


class _End(msgspec.Struct, frozen=True):
    branch: _Branch
    commit: _Hash | None = None
    repository: _Repository | None = None


class _Pull(msgspec.Struct, frozen=True):
    id: int
    source: _End
    destination: _End
    title: str = ""
    author: _Person = _Person()
    links: _Links = _Links()


class _PullEvent(msgspec.Struct, frozen=True):
    pullrequest: _Pull
    repository: _Repository


class _Other(msgspec.Struct, frozen=True):
    repository: _Repository | None = None


def _changed(change: _Change, author: str) -> Event:
    new = change.new
    if new is None:
        return Ignored(f"{change.old.type} {change.old.name} was deleted" if change.old else "nothing changed")
    title, url = first_line(new.target.message), change.links.html.href or new.target.links.html.href
    if new.type in ("tag", "annotated_tag"):
        return Tag(new.name, new.target.hash, title, author, url)
    if new.type != "branch":
        return Ignored(f"{new.type} {new.name} is no branch and no tag")
    before = change.old.target.hash if change.old else ""
    return Push(new.name, before, new.target.hash, None, title, author, url)


def _pulled(event: _PullEvent) -> Event:
    pull = event.pullrequest
    source = pull.source
    if source.commit is None or source.repository is None:
        return Ignored(f"pull request {pull.id}: its source is gone")
    fork = source.repository.full_name.lower() != event.repository.full_name.lower()
    return PullRequest(
        number=pull.id,
        commit=source.commit.hash,
        branch=source.branch.name,
        target=pull.destination.branch.name,
        base=pull.destination.commit.hash if pull.destination.commit else "",
        fork=fork,
        clone_url=f"https://bitbucket.org/{source.repository.full_name}.git" if fork else "",
        title=first_line(pull.title),
        author=pull.author.shown,
        url=pull.links.html.href,
    )


def _pushed(push: _Push) -> tuple[Event, ...]:
    return tuple(_changed(change, push.actor.shown) for change in push.push.changes) or (Ignored("nothing changed"),)


def _closed(event: _PullEvent) -> Event:
    return PullRequestClosed(event.pullrequest.id)


def _about(body: _Push | _PullEvent | _Other) -> Repository | None:
    found = body.repository
    if found is None:
        return None
    name = found.full_name
    urls = (f"https://bitbucket.org/{name}", f"ssh://git@bitbucket.org/{name}")
    return Repository(name, present(found.links.html.href, *urls))


_PULL: Final = reader(_PullEvent, _about, _pulled)
_CLOSED: Final = reader(_PullEvent, _about, _closed)


class Bitbucket(EventForge):
    """See ``Forge``. Its payloads list no files."""

    name: ForgeName = "bitbucket"
    event_header = "x-event-key"
    delivery_headers = ("x-request-uuid",)
    signature_header = "x-hub-signature"
    readers: Mapping[str, Reader] = {
        "repo:push": reader(_Push, _about, _pushed),
        "pullrequest:created": _PULL,
        "pullrequest:updated": _PULL,
        "pullrequest:fulfilled": _CLOSED,
        "pullrequest:rejected": _CLOSED,
        "diagnostics:ping": reader(_Other, _about, lambda _: Ping()),
        OTHERS: ignoring(_Other, _about),
    }

    def default_api(self, repository_url: str) -> str:
        del repository_url
        return "https://api.bitbucket.org/2.0"

    def status_call(self, repository: str, commit: str, status: Status, token: str) -> ApiCall:
        """token: an access token, or USER:APP_PASSWORD."""
        kind, text = ("Basic", base64.b64encode(token.encode()).decode()) if ":" in token else ("Bearer", token)
        body = {
            "key": status.context[:_KEY_LENGTH],
            "state": _STATES[status.state],
            "name": status.context,
            "url": status.url,
            "description": status.description,
        }
        if status.branch:
            body["refname"] = status.branch
        path = f"/repositories/{repository}/commit/{commit}/statuses/build"
        return ApiCall("POST", path, {"Authorization": f"{kind} {text}"}, body)
