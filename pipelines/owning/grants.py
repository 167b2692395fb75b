"""Grants: what projects may use that is not their own. An administrator gives it to them by name.

A grant is for one project, or for all (``*``), and of a kind:

secret: a secret of the service, by its name. A policy of the grant counts in place of the secret's own.
login: a log-in to a registry elsewhere, HOST[:PORT]: the stored one, else the one in the worker's own docker
configuration. ``*``: all that the worker has, but none for the service's own registry. A policy of the grant says
which runs have it.
image: repositories of the service's registry, as a pattern (``base/*``); for pulling, or for pushing, too.
bare: bare repositories beside the service, by the project that they belong to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec
from sqlalchemy import ColumnElement, and_, delete, insert, select
from sqlalchemy.engine import Connection, Row

from pipelines.changes import Change, compared
from pipelines.database import Database
from pipelines.errors import InvalidRequestError, NotFoundError
from pipelines.owning.policies import SILENT, Policy, check_policy, decoded, encoded
from pipelines.schema import grants, projects

Kind: TypeAlias = Literal["secret", "login", "image", "bare"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
ALL: Final = "*"
_WITH_POLICY: Final = frozenset(("secret", "login"))

_NAMES: Final[dict[Kind, re.Pattern[str]]] = {
    "secret": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"),
    "login": re.compile(r"\*|[A-Za-z0-9.\[\]:-]{1,255}"),
    "image": re.compile(r"[a-z0-9*][a-z0-9._/*-]{0,254}"),
    "bare": re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"),
}
_HINTS: Final[dict[Kind, str]] = {
    "secret": "the name of a secret of the service",
    "login": "a registry, HOST[:PORT]; * is whatever the worker's own docker configuration has",
    "image": "a repository of the service's registry, without its host and a tag; * stands for anything",
    "bare": "the project that the bare repository belongs to",
}


class Grant(msgspec.Struct, frozen=True):
    """Something that a project was given.

    project: ``*`` for all.
    kind, name: see the module.
    may_push: for images: pushing, too, not only pulling.
    policy: which of the project's runs get it. Of secrets one that says nothing leaves that to the secret's own.
    """

    project: str
    kind: Kind
    name: str
    may_push: bool = False
    policy: Policy = SILENT


class Grants:
    """All grants. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, *, project: str | None = None) -> list[Grant]:
        """All grants; or those of one project, together with those for all projects."""
        with self._database.read() as connection:
            return _rows(connection, None if project is None else (project, ALL))

    def give(self, grant: Grant, *, keeps_policy: bool = False) -> tuple[Change, ...]:
        """Give it, in place of the same grant with other rights. Returns what that changed.

        Raises InvalidRequestError, NotFoundError.

        keeps_policy: that of the same grant, if there is one, stays.
        """
        _check(grant)
        with self._database.write() as connection:
            if grant.project != ALL and not _is_project(connection, grant.project):
                raise NotFoundError(f"there is no project {grant.project}")
            before = _given(connection, grant)
            if keeps_policy and before is not None and before.policy != SILENT:
                grant = msgspec.structs.replace(grant, policy=before.policy)
            row = {**msgspec.structs.asdict(grant), "policy": encoded(grant.policy)}
            connection.execute(delete(grants).where(_is(grant)))
            connection.execute(insert(grants).values(row))
        return compared(_rights(before), _rights(grant))

    def take(self, grant: Grant) -> tuple[Change, ...]:
        """Take it back, whatever its rights. Returns what that changed. Raises NotFoundError."""
        with self._database.write() as connection:
            before = _given(connection, grant)
            connection.execute(delete(grants).where(_is(grant)))
        if before is None:
            raise NotFoundError(f"project {grant.project} was given no {grant.kind} {grant.name[:100]}")
        return compared(_rights(before), None)

    def policies(self, project: str, kind: Kind, name: str) -> tuple[Policy, ...]:
        """By which policies the project was given exactly this name, alone or with all others; none: it was not."""
        with self._database.read() as connection:
            given = _rows(connection, (project, ALL))
        return tuple(grant.policy for grant in given if (grant.kind, grant.name) == (kind, name))

    def has(self, project: str, kind: Kind, name: str) -> bool:
        """Whether the project was given this, alone or with all others."""
        with self._database.read() as connection:
            return has_grant(connection, project, kind, name)


