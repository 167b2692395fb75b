"""The form for a new API token, shared by the account's page and the page of all tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from flask import request

from pipelines.accounts.tokens import SCOPES, Token
from pipelines.errors import InvalidRequestError
from pipelines.service import Service
from web.guard import note

DAYS: Final = ("30", "90", "365", "")
"""How long a token may be valid; "" for ever."""

_DAY_S: Final = 86400.0


@dataclass(frozen=True, slots=True)
class TokenForm:
    """The form for a new token, filled in.

    days: "" for a token that does not expire.
    """

    name: str
    scope: str
    days: str

    @classmethod
    def read(cls) -> Self:
        """The form of the request. Raises InvalidRequestError for values that no form of ours sends."""
        form = cls(request.form.get("name", "").strip(), request.form.get("scope", ""), request.form.get("days", ""))
        if form.scope not in SCOPES or form.days not in DAYS:
            raise InvalidRequestError("there is no such scope, or no such time")
        return form

    def create(self, service: Service, *, owner: str | None) -> tuple[Token, str]:
        """Make the token, and note it. Returns it with its secret. Raises InvalidRequestError."""
        seconds = float(self.days) * _DAY_S if self.days else None
        token, secret = service.tokens.create(self.name, (self.scope,), seconds, owner=owner)
        note(service, "create token", f"token={token.id}", f"{token.name}: {self.scope}")
        return token, secret
