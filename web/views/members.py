"""Who has a role in a project: users and robots' tokens."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from pipelines.accounts.roles import Kind, Member, ProjectRole
from pipelines.accounts.tokens import Token
from web.calls import Call
from web.endpoints import Api
from web.guard import note
from web.views.names import ProjectName, Subject

api: Final = Api("members")

_NOBODY: Final = {404: "There is no such project, user or token"}
_MAX_EXPIRY_S: Final = 10 * 366 * 86400


class MemberList(msgspec.Struct, frozen=True):
    """Users by name, then tokens. Leaves out those who have rights only by a role in the service."""

    members: list[Member]


class MemberRole(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody may do in a project.

    role: read looks and pulls, build also starts runs and pushes, maintain also changes settings and members.
    """

    role: ProjectRole


class ProjectTokenRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token of a project that is to be made.

    name: for people, to tell tokens apart. role: in this project; the token may nothing in others.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    role: ProjectRole = "build"
    expires_in_s: Annotated[int, msgspec.Meta(ge=1, le=_MAX_EXPIRY_S)] | None = None


class NewProjectToken(msgspec.Struct, frozen=True):
    """A token of a project that was made.

    secret: what clients send. It is shown this once: only its hash is kept.
    """

    token: Token
    secret: str


@api.endpoint("GET", "/projects/{project}/members", scope="maintain", errors=_NOBODY)
def list_members(call: Call, project: ProjectName) -> MemberList:
    """List who has a role in a project."""
    return MemberList(list(call.service.roles.members(call.service.projects.get(project).name)))


@api.endpoint("PUT", "/projects/{project}/members/{kind}/{subject}", scope="maintain", status=204, errors=_NOBODY)
def put_member(call: Call, project: ProjectName, kind: Kind, subject: Subject, body: MemberRole) -> None:
    """Give a user (by name) or a robot's token (by id) a role in a project, in place of an earlier one."""
    changes = call.service.roles.set(project, kind, subject, body.role)
    what = f"project={project} {kind}={subject}"
    note(call.service, "set member", what, body.role, actor=call.actor, changes=changes)


@api.endpoint("DELETE", "/projects/{project}/members/{kind}/{subject}", scope="maintain", status=204, errors=_NOBODY)
def delete_member(call: Call, project: ProjectName, kind: Kind, subject: Subject) -> None:
    """Take the role in a project away. What the service's own roles allow stays."""
    changes = call.service.roles.remove(project, kind, subject)
    note(call.service, "remove member", f"project={project} {kind}={subject}", actor=call.actor, changes=changes)


@api.endpoint("POST", "/projects/{project}/tokens", scope="maintain", status=201, errors=_NOBODY)
def create_project_token(call: Call, project: ProjectName, body: ProjectTokenRequest) -> NewProjectToken:
    """Make a robot's token for one project. It is listed, and taken back, among the members."""
    token, secret = call.service.roles.create_token(project, body.name, body.role, body.expires_in_s)
    note(
        call.service,
        "create token",
        f"project={project} token={token.id}",
        f"{token.name}: {body.role}",
        actor=call.actor,
    )
    return NewProjectToken(token, secret)
