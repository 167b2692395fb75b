"""Who may do what: htpasswd, tokens, TLS and client certificates, at Debian's docker-registry."""

from __future__ import annotations

import io
import json
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.references import Reference
from images.store import Store
from images.summary import Image
from registry.client import Client, ClientConfig, login, logout, pull, push
from registry.client.auth import Authenticator
from registry.client.http import Request, Response
from registry.credentials import Credentials, CredentialStore
from registry.errors import CredentialsError, NotFoundError, ResponseError, TlsError, UnauthorizedError
from tests.toolkit.foreign import run_tool
from tests.toolkit.registries import Authority, DebianRegistry, TokenService, debian_registry, token_service

_MakeImage = Callable[..., Image]
_ClientFor = Callable[..., Client]
ALICE = Credentials("alice", "s3cret")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    """Basic authorization by an htpasswd file."""
    directory = tmp_path_factory.mktemp("guarded")
    passwords = directory / "htpasswd"
    passwords.write_text(run_tool("htpasswd", "-Bbn", "alice", "s3cret"))
    with debian_registry(directory, {"auth": {"htpasswd": {"realm": "test", "path": str(passwords)}}}) as registry:
        yield registry


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[tuple[DebianRegistry, TokenService]]:
    """Bearer tokens from a token service."""
    directory = tmp_path / "tokens"
    with token_service(directory) as service, debian_registry(directory, service.registry_config) as registry:
        yield registry, service


def test_basic_credentials_open_the_registry(
    guarded: DebianRegistry, store: Store, client_for: _ClientFor, make_image: _MakeImage
) -> None:
    name = Reference.parse(f"{guarded.host}/basic:1")
    make_image(store, str(name))
    with pytest.raises(UnauthorizedError) as caught:
        push(name, store, client=client_for())
    assert caught.value.hint == f"it may need credentials: shiplap login {guarded.host}"
    pushed = push(name, store, client=client_for(credentials=ALICE))
    assert pull(name, store, client=client_for(credentials=ALICE)).digest == pushed.digest
    with pytest.raises(UnauthorizedError) as caught:
        pull(name, store, client=client_for(credentials=Credentials("alice", "wrong")))
    assert caught.value.hint == f"the stored credentials do not suffice: shiplap login {guarded.host}"