def has_grant(connection: Connection, project: str, kind: Kind, name: str) -> bool:
    """Whether the project was given exactly this name, alone or with all others."""
    wanted = select(grants.c.name).where(
        grants.c.project.in_((project, ALL)), grants.c.kind == kind, grants.c.name == name
    )
    return connection.execute(wanted.limit(1)).first() is not None


def policies_of(connection: Connection, project: str) -> dict[str, list[Policy]]:
    """By name, the policies by which the project was given secrets of the service, alone or with all others."""
    found: dict[str, list[Policy]] = {}
    for grant in _rows(connection, (project, ALL)):
        if grant.kind == "secret":
            found.setdefault(grant.name, []).append(grant.policy)
    return found


def images_of(connection: Connection, project: str) -> list[Grant]:
    """The image repositories that the project was given."""
    return [grant for grant in _rows(connection, (project, ALL)) if grant.kind == "image"]


def covers(given: Iterable[Grant], repository: str, *, push: bool) -> bool:
    """Whether one of these (of kind image) is for the repository."""
    return any(fnmatchcase(repository, grant.name) and (grant.may_push or not push) for grant in given)


def forget_grants(connection: Connection, project: str) -> None:
    """Forget what a removed project was given: another project of that name starts without grants."""
    connection.execute(delete(grants).where(grants.c.project == project))


def forget_grants_of_name(connection: Connection, kind: Kind, name: str) -> None:
    """Forget grants of a thing that was removed: nobody was given another thing of that name."""
    connection.execute(delete(grants).where(grants.c.kind == kind, grants.c.name == name))


def _check(grant: Grant) -> None:
    if not _NAMES[grant.kind].fullmatch(grant.name):
        raise InvalidRequestError(f"invalid {grant.kind} {grant.name[:100]!r}", hint=_HINTS[grant.kind])
    if grant.may_push and grant.kind != "image":
        raise InvalidRequestError(f"a {grant.kind} is not pushed to", hint="only images are")
    if grant.policy != SILENT and grant.kind not in _WITH_POLICY:
        raise InvalidRequestError(f"a {grant.kind} has no policy", hint="only secrets and log-ins have")
    check_policy(grant.policy)


def _is(grant: Grant) -> ColumnElement[bool]:
    return and_(grants.c.project == grant.project, grants.c.kind == grant.kind, grants.c.name == grant.name)


def _given(connection: Connection, grant: Grant) -> Grant | None:
    """The same grant with the rights that it has; None: it was not given."""
    row = connection.execute(select(grants).where(_is(grant)).with_for_update()).first()
    return None if row is None else _from_row(row)


def _rights(grant: Grant | None) -> dict[str, object] | None:
    """What a grant allows, for the trail."""
    if grant is None:
        return None
    return {"given": "to push, too" if grant.may_push else "yes", "policy": grant.policy}


def _rows(connection: Connection, of: tuple[str, ...] | None) -> list[Grant]:
    wanted = select(grants).order_by(grants.c.project, grants.c.kind, grants.c.name)
    if of is not None:
        wanted = wanted.where(grants.c.project.in_(of))
    return [_from_row(row) for row in connection.execute(wanted)]


def _from_row(row: Row[Any]) -> Grant:
    return Grant(row.project, row.kind, row.name, row.may_push, decoded(row.policy))


def _is_project(connection: Connection, name: str) -> bool:
    return connection.execute(select(projects.c.name).where(projects.c.name == name)).first() is not None
