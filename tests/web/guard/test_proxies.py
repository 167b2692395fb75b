"""What a reverse proxy says of its client is believed only from proxies that are trusted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pytest

from core.errors import SettingsError
from core.proxies import TrustedProxies
from web.guard.proxies import BehindProxies

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def seen(environ: dict[str, Any]) -> tuple[str, str]:
    """The address and scheme that the application sees."""
    inner: dict[str, Any] = {}

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        inner.update(environ)
        return []

    wrapped = BehindProxies(app, ["127.0.0.0/8", "10.1.0.0/16", "::1"])
    wrapped({"wsgi.url_scheme": "http", **environ}, lambda *_: lambda _: None)
    return inner["REMOTE_ADDR"], inner["wsgi.url_scheme"]


@pytest.mark.parametrize(
    ("remote", "forwarded", "proto", "expected"),
    [
        ("127.0.0.1", "", "", ("127.0.0.1", "http")),
        ("127.0.0.1", "203.0.113.7", "https", ("203.0.113.7", "https")),
        ("203.0.113.9", "198.51.100.1", "https", ("203.0.113.9", "http")),
        ("127.0.0.1", "1.2.3.4, 203.0.113.7", "https", ("203.0.113.7", "https")),  # the first is the client's invention
        ("127.0.0.1", "203.0.113.7, 10.1.2.3", "https, https", ("203.0.113.7", "https")),
        ("::1", "2001:db8::1", "HTTPS", ("2001:db8::1", "https")),
        ("::ffff:127.0.0.1", "203.0.113.7", "", ("203.0.113.7", "http")),
        ("127.0.0.1", "203.0.113.7, unknown", "gopher", ("127.0.0.1", "http")),
        ("127.0.0.1", " , ", "", ("127.0.0.1", "http")),
        ("", "203.0.113.7", "https", ("", "http")),
    ],
)
def test_client_is_the_last_address_that_no_trusted_proxy_has(
    remote: str, forwarded: str, proto: str, expected: tuple[str, str]
) -> None:
    environ = {"REMOTE_ADDR": remote, "HTTP_X_FORWARDED_FOR": forwarded, "HTTP_X_FORWARDED_PROTO": proto}
    assert seen(environ) == expected


def test_network_that_is_none_is_refused() -> None:
    with pytest.raises(SettingsError, match="SHIPLAP_TRUSTED_PROXIES"):
        BehindProxies(lambda *_: [], ["10.0.0.0/99"])


def test_network_may_be_written_by_any_of_its_addresses() -> None:
    proxies = TrustedProxies(["10.1.2.3/8"])
    assert [proxies.trusts(peer) for peer in ("10.9.9.9", "11.0.0.1", "", "here")] == [True, False, False, False]
    with pytest.raises(SettingsError, match=r"SHIPLAP_TRUSTED_PROXIES has 'proxy\.lan'") as refused:
        TrustedProxies(["proxy.lan"])
    assert refused.value.hint == "write addresses or networks: 10.0.0.1,172.16.0.0/12"
