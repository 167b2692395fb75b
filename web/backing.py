"""The objects behind an application, through which its views read.

``create_app`` puts them in once. A request looks them up by its application.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from flask import Flask, current_app

from pipelines.examination.together import Examiner
from pipelines.keeping.directory import BackupDirectory
from web.engines.engines import ContainerEngine
from web.errors import NotFoundError

if TYPE_CHECKING:
    from pipelines.service import Service
    from registry.server.browse import Browser
    from registry.server.registry import Registry
    from web.identities import Provider
    from web.loghub import Hub

PROVIDER: Final = "shiplap-oidc"
"""The key of an application's provider of identities; without it nobody can sign in so."""

_ADMINISTRATION: Final = "shiplap-administration"
_SERVICE: Final = "shiplap-service"
_REGISTRY: Final = "shiplap-registry"
_HUB: Final = "shiplap"
_ENGINE: Final = "shiplap-engine"
_BROWSER: Final = "shiplap-browser"


class Administration(NamedTuple):
    """What the page of the service, and its part of the API, work with.

    started_at: when this process began to serve, in seconds since the epoch.
    """

    started_at: float
    backups: BackupDirectory
    examiner: Examiner


def attach(
    app: Flask, service: Service, hub: Hub, *, registry: Registry | None = None, identities: Provider | None = None
) -> None:
    """Set what ``app`` serves from. The caller closes all of it, after the last request."""
    app.extensions[_SERVICE] = service
    app.extensions[_HUB] = hub
    app.extensions[_REGISTRY] = registry
    app.extensions[PROVIDER] = identities
    app.extensions[_ADMINISTRATION] = Administration(
        time.time(), BackupDirectory(service.settings), Examiner(service.settings)
    )
    app.extensions[_ENGINE] = ContainerEngine(service.settings.engine) if service.settings.engine else None


def service() -> Service:
    """The ``Service`` behind this application."""
    return cast("Service", current_app.extensions[_SERVICE])


def hub() -> Hub:
    """The ``Hub`` of this application, where logs are followed."""
    return hub_of(current_app)


def hub_of(app: Flask) -> Hub:
    """The ``Hub`` of ``app``, for use outside a request."""
    return cast("Hub", app.extensions[_HUB])


def registry() -> Registry:
    """The registry beside this application. Raises NotFoundError where there is none."""
    found = current_app.extensions[_REGISTRY]
    if found is None:
        raise NotFoundError("this web process has no registry", hint="shiplap serve and shiplap web have one")
    return cast("Registry", found)


def administration() -> Administration:
    """What the service's page works with."""
    return cast("Administration", current_app.extensions[_ADMINISTRATION])


def engine() -> ContainerEngine | None:
    """The engine whose containers the pages show; None: none was named."""
    return cast("ContainerEngine | None", current_app.extensions[_ENGINE])


def browser() -> Browser:
    """The browser of this application's registry, with what it read of layers. Raises NotFoundError without one."""
    from builder.attesting.packages import databases
    from registry.server.browse import Browser

    found = current_app.extensions.get(_BROWSER)
    if found is None:
        found = current_app.extensions[_BROWSER] = Browser(registry(), databases)
    return cast("Browser", found)


def provider() -> Provider | None:
    """The provider by which people sign in, in addition to passwords; None: there is none."""
    return cast("Provider | None", current_app.extensions.get(PROVIDER))
