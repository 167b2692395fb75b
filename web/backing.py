"""What stands behind an application: the objects that its views read through.

``create_app`` puts them in once; they are looked up by the application of the request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from flask import Flask, current_app

from web.errors import NotFoundError

if TYPE_CHECKING:
    from pipelines.service import Service
    from registry.server.registry import Registry
    from web.hub import Hub
    from web.identities import Provider

PROVIDER: Final = "shiplap-oidc"
"""Where the application keeps its provider of identities; nothing there: no such sign-in."""

_SERVICE: Final = "shiplap-service"
_REGISTRY: Final = "shiplap-registry"
_HUB: Final = "shiplap"


def attach(
    app: Flask, service: Service, hub: Hub, *, registry: Registry | None = None, identities: Provider | None = None
) -> None:
    """Say what ``app`` serves from. The caller closes all of it, after the last request."""
    app.extensions[_SERVICE] = service
    app.extensions[_HUB] = hub
    app.extensions[_REGISTRY] = registry
    app.extensions[PROVIDER] = identities


def service() -> Service:
    """The ``Service`` behind this application."""
    return cast("Service", current_app.extensions[_SERVICE])


def hub() -> Hub:
    """Where logs are followed."""
    return hub_of(current_app)


def hub_of(app: Flask) -> Hub:
    """Where the logs of ``app`` are followed, for who is outside a request."""
    return cast("Hub", app.extensions[_HUB])


def registry() -> Registry:
    """The registry beside this application. Raises NotFoundError where there is none."""
    found = current_app.extensions[_REGISTRY]
    if found is None:
        raise NotFoundError("this web process has no registry", hint="shiplap serve and shiplap web have one")
    return cast("Registry", found)


def provider() -> Provider | None:
    """By whom people sign in besides passwords; None: by nobody."""
    return cast("Provider | None", current_app.extensions.get(PROVIDER))
