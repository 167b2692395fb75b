"""What a project wants built, and how: the settings that its webhook goes by."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from pipelines.forges.events import ForgeName

PullRequests: TypeAlias = Literal["off", "own", "approve"]


class HookSettings(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Patterns are written as in ``.dockerignore``; here they say what is built, and ``!`` what is not. None: all is.

    repository: the URL that is cloned. forge: whose webhooks are taken. branches, tags: whose pushes are built. paths:
    of files in the repository; a push that changes none of them is not built. pull_requests: "own" builds those from
    the project's own repository, "approve" also those from forks, each commit once somebody has approved it.
    file, context, target, build_args: as of ``shiplap build``; context is a directory of the repository.
    push_secrets, tag_secrets, pull_request_secrets: names of the secrets that such a run gets; forks never get any.
    ssh_key, known_hosts: see ``GitSource``. cancel_superseded: a push ends the runs of the branch's commits before it.
    api_url: of the forge, where it is not as usual. status_context: what the commit's mark is called there.
    public_badge: the badge is for everybody, also for those who are not signed in.
    """

    repository: str = ""
    forge: ForgeName | Literal[""] = ""
    branches: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    pull_requests: PullRequests = "own"
    file: str | None = None
    context: str = ""
    target: str = ""
    build_args: dict[str, str] = {}
    push_secrets: tuple[str, ...] = ()
    tag_secrets: tuple[str, ...] = ()
    pull_request_secrets: tuple[str, ...] = ()
    ssh_key: str = ""
    known_hosts: str = ""
    cancel_superseded: bool = True
    api_url: str = ""
    status_context: str = "shiplap"
    public_badge: bool = False
