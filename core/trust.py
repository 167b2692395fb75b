"""Trust: for whom a build is made, and whose remembered results it may use. The border of ``docs/trust.md``, as data.

A *domain* is who a run is for: one project's protected branches, one of its other branches, what one user sent, one
fork's pull request; or the command line of the host itself. A *scope* is for whom something that is remembered counts:
for everybody, for one project, or for one domain.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias, cast, get_args

Lane: TypeAlias = Literal["protected", "branch", "by", "fork"]

Scope: TypeAlias = str
"""For whom a remembered thing counts: ``COMMON``, or ``Domain.project_scope``, or ``Domain.scope``. Part of its key."""

COMMON: Final[Scope] = ""
"""Counts for everybody."""

_HOST_SCOPE: Final[Scope] = "host"


class Domain(NamedTuple):
    """For whom a build is made. Made only by the functions below this class.

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
        """For this domain alone."""
        return _HOST_SCOPE if self.is_host else f"{_of(self.project)}/{self.label}"

    @property
    def project_scope(self) -> Scope:
        """For the whole project; a fork has no part in it, nor has the host in any project."""
        return self.scope if self.is_host or self.is_fork else _of(self.project)

    @property
    def protected_scope(self) -> Scope:
        """For the protected lane of the same project, which its other domains read; a fork has its own only."""
        return self.scope if self.is_host or self.is_fork else protected(self.project).scope

    def reads(self) -> tuple[Scope, ...]:
        """The scopes that a build of this domain reads, its own first."""
        return tuple(dict.fromkeys((self.scope, self.protected_scope, self.project_scope, COMMON)))


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
    """What this user had built, and said that it is not to be trusted: as far from the project as a fork."""
    return Domain(project, "fork", f"by {user}")


def parse(project: str, label: str) -> Domain:
    """The project's domain with this ``Domain.label``. Raises ValueError."""
    lane, space, name = label.partition(" ")
    if lane not in get_args(Lane) or bool(space) == (lane == "protected"):
        raise ValueError(f"{label[:100]!r} is no domain of a project")
    return Domain(project, cast("Lane", lane), name)


def _of(project: str) -> Scope:
    return f"project {project}"
