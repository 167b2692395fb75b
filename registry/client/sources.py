"""Which repositories of a registry are known to have a blob: a push into another one can mount it from there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from core.digests import Digest
from core.references import Reference
from images.store import Store

_KIND: Final = "registry.source"
_MAX_SOURCES: Final = 3
_SEPARATOR: Final = "\n"


def sources_of(store: Store, reference: Reference, digest: Digest) -> list[str]:
    """Paths of repositories in the reference's registry that had the blob, the latest first; not its own."""
    return [path for path in _known(store, reference.domain, digest) if path != reference.path]


def remember_sources(store: Store, reference: Reference, digests: Iterable[Digest]) -> None:
    """Note that the reference's repository has these blobs."""
    noted = {}
    for digest in dict.fromkeys(digests):
        known = _known(store, reference.domain, digest)
        if known[:1] != [reference.path]:
            paths = list(dict.fromkeys((reference.path, *known)))[:_MAX_SOURCES]
            noted[f"{reference.domain} {digest}"] = _SEPARATOR.join(paths).encode()
    store.cache.memo_put_all(_KIND, noted)


def _known(store: Store, domain: str, digest: Digest) -> list[str]:
    data = store.cache.memo_get(_KIND, f"{domain} {digest}")
    return data.decode().split(_SEPARATOR) if data else []
