"""The address of one-time links."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import request

if TYPE_CHECKING:
    from pipelines.service import Service


def welcome_url(service: Service, user: str) -> str:
    """A new link by which ``user`` chooses a password. Raises NotFoundError."""
    return f"{base_url(service)}/welcome?link={service.links.create(user)}"


def base_url(service: Service) -> str:
    """This service's address for people: by the settings, else as this request reached it."""
    return service.settings.public_url or request.host_url.rstrip("/")
