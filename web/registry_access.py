"""API tokens open the registry, too: who may read a project may pull its images, who may build may push, who maintains
it may delete.

docker login sends an API token as the password, with any user name; other clients send it as a Bearer token. The rights
are those of the moment. A revoked token opens nothing any more, nor do the signed tokens that it was exchanged for.

Runs have tokens of their own: by these, workers pull and push the images of a run's project, as long as the run goes
on. What jobs output has others (``pipelines.accounts.outputtokens``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pipelines.accounts.outputtokens import OutputRights
from pipelines.accounts.roles import Level, Rights
from pipelines.accounts.runtokens import RunRights
from pipelines.accounts.tokens import Token, fingerprint
from pipelines.errors import TokenError
from pipelines.owning.ownership import is_cache, is_outputs, owner_of
from pipelines.projects.projects import TAKES_NOTHING
from registry.server.access import Account
from registry.server.users import TOKEN_PREFIX

if TYPE_CHECKING:
    from pipelines.service import Service

_NEEDED: Final[dict[str, Level]] = {"pull": "read", "push": "build", "delete": "maintain"}
_PREFIX: Final = "api-token/"  # no user of the registry has a slash in their name
_RUN: Final = "run/"
_OUTPUTS: Final = "outputs/"


class ImageRights(NamedTuple):
    """Rights in projects, applied to repositories.

    projects: names of all, where there are roles in single ones, or archived ones.
    archived: names of those that take no images.
    """

    rights: Rights
    projects: frozenset[str]
    archived: frozenset[str] = frozenset()

    def covers(self, repository: str, action: str) -> bool:
        """Whether the rights allow this action there."""
        # Build caches and outputs are written by runs, each in its own domain, and by administrators.
        is_runs = is_cache(repository) or is_outputs(repository)
        if action == "push" and self.archives(repository):
            return False
        needed = "admin" if action == "push" and is_runs else _NEEDED.get(action, "admin")
        if self.rights.may_everywhere(needed):
            return True
        if not repository:  # all that builds on this host left: no project's
            return False
        return self.rights.may(self._owner(repository), needed)

    def archives(self, repository: str) -> bool:
        """Whether the repository is an archived project's."""
        return bool(self.archived and repository) and self._owner(repository) in self.archived

    def advise(self, repository: str, action: str) -> str:
        """What to do about a right that is missing."""
        owner = self._owner(repository)
        if action == "push" and owner in self.archived:
            return f"project {owner} is archived: {TAKES_NOTHING}"
        return f"who maintains project {owner} can give it: shiplap project member set"

    def _owner(self, repository: str) -> str:
        return owner_of(repository, self.projects.__contains__)


class ServiceAccounts:
    """Accounts by tokens of the service. Thread-safe.

    They are called ``api-token/FINGERPRINT``, ``run/NUMBER/FINGERPRINT`` and ``outputs/FINGERPRINT``.

    NUMBER is the job's. The names do not have the token's or the attempt's number: after a restore another one may have
    that.
    """

    def __init__(self, service: Service) -> None:
        self._tokens = service.tokens
        self._run_tokens = service.run_tokens
        self._output_tokens = service.output_tokens
        self._roles = service.roles

    def log_in(self, password: str) -> Account | None:
        """The account of a token; None: it is no valid token of ours."""
        if not password.startswith(TOKEN_PREFIX):
            return None
        rights = self._run_tokens.log_in(password)
        if rights is not None:
            return _run_account(rights)
        of_outputs = self._output_tokens.log_in(password)
        if of_outputs is not None:
            return _outputs_account(of_outputs)
        try:
            token = self._tokens.identify(password)
        except TokenError:
            return None
        return self._account(fingerprint(password), token)

    def find(self, name: str) -> Account | None:
        """None: the name is none of ours, or the token is not valid any more, or the attempt has ended."""
        kind, slash, rest = name.partition("/")
        if kind + slash == _RUN:
            job, _, known = rest.partition("/")
            rights = self._run_tokens.standing(int(job), known)
            return None if rights is None else _run_account(rights)
        if kind + slash == _OUTPUTS:
            of_outputs = self._output_tokens.standing(rest)
            return None if of_outputs is None else _outputs_account(of_outputs)
        if kind + slash != _PREFIX:
            return None
        try:
            token = self._tokens.standing(rest)
        except TokenError:
            return None
        return self._account(rest, token)

    def _account(self, known: str, token: Token) -> Account:
        rights = self._roles.of_token(token)
        archived = self._roles.archived_names()
        names = self._roles.project_names() if rights.projects or archived else frozenset()
        found = ImageRights(rights, names, archived)
        return Account(f"{_PREFIX}{known}", (found,), found.advise if archived else None)


def _outputs_account(rights: OutputRights) -> Account:
    return Account(f"{_OUTPUTS}{rights.known}", (rights,))


def _run_account(rights: RunRights) -> Account:
    def advise(repository: str, action: str) -> str:
        push = " --push" if action == "push" else ""
        return (
            f"{repository} is not project {rights.project}'s; an administrator can give it: "
            f"shiplap grant add {rights.project} image {repository}{push}"
        )

    return Account(f"{_RUN}{rights.job}/{rights.known}", (rights,), None if rights.ended else advise)
