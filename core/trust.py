"""Trust: who a build is made for, and whose remembered results it may use. The border of ``docs/trust.md``, as data.

A *domain* is who a run is for: one project's protected branches, one of its other branches, what one user sent, one
fork's pull request; or the command line of the host itself. A *scope* says who a remembered thing counts for:
everybody, one project, or one domain.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Literal, NamedTuple, TypeAlias, cast, get_args

Lane: TypeAlias = Literal["protected", "branch", "by", "fork"]

Scope: TypeAlias = str
"""Who a remembered thing counts for: ``COMMON``, or ``Domain.project_scope``, or ``Domain.scope``. Part of its key."""

COMMON: Final[Scope] = ""
"""Counts for everybody."""

_HOST_SCOPE: Final[Scope] = "host"


class Privacy(IntEnum):
    """How far the results of a step may go. When several things take part, the greatest value counts.

    COMMON: to everybody.
    PROJECT: in its project: something stored for the project took part.
    DOMAIN: in its domain: something that the request brought, or that earlier steps left on the disk, took part.
    """

    COMMON = 0
    PROJECT = 1
    DOMAIN = 2


class Domain(NamedTuple):
    """Who a build is made for. Made only by the functions below this class.

    project: empty for builds at the host's own command line. It has neither spaces nor slashes.
    lane: which part of the project.
    name: the branch, the user, or the number of the pull request; empty for ``protected``.
    """

    project: str = ""
    lane: Lane = "protected"
    name: str = ""

    @property
    def is_host(self) -> bool:
        """Whether the build is the host's own, and no project's."""
        return not self.project

    @property
    def is_fork(self) -> bool:
        """Whether strangers may have written what is built: nothing of the project is for it."""
        return self.lane == "fork"

    @property
    def label(self) -> str:
        """The domain without its project, as ``parse`` reads it: ``protected``, ``branch B``, ``by USER``, ``fork N``.

        No two domains of a project have the same: a lane has no spaces, and only ``protected`` has no name.
        """
        return self.lane if self.lane == "protected" else f"{self.lane} {self.name}"

    @property
    def scope(self) -> Scope:
        """The scope of this domain alone."""
        return _HOST_SCOPE if self.is_host else f"{_of(self.project)}/{self.label}"

    @property
    def project_scope(self) -> Scope:
        """The scope of the whole project; a fork has no part in it, nor has the host in any project."""
        return self.scope if self.is_host or self.is_fork else _of(self.project)

    @property
    def protected_scope(self) -> Scope:
        """The scope of the project's protected lane, which its other domains read; a fork has its own only."""
        return self.scope if self.is_host or self.is_fork else protected(self.project).scope

    @property
    def mounts_scope(self) -> Scope:
        """The scope that shares its cache mounts. The protected lane, forks and the host itself share with nobody."""
        if self.is_host or self.is_fork or self.lane == "protected":
            return self.scope
        return f"{_of(self.project)}/others"

    def reads(self) -> tuple[Scope, ...]:
        """The scopes that a build of this domain reads, its own first."""
        return tuple(dict.fromkeys((self.scope, self.protected_scope, self.project_scope, COMMON)))

    def writes(self, privacy: Privacy) -> Scope:
        """The scope of what a step of this privacy leaves; all that a fork leaves is its own."""
        if privacy is Privacy.COMMON and not self.is_fork:
            return COMMON
        return self.project_scope if privacy is Privacy.PROJECT else self.scope

    def asks(self, privacy: Privacy) -> tuple[Scope, ...]:
        """The scopes where an earlier result of a step of this privacy may be, the likeliest first.

        Its own scope and the protected lane's also have what was imported from a cache elsewhere, of any privacy.
        """
        common = (COMMON,) if privacy is Privacy.COMMON else ()
        return tuple(dict.fromkeys((self.writes(privacy), self.scope, self.protected_scope, *common)))


HOST: Final = Domain()
"""Builds at the host's own command line."""


def protected(project: str) -> Domain:
    """The project's default branch and its tags."""
    return Domain(project)


def of_branch(project: str, branch: str) -> Domain:
    """Another branch, and pull requests from it."""
    return Domain(project, "branch", branch)


def of_user(project: str, user: str) -> Domain:
    """What this user sent as a context."""
    return Domain(project, "by", user)


def of_fork(project: str, pull_request: int) -> Domain:
    """A pull request from somebody else's repository."""
    return Domain(project, "fork", str(pull_request))


def of_stranger(project: str, user: str) -> Domain:
    """What this user had built and declared untrusted: as far from the project as a fork."""
    return Domain(project, "fork", f"by {user}")


def parse(project: str, label: str) -> Domain:
    """The project's domain with this ``Domain.label``. Raises ValueError."""
    lane, space, name = label.partition(" ")
    if lane not in get_args(Lane) or bool(space) == (lane == "protected"):
        raise ValueError(f"{label[:100]!r} is no domain of a project")
    return Domain(project, cast("Lane", lane), name)


def scoped(key: str, scope: Scope) -> str:
    """The key of a remembered thing within its scope; for ``COMMON`` the key as it is."""
    if not scope:
        return key
    import hashlib

    return hashlib.sha256(f"{key}\0{scope}".encode("utf-8", "surrogateescape")).hexdigest()


def _of(project: str) -> Scope:
    return f"project {project}"
