"""The events of webhooks, in one form for all forges. Commits are full hexadecimal ids unless it is said otherwise."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

ForgeName: TypeAlias = Literal["github", "gitlab", "gitea", "forgejo", "bitbucket", "plain"]


class Repository(msgspec.Struct, frozen=True):
    """The repository that the request is about. urls: every address that the forge gives for it."""

    name: str
    urls: tuple[str, ...]


class Push(msgspec.Struct, frozen=True):
    """A branch has a new commit.

    before: the commit until now; empty for a new branch.
    paths: the files that changed; None where the forge does not list them all.
    default_branch: of the repository; empty where the forge does not say it.
    """

    branch: str
    before: str
    commit: str
    paths: tuple[str, ...] | None
    title: str = ""
    author: str = ""
    url: str = ""
    default_branch: str = ""


class Tag(msgspec.Struct, frozen=True):
    """A tag was made or moved. commit: empty where the forge names only the tag object: then the tag is fetched."""

    name: str
    commit: str
    title: str = ""
    author: str = ""
    url: str = ""


class PullRequest(msgspec.Struct, frozen=True):
    """A pull (or merge) request has a commit to look at.

    commit: Bitbucket's has 12 digits only.
    branch: the branch that it comes from, in its own repository.
    fork: it comes from another repository than the one that it goes to.
    clone_url: where the commit can be had, empty for the project's own repository.
    base: the commit that it is to be compared with, empty if unknown.
    """

    number: int
    commit: str
    branch: str
    target: str
    base: str
    fork: bool
    clone_url: str = ""
    title: str = ""
    author: str = ""
    url: str = ""


class PullRequestClosed(msgspec.Struct, frozen=True):
    """A pull request was closed, merged or not: nobody waits for its runs any more."""

    number: int


class Ping(msgspec.Struct, frozen=True):
    """A request by which the forge tries the webhook out."""


class Ignored(msgspec.Struct, frozen=True):
    """An event that needs no action, for this reason."""

    reason: str


Event: TypeAlias = Push | Tag | PullRequest | PullRequestClosed | Ping | Ignored


class Payload(msgspec.Struct, frozen=True):
    """A request, read. repository: None where the request names none (a ping of a whole organisation)."""

    repository: Repository | None
    events: tuple[Event, ...]


StatusState: TypeAlias = Literal["pending", "running", "success", "failure", "error", "cancelled"]


class Status(msgspec.Struct, frozen=True):
    """The mark for a commit. url: of the run. branch: the branch of the commit; empty for tags."""

    state: StatusState
    context: str
    description: str
    url: str
    branch: str = ""


class ApiCall(msgspec.Struct, frozen=True):
    """One request to a forge's API. path: below the API's URL."""

    method: Literal["POST", "PUT"]
    path: str
    headers: dict[str, str]
    body: dict[str, str]
