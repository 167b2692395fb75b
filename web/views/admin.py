"""What an administrator looks after: tokens, projects, workers."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from pipelines.model import Project, WorkerInfo
from pipelines.tokens import Token
from web.calls import Call
from web.endpoints import Api
from web.guard import note

api: Final = Api("administration")

Name: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
Scope: TypeAlias = Literal["read", "build", "admin"]
_MAX_EXPIRY_S: Final = 10 * 366 * 86400


class Identity(msgspec.Struct, frozen=True):
    """name: of the token, or of the session's user. user: whom it acts for, null for a robot."""

    name: str
    scopes: list[str]
    user: str | None
    expires_at: float | None


class TokenRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """name: for people, to tell tokens apart. scopes: admin implies build, build implies read."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1)]
    expires_in_s: Annotated[int, msgspec.Meta(ge=1, le=_MAX_EXPIRY_S)] | None = None


class NewToken(msgspec.Struct, frozen=True):
    """secret: what clients send. It is shown this once: only its hash is kept."""

    token: Token
    secret: str


class TokenList(msgspec.Struct, frozen=True):
    """All that were not revoked, the expired included."""

    tokens: list[Token]


class ProjectList(msgspec.Struct, frozen=True):
    """By name."""

    projects: list[Project]


class ProjectSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """concurrency: how many runs at once, 0 is no limit. keep_runs, keep_days: retention, 0 keeps for ever."""

    concurrency: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 0
    tag_template: Annotated[str, msgspec.Meta(min_length=1, max_length=500)] = Project("").tag_template
    keep_runs: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 200
    keep_days: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 30


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


@api.endpoint("GET", "/projects", scope="read")
def list_projects(call: Call) -> ProjectList:
    """List projects."""
    return ProjectList(list(call.service.projects.list()))


@api.endpoint("GET", "/projects/{project}", scope="read", errors={404: "There is no such project"})
def show_project(call: Call, project: Name) -> Project:
    """Show a project."""
    return call.service.projects.get(project)


@api.endpoint("PUT", "/projects/{project}", scope="admin")
def put_project(call: Call, project: Name, body: ProjectSettings) -> Project:
    """Set up a project, or change all of its settings."""
    call.service.projects.put(Project(project, body.concurrency, body.tag_template, body.keep_runs, body.keep_days))
    return call.service.projects.get(project)


@api.endpoint("GET", "/workers", scope="read")
def list_workers(call: Call) -> WorkerList:
    """List workers, with what they do."""
    return WorkerList(list(call.service.workers.list()))
