"""Addresses of this service, and of its pages, for use from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipelines.addresses import listening_url

if TYPE_CHECKING:
    from pipelines.service import Service


_USUAL: Final = "http://localhost:8080"


def run_url(service: Service, run: int) -> str:
    """The address of a run's page, for use from elsewhere."""
    return f"{public_url(service)}/runs/{run}"


def public_url(service: Service) -> str:
    """The address of this service: the administrator's setting, else where the service listens on this machine."""
    return service.settings.public_url or listening_url(service.settings.root) or _USUAL
