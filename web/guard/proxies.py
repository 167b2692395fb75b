"""What a reverse proxy says of the client: its address, and whether it came by https. Only from proxies we trust.

X-Forwarded-For grows at its end: the last address that is no trusted proxy's is the client's, and what stands before
it may be anybody's invention.  RFC 7239, 8.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from core.errors import SettingsError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class BehindProxies:
    """WSGI middleware that sets REMOTE_ADDR and wsgi.url_scheme."""

    def __init__(self, app: WSGIApplication, trusted: Sequence[str]) -> None:
        """trusted: addresses and networks. Raises SettingsError."""
        self._app = app
        self._trusted = [_network(text) for text in trusted]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self._trusts(environ.get("REMOTE_ADDR", "")):
            hops = [hop.strip() for hop in environ.get("HTTP_X_FORWARDED_FOR", "").split(",") if hop.strip()]
            while hops and _address(hops[-1]) is not None:
                environ["REMOTE_ADDR"] = hops.pop()
                if not self._trusts(environ["REMOTE_ADDR"]):
                    break
            scheme = environ.get("HTTP_X_FORWARDED_PROTO", "").rpartition(",")[2].strip().lower()
            if scheme in ("http", "https"):
                environ["wsgi.url_scheme"] = scheme
        return self._app(environ, start_response)

    def _trusts(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._trusted)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise SettingsError(
            f"SHIPLAP_TRUSTED_PROXIES has {text!r}", hint="write addresses or networks: 10.0.0.1,172.16.0.0/12"
        ) from error
