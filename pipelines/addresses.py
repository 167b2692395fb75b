"""Where the service itself is reached, which tells its own registry from one outside."""

from __future__ import annotations

import contextlib
from pathlib import Path
from urllib.parse import urlsplit

from core.settings import ServiceSettings


def listening_url(root: Path) -> str:
    """Of the web process of this root; empty where there is none."""
    with contextlib.suppress(OSError):
        return (root / "serve" / "url").read_text(encoding="utf-8").strip()
    return ""


def own_registries(settings: ServiceSettings) -> frozenset[str]:
    """The names of the service's own registry, HOST[:PORT]: by setting, in public, and on this machine.

    What SHIPLAP_REGISTRY names may be one outside all the same.
    """
    urls = (listening_url(settings.root), settings.public_url)
    return frozenset((settings.registry, *(urlsplit(url).netloc.lower() for url in urls))) - {""}


def plain_registries(settings: ServiceSettings) -> tuple[str, ...]:
    """SHIPLAP_REGISTRY, where the service itself is known to be there without TLS, and to have none in public.

    Any other one may be a stranger's, who is to show a certificate before he learns a password.
    """
    known = map(urlsplit, (listening_url(settings.root), settings.public_url, settings.web_url))
    schemes = {parts.scheme for parts in known if parts.netloc.lower() == settings.registry.lower()}
    return (settings.registry,) if settings.registry and schemes == {"http"} else ()
