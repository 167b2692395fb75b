"""Endpoints for administrators: tokens, workers."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from pipelines.accounts.tokens import Token
from pipelines.model import WorkerInfo
from web.calls import Call
from web.endpoints import Api
from web.guard import note
from web.guard.rights import seen_workers

api: Final = Api("administration")

Scope: TypeAlias = Literal["read", "build", "admin"]
_MAX_EXPIRY_S: Final = 10 * 366 * 86400


class Identity(msgspec.Struct, frozen=True):
    """Who asks.

    name: of the token, or of the session's user. user: whom it acts for, null for a robot.
    """

    name: str
    scopes: list[str]
    user: str | None
    expires_at: float | None


class TokenRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token that is to be made.

    name: for people, to tell tokens apart. scopes: admin implies build, build implies read.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1)]
    expires_in_s: Annotated[int, msgspec.Meta(ge=1, le=_MAX_EXPIRY_S)] | None = None


class NewToken(msgspec.Struct, frozen=True):
    """A token that was made.

    secret: what clients send. It is shown this once: only its hash is kept.
    """

    token: Token
    secret: str


class TokenList(msgspec.Struct, frozen=True):
    """All that were not revoked, the expired included."""

    tokens: list[Token]


class WorkerList(msgspec.Struct, frozen=True):
    """By name."""

    workers: list[WorkerInfo]


@api.endpoint("GET", "/whoami", scope="read")
def show_self(call: Call) -> Identity:
    """Show who the service takes the request's sender for."""
    caller = call.caller
    assert caller is not None
    expires_at = caller.token.expires_at if caller.token is not None else None
    return Identity(caller.name, list(caller.scopes), caller.user, expires_at)


@api.endpoint("GET", "/tokens", scope="admin")
def list_tokens(call: Call) -> TokenList:
    """List API tokens."""
    return TokenList(list(call.service.tokens.list()))


@api.endpoint("POST", "/tokens", scope="admin", status=201)
def create_token(call: Call, body: TokenRequest) -> NewToken:
    """Make an API token."""
    token, secret = call.service.tokens.create(body.name, tuple(body.scopes), body.expires_in_s)
    note(
        call.service, "create token", f"token={token.id}", f"{token.name}: {', '.join(token.scopes)}", actor=call.actor
    )
    return NewToken(token, secret)


@api.endpoint("DELETE", "/tokens/{token}", scope="admin", status=204, errors={404: "There is no such token"})
def revoke_token(call: Call, token: Annotated[int, msgspec.Meta(ge=1, le=2**53)]) -> None:
    """Revoke a token: it is refused from now on."""
    call.service.tokens.revoke(token)


@api.endpoint("GET", "/workers", scope="read")
def list_workers(call: Call) -> WorkerList:
    """List workers, with what they do."""
    return WorkerList(seen_workers(call.service, call.rights))
