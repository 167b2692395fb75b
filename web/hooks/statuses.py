"""The thread of a web process that sends runs' statuses to forges. Only web has the key of the tokens for that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.sources.git import reach
from pipelines.statuses.sending import SenderThread, StatusSender
from pipelines.statuses.transport import HttpTransport
from web.addresses import run_url

if TYPE_CHECKING:
    from pipelines.service import Service


def status_thread(service: Service) -> SenderThread:
    """The thread, not started yet."""
    settings = service.settings
    ca_file = str(settings.git_ca_file) if settings.git_ca_file else None
    transport = HttpTransport(reach(settings.git_allowed_hosts), ca_file=ca_file)
    sender = StatusSender(service.database, service.projects, transport, lambda run: run_url(service, run))
    return SenderThread(sender)
