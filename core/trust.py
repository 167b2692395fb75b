"""Trust: for whom a build is made, and whose remembered results it may use. The border of ``docs/trust.md``, as data.

A *domain* is who a run is for: one project's protected branches, one of its other branches, what one user sent, one
fork's pull request; or the command line of the host itself. A *scope* is for whom something that is remembered counts:
for everybody, for one project, or for one domain.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

Lane: TypeAlias = Literal["protected", "branch", "by", "fork"]

Scope: TypeAlias = str
"""For whom a remembered thing counts: ``COMMON``, or ``Domain.project_scope``, or ``Domain.scope``. Part of its key."""

COMMON: Final[Scope] = ""
"""Counts for everybody."""


class Domain(NamedTuple):
    """For whom a build is made. Made only by the functions below this class.

    project: empty for builds at the host's own command line.
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
    def scope(self) -> Scope:
        """For this domain alone."""
        return "host" if self.is_host else f"{self.project_scope}/{self.lane} {self.name}".rstrip()

    @property
    def project_scope(self) -> Scope:
        """For the whole project; a fork has no part in it, nor has the host in any project."""
        return "host" if self.is_host else f"project {self.project}"

    def reads(self) -> tuple[Scope, ...]:
        """The scopes that a build of this domain reads, its own first."""
        if self.is_host or self.is_fork:
            return (self.scope, COMMON)
        own = dict.fromkeys((self.scope, protected(self.project).scope, self.project_scope, COMMON))
        return tuple(own)


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
