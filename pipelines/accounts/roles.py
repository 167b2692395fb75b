"""Roles: who may do what in which project.

A user has a role in the service, and a token has scopes; these count in all projects. Both may also have roles in
single projects: ``read`` looks and pulls images, ``build`` also starts runs and pushes, ``maintain`` also changes the
project's settings, secrets and members. A robot is a token that belongs to no user.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec
from sqlalchemy import and_, bindparam, delete, insert, select
from sqlalchemy.engine import Connection

from pipelines.accounts.tokens import Token, Tokens
from pipelines.accounts.users import SCOPES_OF, User
from pipelines.changes import Change, compared
from pipelines.database import Database
from pipelines.errors import InvalidRequestError, NotFoundError
from pipelines.schema import project_roles, projects, runs, tokens, users

ProjectRole: TypeAlias = Literal["read", "build", "maintain"]
Level: TypeAlias = Literal["none", "read", "build", "maintain", "admin"]
Kind: TypeAlias = Literal["user", "token"]

LEVELS: Final[tuple[Level, ...]] = ("none", "read", "build", "maintain", "admin")
"""Each includes those before it. Nobody has ``admin`` in a single project: it is a level of the whole service."""

PROJECT_ROLES: Final[tuple[ProjectRole, ...]] = ("read", "build", "maintain")


class Rights(msgspec.Struct, frozen=True):
    """Somebody's rights at this moment. everywhere: in all projects. projects: in these, where that is more."""

    everywhere: Level = "none"
    projects: dict[str, Level] = {}

    def level(self, project: str) -> Level:
        """What they may do in one project."""
        return _most(self.everywhere, self.projects.get(project, "none"))

    def may(self, project: str, level: Level) -> bool:
        return _includes(self.level(project), level)

    def may_everywhere(self, level: Level) -> bool:
        return _includes(self.everywhere, level)

    def may_somewhere(self, level: Level) -> bool:
        """Whether they may do this in some project, which need not exist yet."""
        return self.may_everywhere(level) or any(_includes(own, level) for own in self.projects.values())

    def where(self, level: Level) -> frozenset[str] | None:
        """The projects in which they may do this; None: all."""
        if self.may_everywhere(level):
            return None
        return frozenset(project for project, own in self.projects.items() if _includes(own, level))

    def within(self, other: Rights) -> Rights:
        """These rights, but no more than ``other``: a token does not exceed its owner."""
        names = {*self.projects, *other.projects}
        return Rights(
            _least(self.everywhere, other.everywhere),
            {name: _least(self.level(name), other.level(name)) for name in names},
        )


# Made once: each request of the API asks them.
_ROLES: Final = select(project_roles.c.project, project_roles.c.role).where(
    project_roles.c.kind == bindparam("kind"), project_roles.c.subject == bindparam("subject")
)
_OF_TOKEN: Final = (
    select(project_roles.c.project, project_roles.c.role)
    .select_from(tokens)
    .outerjoin(project_roles, and_(project_roles.c.kind == "token", project_roles.c.subject == tokens.c.hash))
    .where(tokens.c.id == bindparam("id"))
)
_PROJECT: Final = select(runs.c.project).where(runs.c.number == bindparam("run"))


class Member(msgspec.Struct, frozen=True):
    """Somebody with a role in one project. subject: a user's name, or a token's id. name: for people."""

    kind: Kind
    subject: str
    name: str
    role: ProjectRole


