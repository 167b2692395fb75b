"""Whether a registry shows an image to anybody: then what is made of it is nobody's secret."""

from __future__ import annotations

from typing import Final

from core.digests import Digest
from core.references import Reference
from images.store import Store
from registry.client.client import Client
from registry.client.repository import Repository
from registry.errors import RegistryError, TransferCancelledError

_SHOWN: Final = "registry.shown"  # memo: NAME@DIGEST that a registry has shown to somebody without credentials


def shown_to_anybody(reference: Reference, digest: Digest, store: Store, client: Client) -> bool:
    """Whether the registry shows what was pulled from it, ``digest``, without credentials too.

    Asked once for each digest that it does show. A registry that does not answer shows nothing.
    """
    endpoints = client.endpoints(reference, mirrors=True)
    if not any(client.auth.has_credentials(endpoint.credentials_for) for endpoint in endpoints):
        return True  # it has just done so
    key = f"{reference.name}@{digest}"
    if store.cache.memo_get(_SHOWN, key) is not None:
        return True
    with client.without_credentials() as stranger:
        try:
            Repository(stranger, endpoints[-1], reference.path).resolve(str(digest))
        except TransferCancelledError:
            raise
        except RegistryError:
            return False
    store.cache.memo_put(_SHOWN, key, b"")
    return True
