"""Clients for registries, as a run uses them: with the rights of the run's project, never with the worker's own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from containers.hubrules import parse_networks
from core.reach import Reach
from core.settings import RegistrySettings
from pipelines.addresses import plain_registries
from pipelines.model import Claim
from pipelines.owning.policies import RunAsks
from pipelines.service import Service
from pipelines.sources.git import reach
from registry.client import Client, ClientConfig, RetryPolicy
from registry.credentials import Credentials
from worker.credentials import RunCredentials
from worker.processresources import WorkerSettings

T = TypeVar("T")
_TRIES: Final = 4


class Insist(Protocol):
    """Asks the database again for as long as that makes sense. Raises what the question raises."""

    def __call__(self, ask: Callable[[], T], /) -> T: ...


def bounds_of(settings: WorkerSettings) -> Reach:
    """The hosts that anything in a run may fetch from."""
    return reach(settings.service.git_allowed_hosts, denied=parse_networks(settings.steps.denied_networks))


def client_of(
    claim: Claim,
    asks: RunAsks,
    service: Service,
    settings: WorkerSettings,
    *,
    cancelled: threading.Event,
    insist: Insist,
    tell: Callable[[str], object],
) -> Client:
    """A client with the log-ins of the run's project that are for the run. tell: see ``RunCredentials``.

    It reaches what the run may reach, and the service's own registry, wherever that is and by any of its names.
    """
    registries, config = service.registries(), _config(service, settings)

    def answers_as_ours(domain: str) -> bool:
        return client.is_ours(config.endpoints(domain, mirrors=False)[0])

    found = RunCredentials(
        claim, service.grants, service.logins, registries=registries, answers_as_ours=answers_as_ours,
        docker_config=config.docker_config, asks=asks, tell=tell,
    )  # fmt: skip
    client = Client(config, credentials=lambda domain: insist(lambda: found.find(domain)), cancelled=cancelled)
    return client


def outputs_client(token: str, service: Service, settings: WorkerSettings, *, cancelled: threading.Event) -> Client:
    """A client for what jobs output, by a token of ``pipelines.accounts.outputtokens``: the service's registry alone.

    It gives up soon: what cannot be sent or fetched now is done later.
    """
    registries, config = service.registries(), _config(service, settings)

    def find(domain: str) -> Credentials | None:
        is_ours = domain in registries and client.is_ours(config.endpoints(domain, mirrors=False)[0])
        return Credentials("outputs", token) if is_ours else None

    client = Client(config, credentials=find, policy=RetryPolicy(_TRIES, 0.3, 3.0), cancelled=cancelled)
    return client


def _config(service: Service, settings: WorkerSettings) -> ClientConfig:
    bounds = bounds_of(settings).allowing(*service.registries())
    root, plain = service.settings.root, plain_registries(service.settings)
    found = ClientConfig.load(RegistrySettings.from_environ(), root, insecure=plain, reach=bounds)
    return found._replace(login="shiplap grant login")
