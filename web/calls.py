"""What a handler works with besides its arguments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from web.hub import Hub

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from pipelines.service import Service
    from pipelines.tokens import Token


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. name: of the token, or of the session's user. user: whom it acts for; None: a robot."""

    name: str
    scopes: tuple[str, ...]
    user: str | None
    token: Token | None

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


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer that is not JSON: its pieces, made while they are sent."""

    pieces: Iterator[bytes]
