"""Grants: what projects may use that is not their own; and log-ins to registries elsewhere."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

from pipelines.owning.grants import Grant, Kind
from pipelines.owning.policies import SILENT, Policy, told
from pipelines.sealing.logins import LoginInfo
from web.calls import Call
from web.endpoints import Api
from web.guard import note
from web.views.names import GrantedProject, RegistryHost

api: Final = Api("grants")

Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
_NO_GRANT: Final = {404: "The project was not given this"}
_NO_LOGIN: Final = {404: "There is no log-in to this registry"}


class GrantList(msgspec.Struct, frozen=True):
    """By project, kind and name."""

    grants: list[Grant]


class GrantQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which grants are listed.

    project: only what this one has, with what all have.
    """

    project: Annotated[str, msgspec.Meta(max_length=100)] | None = None


class GrantRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that a project is to be given.

    project: ``*`` for all.
    kind: secret, login, image or bare.
    may_push: of images, besides pulling.
    policy: of secrets and log-ins: which runs get it. A secret's counts in place of the secret's own. Without it, that
    of the same grant stays; a new one of a secret leaves it to the secret's own, and a log-in is for protected branches
    and tags.
    """

    project: GrantedProject
    kind: Kind
    name: Name
    may_push: bool = False
    policy: Policy | None = None


class GrantKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which grant: its members without its rights."""

    project: GrantedProject
    kind: Kind
    name: Name


class LoginList(msgspec.Struct, frozen=True):
    """By registry. Passwords are never shown."""

    logins: list[LoginInfo]


class LoginRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A login at a registry elsewhere.

    username, password: as ``docker login`` asks for them. The password may be an access token.
    """

    username: Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
    password: Annotated[str, msgspec.Meta(min_length=1, max_length=65536)]


@api.endpoint("GET", "/grants", scope="admin")
def list_grants(call: Call, query: GrantQuery) -> GrantList:
    """List what projects may use that is not their own."""
    return GrantList(list(call.service.grants.list(project=query.project)))


@api.endpoint("PUT", "/grants", scope="admin", status=204, errors={404: "There is no such project"})
def put_grant(call: Call, body: GrantRequest) -> None:
    """Give a project a secret of the service, a log-in, image repositories, or another's bare repositories."""
    grant = Grant(body.project, body.kind, body.name, body.may_push, body.policy or SILENT)
    changes = call.service.grants.give(grant, keeps_policy=body.policy is None)
    what = f"project={body.project} {body.kind}={body.name}"
    detail = f"for {told(body.policy)}" if body.policy else "to push, too" if body.may_push else ""
    note(call.service, "give", what, detail, actor=call.actor, changes=changes)


@api.endpoint("DELETE", "/grants", scope="admin", status=204, errors=_NO_GRANT)
def delete_grant(call: Call, query: GrantKey) -> None:
    """Take from a project what it was given."""
    changes = call.service.grants.take(Grant(query.project, query.kind, query.name))
    what = f"project={query.project} {query.kind}={query.name}"
    note(call.service, "take", what, actor=call.actor, changes=changes)


@api.endpoint("GET", "/logins", scope="admin")
def list_logins(call: Call) -> LoginList:
    """List the registries elsewhere that the service can log in to."""
    return LoginList(list(call.service.logins.list()))


@api.endpoint("PUT", "/logins/{registry}", scope="admin", status=204)
def put_login(call: Call, registry: RegistryHost, body: LoginRequest) -> None:
    """Store a log-in to a registry. It is encrypted on disk; projects use it once it was given to them."""
    changes = call.service.logins.put(registry, body.username, body.password)
    note(call.service, "put login", f"registry={registry}", actor=call.actor, changes=changes)


@api.endpoint("DELETE", "/logins/{registry}", scope="admin", status=204, errors=_NO_LOGIN)
def delete_login(call: Call, registry: RegistryHost) -> None:
    """Forget the log-in to a registry, and to whom it was given."""
    call.service.logins.delete(registry)
