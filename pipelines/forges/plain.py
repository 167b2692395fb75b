"""A bare repository without a forge, whose post-receive hook sends what ../../docs/webhooks.md shows.

X-Shiplap-Event: push           {"repository": URL, "ref": "refs/heads/main", "before": ID, "after": ID,
X-Shiplap-Delivery: ID           "title": …, "author": …, "default_branch": …}      the last three are optional
X-Shiplap-Signature: sha256=…
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pipelines.forges.base import HeaderForge, branch_of, commit_or_none, decode, first_line, tag_of
from pipelines.forges.errors import WebhookError
from pipelines.forges.events import ApiCall, Event, ForgeName, Ignored, Payload, Ping, Push, Repository, Status, Tag


class _Push(msgspec.Struct, frozen=True):
    repository: str
    ref: str
    after: str
    before: str = ""
    title: str = ""
    author: str = ""
    default_branch: str = ""


class _Ping(msgspec.Struct, frozen=True):
    repository: str


class Plain(HeaderForge):
    """A bare repository. See ``Forge``. It takes no statuses."""

    name: ForgeName = "plain"
    event_header = "x-shiplap-event"
    delivery_headers = ("x-shiplap-delivery",)
    signature_header = "x-shiplap-signature"

    def parse(self, headers: Mapping[str, str], body: bytes) -> Payload:
        event = self.event_name(headers)
        if event == "ping":
            url = decode(headers, body, _Ping).repository
            return Payload(Repository(url, (url,)), (Ping(),))
        if event != "push":
            raise WebhookError(f"X-Shiplap-Event is {event[:40]!r}", hint="it is push or ping")
        push = decode(headers, body, _Push)
        return Payload(Repository(push.repository, (push.repository,)), (_pushed(push),))

    def default_api(self, repository_url: str) -> str:
        del repository_url
        return ""

    def status_call(self, repository: str, commit: str, status: Status, token: str) -> ApiCall:
        del repository, commit, status, token
        raise WebhookError("a bare repository takes no commit statuses")


def _pushed(push: _Push) -> Event:
    commit = commit_or_none(push.after)
    if not commit:
        return Ignored(f"{push.ref} was deleted")
    title, author = first_line(push.title), push.author
    if branch := branch_of(push.ref):
        return Push(
            branch, commit_or_none(push.before), commit, None, title, author, default_branch=push.default_branch
        )
    if tag := tag_of(push.ref):
        return Tag(tag, commit, title, author)
    return Ignored(f"{push.ref} is no branch and no tag")