def test_login_stores_what_works_and_skopeo_reads_it(guarded: DebianRegistry, docker_config: Path) -> None:
    config = ClientConfig(docker_config)
    with pytest.raises(UnauthorizedError, match="does not accept these credentials"):
        login(guarded.host, "alice", "wrong", config=config)
    assert not (docker_config / "config.json").exists()
    done = login(guarded.host, "alice", "s3cret", config=config)
    file = docker_config / "config.json"
    assert done.stored_in == str(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    run_tool("skopeo", "login", "--get-login", "--authfile", file, "--tls-verify=false", guarded.host)
    assert logout(guarded.host, config=config)
    assert not logout(guarded.host, config=config)
    assert json.loads(file.read_text()) == {"auths": {}}


def test_login_by_skopeo_is_used(
    guarded: DebianRegistry, docker_config: Path, store: Store, client_for: _ClientFor, make_image: _MakeImage
) -> None:
    file = docker_config / "config.json"
    run_tool(
        *("skopeo", "login", "-u", "alice", "-p", "s3cret", "--tls-verify=false", "--authfile", file), guarded.host
    )
    name = Reference.parse(f"{guarded.host}/by-skopeo:1")
    make_image(store, str(name))
    push(name, store, client=client_for())


def test_tokens_have_the_scopes_that_are_needed_and_are_fetched_once(
    tokens: tuple[DebianRegistry, TokenService],
    store: Store,
    other_store: Store,
    client_for: _ClientFor,
    make_image: _MakeImage,
) -> None:
    registry, service = tokens
    first = Reference.parse(f"{registry.host}/alice/app:1")
    second = Reference.parse(f"{registry.host}/alice/copy:1")
    image = make_image(store, str(first), layers=6)
    push(first, store, client=client_for(credentials=ALICE))
    assert service.asked == [("repository:alice/app:pull,push",)]
    service.asked.clear()
    store.images.tag(second, image.id)
    push(second, store, client=client_for(credentials=ALICE))
    assert sorted(service.asked) == [
        ("repository:alice/app:pull", "repository:alice/copy:pull,push"),
        ("repository:alice/copy:pull,push",),
    ]
    service.asked.clear()
    pull(first, other_store, client=client_for(credentials=ALICE))
    assert service.asked == [("repository:alice/app:pull",)]


def test_everybody_may_pull_what_is_public_and_nothing_else(
    tokens: tuple[DebianRegistry, TokenService], store: Store, client_for: _ClientFor, make_image: _MakeImage
) -> None:
    registry, service = tokens
    for path in ("public/app", "alice/app"):
        make_image(store, f"{registry.host}/{path}:1")
        push(Reference.parse(f"{registry.host}/{path}:1"), store, client=client_for(credentials=ALICE))
    service.users.clear()
    pull(Reference.parse(f"{registry.host}/public/app:1"), store, client=client_for())
    assert service.users == [""]
    with pytest.raises(UnauthorizedError, match="alice/app"):
        pull(Reference.parse(f"{registry.host}/alice/app:1"), store, client=client_for())
    with pytest.raises(UnauthorizedError):
        push(Reference.parse(f"{registry.host}/public/app:1"), store, client=client_for())


def test_token_that_is_refused_is_replaced(
    tokens: tuple[DebianRegistry, TokenService], store: Store, client_for: _ClientFor, make_image: _MakeImage
) -> None:
    registry, service = tokens
    service.stale = 1
    name = Reference.parse(f"{registry.host}/alice/stale:1")
    make_image(store, str(name))
    push(name, store, client=client_for(credentials=ALICE))
    assert len(service.asked) == 2


def test_login_at_a_token_service_stores_an_identity_token_that_works(
    tokens: tuple[DebianRegistry, TokenService],
    docker_config: Path,
    store: Store,
    client_for: _ClientFor,
    make_image: _MakeImage,
) -> None:
    registry, service = tokens
    login(registry.host, "alice", "s3cret", config=ClientConfig(docker_config))
    assert CredentialStore(docker_config).get(registry.host) == Credentials("alice", "", service.refresh_token)
    assert "s3cret" not in (docker_config / "config.json").read_text()
    service.methods.clear()
    name = Reference.parse(f"{registry.host}/alice/identity:1")
    make_image(store, str(name))
    push(name, store, client=client_for())
    assert service.methods == ["POST"]


def test_wrong_password_at_the_token_service(
    tokens: tuple[DebianRegistry, TokenService], store: Store, client_for: _ClientFor
) -> None:
    registry, _ = tokens
    with pytest.raises(UnauthorizedError, match="bad password") as caught:
        pull(Reference.parse(f"{registry.host}/x"), store, client=client_for(credentials=Credentials("alice", "no")))
    assert "no" not in caught.value.url


@pytest.fixture
def tls(tmp_path: Path, authority: Authority) -> Iterator[DebianRegistry]:
    certificate, key = authority.issue("registry", sans="IP:127.0.0.1")
    directory = tmp_path / "tls"
    directory.mkdir()
    config = {"http": {"tls": {"certificate": str(certificate), "key": str(key)}}}
    with debian_registry(directory, config) as registry:
        yield registry


def certs_d(tmp_path: Path, host: str, files: dict[str, Path]) -> Path:
    directory = tmp_path / "certs.d" / host
    directory.mkdir(parents=True)
    for name, source in files.items():
        (directory / name).write_bytes(source.read_bytes())
    return directory.parent


def test_registry_of_an_unknown_ca_is_trusted_by_certs_d(
    tls: DebianRegistry,
    authority: Authority,
    tmp_path: Path,
    store: Store,
    client_for: _ClientFor,
    make_image: _MakeImage,
) -> None:
    name = Reference.parse(f"{tls.host}/tls:1")
    make_image(store, str(name))
    with pytest.raises(TlsError, match="x509") as caught:
        push(name, store, client=client_for())
    assert caught.value.hint
    assert f"certs.d/{tls.host}/ca.crt" in caught.value.hint
    certificates = certs_d(tmp_path, tls.host, {"ca.crt": authority.ca})
    pushed = push(name, store, client=client_for(certificates=(certificates,)))
    assert pull(name, store, client=client_for(insecure=(tls.host,))).digest == pushed.digest
    seen = run_tool("skopeo", "inspect", "--cert-dir", certificates / tls.host, f"docker://{name}")
    assert json.loads(seen)["Digest"] == pushed.digest


def test_the_systems_cas_are_believed_on_loopback_too(
    tls: DebianRegistry,
    authority: Authority,
    store: Store,
    client: Client,
    make_image: _MakeImage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    name = Reference.parse(f"{tls.host}/tls:1")
    make_image(store, str(name))
    push(name, store, client=client)


def test_the_registrys_own_certificate_is_enough(
    tls: DebianRegistry, authority: Authority, tmp_path: Path, store: Store, client_for: _ClientFor
) -> None:
    certificates = certs_d(tmp_path, tls.host, {"own.crt": authority.directory / "registry.pem"})
    with pytest.raises(NotFoundError):
        pull(Reference.parse(f"{tls.host}/none"), store, client=client_for(certificates=(certificates,)))


def test_name_that_the_certificate_lacks_is_told(
    tls: DebianRegistry, authority: Authority, tmp_path: Path, store: Store, client_for: _ClientFor
) -> None:
    host = tls.host.replace("127.0.0.1", "localhost")
    certificates = certs_d(tmp_path, host, {"ca.crt": authority.ca})
    with pytest.raises(TlsError, match="localhost") as caught:
        pull(Reference.parse(f"{host}/x"), store, client=client_for(certificates=(certificates,)))
    assert caught.value.hint == "use a name that the certificate was made for: 127.0.0.1"


def test_client_certificate_is_shown(
    authority: Authority, tmp_path: Path, store: Store, client_for: _ClientFor, make_image: _MakeImage
) -> None:
    certificate, key = authority.issue("mutual", sans="IP:127.0.0.1")
    ours, our_key = authority.issue("client")
    directory = tmp_path / "mutual"
    directory.mkdir()
    tls_config: dict[str, Any] = {"certificate": str(certificate), "key": str(key), "clientcas": [str(authority.ca)]}
    with debian_registry(directory, {"http": {"tls": tls_config}}) as registry:
        name = Reference.parse(f"{registry.host}/mutual:1")
        make_image(store, str(name))
        without = certs_d(tmp_path / "without", registry.host, {"ca.crt": authority.ca})
        with pytest.raises((TlsError, ResponseError)) as caught:
            push(name, store, client=client_for(certificates=(without,)))
        assert "certificate" in caught.value.message.lower()
        files = {"ca.crt": authority.ca, "client.cert": ours, "client.key": our_key}
        push(name, store, client=client_for(certificates=(certs_d(tmp_path / "with", registry.host, files),)))


@pytest.mark.parametrize(
    ("alert", "told", "hint"),
    [(40, "TLS failed: ", None), (70, "TLS failed: ", None), (42, "wants a client certificate: ", "client.cert")],
    ids=["handshake failure", "protocol version", "bad certificate"],
)
def test_only_an_alert_about_the_certificate_is_taken_for_the_wish_for_one(
    alert: int, told: str, hint: str | None, store: Store, client: Client
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"

        def answer() -> None:
            for _ in ("plain HTTP, which a port of this machine is asked first", "TLS"):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(bytes([21, 3, 3, 0, 2, 2, alert]))

        server = threading.Thread(target=answer)
        server.start()
        with pytest.raises(TlsError, match=f"{host}.* {told}") as caught:
            pull(Reference.parse(f"{host}/x:1"), store, client=client)
        server.join()
    assert (hint or "") in (caught.value.hint or "")
    assert (hint is None) == (caught.value.hint is None)


def test_credentials_are_not_sent_to_a_plain_token_service_elsewhere(tmp_path: Path) -> None:
    def send(request: Request, domain: str) -> Response:
        raise AssertionError(f"sent {request.url} for {domain}")

    auth = Authenticator(send, lambda domain: ALICE, ClientConfig(tmp_path))
    auth.learn("ci", "https://ci", 'Bearer realm="http://evil.example/token"')
    with pytest.raises(CredentialsError, match=r"evil\.example"):
        auth.header("ci", "https://ci", ("repository:x:pull",))


class _Granted:
    """What a token service answers; ``said`` besides the token."""

    status = 200

    def __init__(self, said: dict[str, Any]) -> None:
        self.headers: dict[str, str] = {}
        self._body = io.BytesIO(json.dumps({"token": "t", **said}).encode())

    def read(self, size: int, /) -> bytes:
        return self._body.read(size)

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("said", "lasts_s"),
    [
        ({}, 60),
        ({"expires_in": None}, 60),
        ({"expires_in": 0}, 60),
        ({"expires_in": 5}, 60),
        ({"expires_in": 300}, 300),
    ],
)
def test_token_is_used_while_it_is_good_and_for_a_minute_at_least(
    said: dict[str, Any], lasts_s: float, tmp_path: Path
) -> None:
    """A minute is what a token is good for whose service does not say it."""
    now, asked = 0.0, 0

    def send(request: Request, domain: str) -> Response:
        nonlocal asked
        asked += 1
        return _Granted(said)

    auth = Authenticator(send, lambda domain: None, ClientConfig(tmp_path), clock=lambda: now)
    auth.learn("ci", "https://ci", 'Bearer realm="https://ci/token"')
    for moment, times in ((0.0, 1), (lasts_s / 2, 1), (lasts_s, 2)):
        now = moment
        assert auth.header("ci", "https://ci", ("repository:x:pull",)) == "Bearer t"
        assert asked == times
