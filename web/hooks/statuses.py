"""The thread of a web process that tells forges how runs go. It is here because web has the key of the tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.sources.git import reach
from pipelines.statuses.sending import SenderThread, StatusSender
from pipelines.statuses.transport import HttpTransport

if TYPE_CHECKING:
    from pipelines.service import Service


def status_thread(service: Service) -> SenderThread:
    """Not started yet."""
    settings = service.settings
    ca_file = str(settings.git_ca_file) if settings.git_ca_file else None
    transport = HttpTransport(reach(settings.git_allowed_hosts), ca_file=ca_file)
    sender = StatusSender(service.database, service.projects, transport, lambda run: run_url(service, run))
    return SenderThread(sender)


def run_url(service: Service, run: int) -> str:
    """The address of a run's page, for those who are elsewhere."""
    return f"{public_url(service)}/runs/{run}"


def public_url(service: Service) -> str:
    """Where this service is reached: as the administrator says, else where it listens on this machine."""
    if service.settings.public_url:
        return service.settings.public_url
    try:
        return (service.settings.root / "serve" / "url").read_text().strip()
    except FileNotFoundError:
        return "http://localhost:8080"
