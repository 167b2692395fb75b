"""One attempt's work: what it is done with, and what it may reach, whatever is built or run in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from builder.remotes.gitroute import GitAccess, basic
from builder.remotes.giturls import GitRemote
from builder.remotes.ssh import SshAccess, SshAgent
from core.references import Reference
from core.settings import FetchSettings
from core.trust import Privacy, of_user
from images.store import Store
from pipelines.errors import DeniedError
from pipelines.model import Claim, GitSource, Source
from pipelines.owning.policies import RunAsks
from pipelines.projects.repositories import repository_key
from pipelines.runs.domains import run_asks
from pipelines.sealing.vault import Held
from pipelines.sources.git import Served, name_of, repositories, way_to
from pipelines.sources.senders import shown_sender
from registry.client import Client
from worker.connecting import bounds_of, client_of
from worker.leasekeeper import Keeper
from worker.processresources import Resources

_WITH_PORT: Final = re.compile(r"^\[([^\]\s]+)\]:\d+", re.MULTILINE)  # ssh looks for the host's name alone


class Work(NamedTuple):
    """One attempt's build.

    store: open for this attempt alone.
    held: the secrets that its project has. Which of them the run gets is known when its domain is.
    scratch: a directory of its own.
    """

    claim: Claim
    resources: Resources
    store: Store
    held: Held
    scratch: Path
    keeper: Keeper


def is_trusted(claim: Claim) -> bool:
    """Whether the run may have secrets and credentials, and may publish what it makes."""
    return claim.run.is_trusted


def served_of(work: Work) -> Served | None:
    """How a worker that has the service's address fetches its bare repositories; None: fetch them by their paths.

    A directory that happens to be there does not count: a copy that somebody left would be built.
    """
    service, claim = work.resources.service, work.claim
    if not service.settings.web_url:
        return None

    def owns(project: str) -> bool:
        return project == claim.run.project or service.grants.has(claim.run.project, "bare", project)

    login = basic(f"run-{claim.run.number}:{claim.token}") if claim.token else ""
    return Served(service.settings.web_url, login, lambda project: work.keeper.insist(lambda: owns(project)))


def privacy_of(source: Source) -> Privacy:
    """How far the files may go: files that only a deploy key opens belong to the project."""
    return Privacy.PROJECT if isinstance(source, GitSource) and source.ssh_key else Privacy.COMMON


def ssh_of(work: Work, source: GitSource) -> SshAccess | None:
    """The deploy key. Only git gets it, whether the run is trusted or not: it reads what is to be built."""
    if not source.ssh_key and not source.known_hosts:
        return None
    agent = None
    if source.ssh_key:
        agent = SshAgent.of_key_data(f"the deploy key {source.ssh_key}", _deploy_key(work, source))
    return SshAccess(_WITH_PORT.sub(r"\1", source.known_hosts).encode(), agent)


def _deploy_key(work: Work, source: GitSource) -> bytes:
    """The project's own, at its own repository, is for every run: its settings say so. Any other is by its policy.

    Raises DeniedError.
    """
    service, run = work.resources.service, work.claim.run
    hook = work.keeper.insist(lambda: service.projects.get(run.project)).hook
    if source.ssh_key == hook.ssh_key and repository_key(source.url) == repository_key(hook.repository):
        found = work.keeper.insist(lambda: service.secrets.reveal([source.ssh_key], project=run.project))
        return found[source.ssh_key]
    held = work.keeper.insist(lambda: service.secrets.hold(run.project, named=[source.ssh_key]))
    sender = of_user(run.project, shown_sender(run.trigger.sender) or run.trigger.by)
    sifted = held.sifted(run_asks(run, sender, "", ""))
    if source.ssh_key in sifted.refused:
        raise DeniedError(
            f"the secret {source.ssh_key} does not open {source.url}: {sifted.refused[source.ssh_key]}",
            hint="the project's settings name its deploy key, or the secret's policy has the event `sent`",
        )
    return sifted.values[source.ssh_key]


def route_of(work: Work, source: GitSource) -> tuple[GitRemote, GitAccess]:
    """Where the run's repository is fetched from, and how. Raises InvalidRequestError, InvalidUrlError, SourceError."""
    settings = work.resources.service.settings
    usual = GitAccess(
        bounds_of(work.resources.settings),
        ssh=ssh_of(work, source),
        ca_file=str(settings.git_ca_file) if settings.git_ca_file else None,
        bounds=FetchSettings.from_environ(),
    )
    return way_to(source.url, usual, repositories(settings), served_of(work))


def remote_called(work: Work, url: str) -> GitRemote:
    """A repository by the name that it has here, whether this run may fetch it or not.

    Raises InvalidRequestError, InvalidUrlError, SourceError.
    """
    return name_of(url, repositories(work.resources.service.settings), served_of(work))


def client_for(work: Work, asks: RunAsks, tell: Callable[[str], object]) -> Client:
    """A client for registries, with the rights of the run's project, for as long as the attempt goes on.

    asks: the run. tell: of log-ins that are not for it.
    """
    return client_of(
        work.claim,
        asks,
        work.resources.service,
        work.resources.settings,
        cancelled=work.keeper.stopped,
        insist=work.keeper.insist,
        tell=tell,
    )


def in_registry(tag: str, registry: str) -> Reference:
    name = Reference.parse(tag).with_default_tag()
    if registry and not names_a_registry(name):
        return Reference.parse(f"{registry}/{name.familiar}")
    return name


def names_a_registry(name: Reference) -> bool:
    return name.familiar_name == name.name  # docker.io's names are shown without it
