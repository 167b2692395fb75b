"""The log-in that an attempt uses at a registry: its own token at the service's, elsewhere what its project was given.

The log-ins of the worker's own docker configuration count only where an administrator gave them to the project by name.
Which of the project's runs have what it was given says a policy, as of secrets.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from pipelines.model import Claim
from pipelines.owning.grants import ALL, Grants
from pipelines.owning.policies import Policy, RunAsks, refusal
from pipelines.sealing.logins import Logins
from registry.credentials import Credentials, CredentialStore


class RunCredentials:
    """Looks up log-ins for one attempt. Thread-safe.

    registries: the names of the service's own registry, HOST[:PORT].
    answers_as_ours: whether a host speaks as a registry of Shiplap's; called only for ``registries``.
    docker_config: the worker's own configuration.
    asks: the run, as policies look at it.
    tell: is told once of each log-in that the project was given, and this run has not.
    """

    def __init__(
        self,
        claim: Claim,
        grants: Grants,
        logins: Logins,
        *,
        registries: frozenset[str],
        answers_as_ours: Callable[[str], bool],
        docker_config: Path,
        asks: RunAsks,
        tell: Callable[[str], object],
    ) -> None:
        self._claim = claim
        self._grants = grants
        self._logins = logins
        self._registries = registries
        self._answers_as_ours = answers_as_ours
        self._docker_config = docker_config
        self._asks = asks
        self._tell = tell
        self._told: set[str] = set()

    def find(self, domain: str) -> Credentials | None:
        """None: ask the registry anonymously. Raises SecretError, CredentialsError, DatabaseUnreachableError."""
        run = self._claim.run
        if not run.is_trusted:
            return None
        by_name = self._policies(domain)
        if self._are_for_run(domain, by_name):
            stored = self._logins.reveal(domain)
            return Credentials(*stored) if stored is not None else CredentialStore(self._docker_config).get(domain)
        if domain in self._registries and self._answers_as_ours(domain):
            return Credentials(f"run-{run.number}", self._claim.token)
        # What was given by name says who has it: all that the worker has, given at once, takes nothing of that back.
        if not by_name and self._are_for_run(ALL, self._policies(ALL)):
            return CredentialStore(self._docker_config).get(domain)
        return None

    def _policies(self, name: str) -> tuple[Policy, ...]:
        return self._grants.policies(self._claim.run.project, "login", name)

    def _are_for_run(self, name: str, policies: Collection[Policy]) -> bool:
        """Whether the project was given the log-in, and the run is one of those that it is for."""
        reasons = [refusal(policy, self._asks) for policy in policies]
        if not policies or not all(reasons):
            return bool(policies)
        if name not in self._told:
            self._told.add(name)
            what = "the worker's own log-ins are" if name == ALL else f"the log-in to {name} is"
            self._tell(f"{what} not for this run: {reasons[0]}")
        return False
