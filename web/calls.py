"""What a handler works with besides its arguments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.accounts.roles import Level, Rights
from pipelines.sources.senders import robot_sender, user_sender
from web.guard.rights import check_project
from web.hub import Hub

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from pipelines.accounts.tokens import Token
    from pipelines.service import Service


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    name: of the token, or of the session's user.
    scopes: of the token, or what the user's role allows, in all projects.
    user: whom it acts for; None: a robot.
    rights: what it may do now, in all projects and in single ones.
    """

    name: str
    scopes: tuple[str, ...]
    user: str | None
    token: Token | None
    rights: Rights

    @property
    def sender(self) -> str:
        """Whose the files and runs are that it sends: the user's, whichever token is used; a robot's own."""
        if self.user is not None or self.token is None:
            return user_sender(self.user or self.name)
        return robot_sender(self.token.id)

    @property
    def actor(self) -> str:
        """As the audit trail and runs name it."""
        if self.token is None:
            return self.name
        return f"{self.user} (token {self.name})" if self.user else f"token {self.name}"


@dataclass(frozen=True, slots=True)
class Call:
    """One request. caller: who asks; None where the endpoint asks for none."""

    service: Service
    hub: Hub
    caller: Caller | None
    request: Request

    @property
    def actor(self) -> str:
        """Who asks, as the audit trail and runs name it."""
        return self.caller.actor if self.caller is not None else "(nobody)"

    @property
    def rights(self) -> Rights:
        """What the sender may do."""
        return self.caller.rights if self.caller is not None else Rights()

    def still_may(self, level: Level, project: str) -> bool:
        """Whether the sender may do it now, long after the call began."""
        if self.caller is None:
            return False
        return self.service.roles.now(self.caller.user, self.caller.token).may(project, level)

    def require(self, level: Level, project: str) -> None:
        """For a project that stood in a body or query. Raises NotFoundError and ForbiddenError."""
        check_project(self.service, self.rights, level, project)


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer that is not JSON: its pieces, made while they are sent."""

    pieces: Iterator[bytes]
