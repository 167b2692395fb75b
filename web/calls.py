"""A request as its handler gets it, in addition to its arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipelines.accounts.roles import Level, Rights
from pipelines.sources.senders import robot_sender, user_sender
from web.guard.rights import check_project
from web.loghub import Hub

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from pipelines.accounts.tokens import Token
    from pipelines.service import Service


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request.

    name: of the token, or of the session's user.
    scopes: the token's, or those that the user's role allows, in all projects.
    user: the user that the sender acts for; None: a robot.
    rights: what the sender may do now, in all projects and in single ones.
    """

    name: str
    scopes: tuple[str, ...]
    user: str | None
    token: Token | None
    rights: Rights

    @property
    def sender(self) -> str:
        """The sender that files and runs are noted under: the user, whichever token is used; a robot itself."""
        if self.user is not None or self.token is None:
            return user_sender(self.user or self.name)
        return robot_sender(self.token.id)

    @property
    def actor(self) -> str:
        """The sender's name in the audit trail and in runs."""
        if self.token is None:
            return self.name
        return f"{self.user} (token {self.name})" if self.user else f"token {self.name}"


@dataclass(frozen=True, slots=True)
class Call:
    """One request. caller: the sender; None where the endpoint needs none."""

    service: Service
    hub: Hub
    caller: Caller | None
    request: Request

    @property
    def actor(self) -> str:
        """The sender's name in the audit trail and in runs."""
        return self.caller.actor if self.caller is not None else "(nobody)"

    @property
    def rights(self) -> Rights:
        """The sender's rights."""
        return self.caller.rights if self.caller is not None else Rights()

    def still_may(self, level: Level, project: str) -> bool:
        """Whether the sender may do this now, long after the call began."""
        if self.caller is None:
            return False
        return self.service.roles.now(self.caller.user, self.caller.token).may(project, level)

    def require(self, level: Level, project: str) -> None:
        """Check a right in a project named in a body or query. Raises NotFoundError and ForbiddenError."""
        check_project(self.service, self.rights, level, project)


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer that is not JSON: its pieces, made while they are sent. headers: of the answer, besides its type."""

    pieces: Iterator[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)
