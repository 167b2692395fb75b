"""Users and the audit trail, for administrators."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

from pipelines.accounts.audit import AuditEntry
from pipelines.accounts.users import Role, User
from pipelines.changes import Change, of_secret
from web.calls import Call
from web.endpoints import Api
from web.guard import note
from web.guard.links import welcome_url
from web.views.names import UserName

api: Final = Api("users")

Password: TypeAlias = Annotated[str, msgspec.Meta(min_length=8, max_length=1024)]
_NO_USER: Final = {404: "There is no such user"}


class UserList(msgspec.Struct, frozen=True):
    """By name, the disabled included."""

    users: list[User]


class UserRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A user who is to be made.

    password: null for a link by which the user chooses one.
    """

    name: UserName
    role: Role = "member"
    password: Password | None = None


class UserChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is null stays as it is. A new password ends the user's sessions, so does disabled."""

    role: Role | None = None
    disabled: bool | None = None
    password: Password | None = None


class NewUser(msgspec.Struct, frozen=True):
    """A user who was made.

    link: by which the user chooses a password; null when there is one. It is shown this once.
    """

    user: User
    link: str | None


class SignInLink(msgspec.Struct, frozen=True):
    """Good once, for 24 hours. It is shown this once: only its hash is kept."""

    link: str


class AuditQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which lines of the audit trail are listed.

    actor, action: exactly these.
    subject: what it contains.
    since, until: seconds since the epoch.
    before: only entries with smaller ids, to page through them.
    """

    actor: Annotated[str, msgspec.Meta(max_length=200)] = ""
    action: Annotated[str, msgspec.Meta(max_length=60)] = ""
    subject: Annotated[str, msgspec.Meta(max_length=300)] = ""
    since: float | None = None
    until: float | None = None
    before: Annotated[int, msgspec.Meta(ge=1, le=2**53)] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


class AuditList(msgspec.Struct, frozen=True):
    """Newest first."""

    entries: list[AuditEntry]


@api.endpoint("GET", "/users", scope="admin")
def list_users(call: Call) -> UserList:
    """List users."""
    return UserList(list(call.service.users.list()))


@api.endpoint("POST", "/users", scope="admin", status=201, errors={409: "There is a user of this name"})
def create_user(call: Call, body: UserRequest) -> NewUser:
    """Make a user, with a password or a link by which to choose one."""
    user = call.service.users.create(body.name, body.role, body.password)
    note(call.service, "create user", f"name={user.name}", f"role {user.role}", actor=call.actor)
    return NewUser(user, None if body.password else welcome_url(call.service, user.name))


@api.endpoint("PATCH", "/users/{name}", scope="admin", errors={**_NO_USER, 409: "It is the last administrator"})
def change_user(call: Call, name: UserName, body: UserChange) -> User:
    """Change a user's role or password, disable or enable the user."""
    users, said, changes = call.service.users, [], list[Change]()
    had_password = users.get(name).has_password
    if body.role is not None:
        changes += users.set_role(name, body.role)
        said.append(f"role {body.role}")
    if body.disabled is not None:
        changes += users.set_disabled(name, body.disabled)
        said.append("disabled" if body.disabled else "enabled")
    if body.password is not None:
        users.set_password(name, body.password)
        changes += of_secret("password", had=had_password, has=True)
        said.append("a new password")
    note(call.service, "change user", f"name={name}", ", ".join(said), actor=call.actor, changes=changes)
    return users.get(name)


@api.endpoint("POST", "/users/{name}/link", scope="admin", status=201, errors=_NO_USER)
def create_sign_in_link(call: Call, name: UserName) -> SignInLink:
    """Make a link by which the user chooses a new password; it takes the place of an earlier one."""
    return SignInLink(welcome_url(call.service, call.service.users.get(name).name))


@api.endpoint("POST", "/users/{name}/sign-out", scope="admin", status=204, errors=_NO_USER)
def sign_user_out(call: Call, name: UserName) -> None:
    """End all sessions of a user."""
    call.service.sessions.end_all(call.service.users.get(name).name)


@api.endpoint("GET", "/audit", scope="maintain")
def list_audit_entries(call: Call, query: AuditQuery) -> AuditList:
    """List what was done by whom, the newest first.

    An administrator sees all, others what was done in the projects that they maintain.
    """
    entries = call.service.audit.list(
        actor=query.actor,
        action=query.action,
        subject=query.subject,
        since=query.since,
        until=query.until,
        before=query.before,
        projects=call.rights.where("maintain"),
        limit=query.limit,
    )
    return AuditList(list(entries))
