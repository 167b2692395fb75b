"""Certificates that are not trusted, each with a hint of its own; and the place where a CA makes them trusted."""

from __future__ import annotations

import datetime
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cli.remote.http import Client
from cli.remote.servers import Server
from core.errors import ShiplapError
from pipelines.sources.upstream import Upstream

_NOW = datetime.datetime.now(datetime.UTC)
_DAY = datetime.timedelta(days=1)


def certificate(directory: Path, issuer: str, *, name: str, begins: int, ends: int) -> tuple[Path, Path]:
    """For ``name``, by an issuer of its own; the file of both with the key, and the issuer's. begins, ends: in days."""
    keys = {who: ec.generate_private_key(ec.SECP256R1()) for who in (issuer, name)}
    made = {}
    for who, by in ((issuer, issuer), (name, issuer)):
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, who)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, by)]))
            .public_key(keys[who].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_NOW + begins * _DAY)
            .not_valid_after(_NOW + ends * _DAY)
            .add_extension(x509.BasicConstraints(ca=who == by, path_length=None), critical=True)
        )
        if who == name:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        made[who] = builder.sign(keys[by], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = keys[name].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "server.pem").write_bytes(made[name] + private)
    (directory / "issuer.pem").write_bytes(made[issuer])
    return directory / "server.pem", directory / "issuer.pem"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(file: Path) -> Iterator[str]:
    """HOST:PORT of a server that shows this certificate."""

    class Server(HTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # who does not trust it goes away

    server = Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


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
    ended = (_NOW - 2 * _DAY).strftime("%Y-%m-%d")
    assert told.format(place=place, ended=ended) in str(caught.value.hint)


@CLIENTS
def test_service_of_an_unknown_ca_is_trusted_by_certs_d(tmp_path: Path, ask: Callable[..., object]) -> None:
    file, issuer = certificate(tmp_path, "Acme Root", name="localhost", begins=-1, ends=9)
    with serving(file) as host:
        (tmp_path / "certs.d" / host).mkdir(parents=True)
        (tmp_path / "certs.d" / host / "ca.crt").write_bytes(issuer.read_bytes())
        assert ask(host, (tmp_path / "certs.d",)) in ([], b"[]")