class Roles:
    """The roles of users and tokens. Thread-safe."""

    def __init__(self, database: Database, tokens_: Tokens) -> None:
        self._database = database
        self._tokens = tokens_

    def of_user(self, user: User) -> Rights:
        if user.role == "admin":
            return Rights("admin")
        with self._database.read() as connection:
            return _of_user(connection, user.name, user.role)

    def of_token(self, token: Token) -> Rights:
        """A valid token's rights as of now; no more than its owner's, if it has one."""
        with self._database.read() as connection:
            found = connection.execute(_OF_TOKEN, {"id": token.id}).all()
            if not found:
                raise NotFoundError(f"there is no token {token.id}")
            rights = Rights(_largest(token.scopes), {row.project: row.role for row in found if row.project is not None})
            if token.owner is None:
                return rights
            role = connection.execute(select(users.c.role).where(users.c.name == token.owner)).scalar_one()
            return rights.within(_of_user(connection, token.owner, role))

    def now(self, user: str | None, token: Token | None) -> Rights:
        """The rights, at this moment, of somebody who was let in before: by a token, or else as a user."""
        if token is not None:
            try:
                return self.of_token(token)
            except NotFoundError:  # it was revoked
                return Rights()
        with self._database.read() as connection:
            wanted = select(users.c.role).where(users.c.name == user, users.c.disabled.is_(False))
            role = connection.execute(wanted).scalar()
            return Rights() if role is None else _of_user(connection, str(user), role)

    def members(self, project: str) -> list[Member]:
        """Users by name, then tokens by id. Leaves out those who have rights only by a role in the service."""
        of_users = select(project_roles.c.subject, project_roles.c.role).where(
            project_roles.c.project == project, project_roles.c.kind == "user"
        )
        of_tokens = (
            select(tokens.c.id, tokens.c.name, project_roles.c.role)
            .join(tokens, tokens.c.hash == project_roles.c.subject)
            .where(project_roles.c.project == project, project_roles.c.kind == "token")
        )
        with self._database.read() as connection:
            people = connection.execute(of_users.order_by(project_roles.c.subject)).all()
            machines = connection.execute(of_tokens.order_by(tokens.c.id)).all()
        found = [Member("user", row.subject, row.subject, row.role) for row in people]
        return found + [Member("token", str(row.id), row.name, row.role) for row in machines]

    def set(self, project: str, kind: Kind, subject: str, role: ProjectRole) -> tuple[Change, ...]:
        """Give a role, in place of any that they have in the project. Returns what that changed.

        Raises NotFoundError, InvalidRequestError.
        """
        if role not in PROJECT_ROLES:
            raise InvalidRequestError(f"invalid role {role!r}", hint=f"one of {', '.join(PROJECT_ROLES)}")
        with self._database.write() as connection:
            if connection.execute(select(projects.c.name).where(projects.c.name == project)).first() is None:
                raise NotFoundError(f"there is no project {project}")
            known = _stored(connection, kind, subject)
            before = _remove(connection, project, kind, known)
            row = {"project": project, "kind": kind, "subject": known, "role": role}
            connection.execute(insert(project_roles).values(row))
            return compared({"role": before}, {"role": role})

    def remove(self, project: str, kind: Kind, subject: str) -> tuple[Change, ...]:
        """Take the role away. Returns what that changed. Raises NotFoundError."""
        with self._database.write() as connection:
            before = _remove(connection, project, kind, _stored(connection, kind, subject))
        if not before:
            raise NotFoundError(f"{kind} {subject} has no role in project {project}")
        return compared({"role": before}, None)

    def create_token(
        self, project: str, name: str, role: ProjectRole, expires_in_s: float | None = None
    ) -> tuple[Token, str]:
        """A robot's token for one project, and its text. Raises NotFoundError, InvalidRequestError."""
        if role not in PROJECT_ROLES:
            raise InvalidRequestError(f"invalid role {role!r}", hint=f"one of {', '.join(PROJECT_ROLES)}")
        token, text = self._tokens.create_without_scope(name, expires_in_s)
        try:
            self.set(project, "token", str(token.id), role)
        except NotFoundError:
            self._tokens.revoke(token.id)
            raise
        return token, text

    def project_of_run(self, run: int) -> str | None:
        """The project of a run; None: there is no such run."""
        with self._database.read() as connection:
            return connection.execute(_PROJECT, {"run": run}).scalar()

    def project_names(self) -> frozenset[str]:
        """All projects, for ``pipelines.owning.ownership``."""
        with self._database.read() as connection:
            return frozenset(connection.execute(select(projects.c.name)).scalars())

    def archived_names(self) -> frozenset[str]:
        """The projects that are archived."""
        with self._database.read() as connection:
            found = select(projects.c.name).where(projects.c.archived_at.is_not(None))
            return frozenset(connection.execute(found).scalars())


def _of_user(connection: Connection, name: str, role: str) -> Rights:
    return Rights(_largest(SCOPES_OF[role]), _rows(connection, "user", name))


def _rows(connection: Connection, kind: Kind, subject: str) -> dict[str, Level]:
    return {row.project: row.role for row in connection.execute(_ROLES, {"kind": kind, "subject": subject})}


def _stored(connection: Connection, kind: Kind, subject: str) -> str:
    """A user's name, or a token's hash, for its number may be another's one day. Raises NotFoundError."""
    if kind == "token":
        if not (subject.isascii() and subject.isdigit() and len(subject) < 16):
            raise NotFoundError(f"there is no token {subject[:40]!r}")
        return _hash_of(connection, int(subject))
    name = connection.execute(select(users.c.name).where(users.c.name == subject.strip().lower())).scalar()
    if name is None:
        raise NotFoundError(f"there is no user {subject[:80]!r}", hint="an administrator makes one: shiplap user add")
    return str(name)


def _hash_of(connection: Connection, token_id: int) -> str:
    found = connection.execute(select(tokens.c.hash).where(tokens.c.id == token_id)).scalar()
    if found is None:
        raise NotFoundError(f"there is no token {token_id}")
    return str(found)


def _remove(connection: Connection, project: str, kind: Kind, subject: str) -> str:
    """Take a role away. Returns which; empty: there was none."""
    chosen = (
        (project_roles.c.project == project) & (project_roles.c.kind == kind) & (project_roles.c.subject == subject)
    )
    before = connection.execute(select(project_roles.c.role).where(chosen).with_for_update()).scalar()
    connection.execute(delete(project_roles).where(chosen))
    return str(before or "")


def _largest(scopes: tuple[str, ...]) -> Level:
    return max((level for level in LEVELS if level in scopes), key=LEVELS.index, default="none")


def _includes(own: Level, wanted: Level) -> bool:
    return LEVELS.index(own) >= LEVELS.index(wanted)


def _most(one: Level, other: Level) -> Level:
    return max(one, other, key=LEVELS.index)


def _least(one: Level, other: Level) -> Level:
    return min(one, other, key=LEVELS.index)
