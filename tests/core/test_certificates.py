"""Certificates that are not trusted, each with a hint of its own; and the place where a CA makes them trusted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.remote.http import Client
from cli.remote.servers import Server
from core.errors import ShiplapError
from pipelines.sources.upstream import Upstream
from tests.toolkit.certificates import DAY, NOW, certificate, serving


def by_command(host: str, places: tuple[Path, ...]) -> object:
    with Client(Server(f"https://{host}", "", places)) as client:
        return client.call("GET", "/whoami")


def by_worker(host: str, places: tuple[Path, ...]) -> object:
    return Upstream(f"https://{host}", "", places).manifest("sha256:0")


CLIENTS = pytest.mark.parametrize("ask", [by_command, by_worker])


@CLIENTS
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "its issuer, CN=Acme Root\ufffd, is not known here: put that CA's certificate into {place}/ca.crt"),
        ({"issuer": "localhost"}, "the certificate is signed by itself (CN=localhost); if it is the right one, put it"),
        ({"begins": -9, "ends": -2}, "the certificate has expired (it ended on {ended}): renew it"),
        ({"begins": 2}, "the certificate is not yet valid (it begins on"),
        ({"name": "ci.example"}, "use a name that the certificate was made for: ci.example"),
    ],
    ids=["unknown issuer", "self-signed", "expired", "not yet valid", "another name"],
)
def test_hint_for_a_certificate_fits_what_is_wrong_with_it(
    tmp_path: Path, ask: Callable[..., object], options: dict[str, object], told: str
) -> None:
    given = {"issuer": "Acme Root\x1b", "name": "localhost", "begins": -1, "ends": 9, **options}
    file, issuer = certificate(tmp_path, **given)  # type: ignore[arg-type]
    with serving(file) as host:
        place = tmp_path / "certs.d" / host
        if options and "issuer" not in options:  # it would be trusted but for that
            place.mkdir(parents=True)
            (place / "ca.crt").write_bytes(issuer.read_bytes())
        with pytest.raises(ShiplapError) as caught:
            ask(host, (tmp_path / "none", tmp_path / "certs.d"))
    assert f"https://{host}" in caught.value.message
    ended = (NOW - 2 * DAY).strftime("%Y-%m-%d")
    assert told.format(place=place, ended=ended) in str(caught.value.hint)


@CLIENTS
def test_service_of_an_unknown_ca_is_trusted_by_certs_d(tmp_path: Path, ask: Callable[..., object]) -> None:
    file, issuer = certificate(tmp_path, "Acme Root", name="localhost", begins=-1, ends=9)
    with serving(file) as host:
        (tmp_path / "certs.d" / host).mkdir(parents=True)
        (tmp_path / "certs.d" / host / "ca.crt").write_bytes(issuer.read_bytes())
        assert ask(host, (tmp_path / "certs.d",)) in ([], b"[]")
