"""The registry server: distribution-spec 1.1 over the local store. Knows nothing of builds, nor of who mounts it.

``create_app`` makes the WSGI application; ``serve`` runs it under gunicorn. Flask is imported only then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from images.store import Store
    from registry.server.settings import ServerSettings


def create_app(store: Store, settings: ServerSettings) -> Flask:
    """The WSGI application of the store's registry: everything below ``/v2/``. The caller closes the store.

    Its ``extensions["shiplap-registry"]`` is the Registry, to be closed after the last request.
    """
    from registry.server.app import application
    from registry.server.registry import Registry

    return application(Registry(store, settings))
