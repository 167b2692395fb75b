"""The log-in that an attempt uses at a registry: its own token at the service's, elsewhere what its project was given.

The log-ins of the worker's own docker configuration count only where an administrator gave them to the project by name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipelines.model import Claim
from pipelines.owning.grants import Grants
from pipelines.sealing.logins import Logins
from registry.credentials import Credentials, CredentialStore


class RunCredentials:
    """Looks up log-ins for one attempt. Thread-safe.

    registries: the names of the service's own registry, HOST[:PORT].
    answers_as_ours: whether a host speaks as a registry of Shiplap's; called only for ``registries``.
    docker_config: the worker's own configuration.
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
    ) -> None:
        self._claim = claim
        self._grants = grants
        self._logins = logins
        self._registries = registries
        self._answers_as_ours = answers_as_ours
        self._docker_config = docker_config

    def find(self, domain: str) -> Credentials | None:
        """None: ask the registry anonymously. Raises SecretError, CredentialsError, DatabaseUnreachableError."""
        run = self._claim.run
        if not run.is_trusted:
            return None
        if self._grants.has(run.project, "login", domain):
            stored = self._logins.reveal(domain)
            return Credentials(*stored) if stored is not None else CredentialStore(self._docker_config).get(domain)
        if domain in self._registries and self._answers_as_ours(domain):
            return Credentials(f"run-{run.number}", self._claim.token)
        if self._grants.has(run.project, "login", "*"):
            return CredentialStore(self._docker_config).get(domain)
        return None
