"""The service's own addresses, which tell its own registry from one outside."""

from __future__ import annotations

import contextlib
from pathlib import Path
from urllib.parse import urlsplit

from core.settings import ServiceSettings


def listening_url(root: Path) -> str:
    """The address of the web process of this root; empty where there is none."""
    with contextlib.suppress(OSError):
        return (root / "serve" / "url").read_text(encoding="utf-8").strip()
    return ""


def own_registries(settings: ServiceSettings) -> frozenset[str]:
    """The names of the service's own registry, HOST[:PORT]: by setting, in public, and on this machine.

    The registry that SHIPLAP_REGISTRY names may all the same be one outside.
    """
    urls = (listening_url(settings.root), settings.public_url)
    return frozenset((settings.registry, *(urlsplit(url).netloc.lower() for url in urls))) - {""}


def plain_registries(settings: ServiceSettings) -> tuple[str, ...]:
    """SHIPLAP_REGISTRY, where the service is known to answer there without TLS, and to have no TLS in public.

    Any other registry may be a stranger's. It has to show a certificate before it learns a password.
    """
    known = map(urlsplit, (listening_url(settings.root), settings.public_url, settings.web_url))
    schemes = {parts.scheme for parts in known if parts.netloc.lower() == settings.registry.lower()}
    return (settings.registry,) if settings.registry and schemes == {"http"} else ()
