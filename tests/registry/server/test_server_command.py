"""``shiplap registry``: serving, also with TLS, and managing users, tokens and garbage."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
import urllib3

from tests.registry.server.serving import Server, digest_of, serving
from tests.toolkit.bounds import stretched
from tests.toolkit.shiplap import Shiplap


def _add_user(shiplap: Shiplap, name: str, *rights: str) -> None:
    shiplap("registry", "user", "add", name, *rights, "--password-stdin", stdin="correct horse\n")


def _basic(user: str, password: str) -> dict[str, str]:
    return dict(urllib3.make_headers(basic_auth=f"{user}:{password}"))


def test_serve_and_stop(server: Server) -> None:
    assert server("GET", "/v2/").status == 200
    assert server.stop() == 0


def test_serve_asks_for_passwords_once_there_are_users(server: Server) -> None:
    assert server("GET", "/v2/").status == 200
    shiplap = Shiplap(server.root)
    _add_user(shiplap, "alice", "*:*")
    assert server("GET", "/v2/").status == 401
    assert server("GET", "/v2/", headers=_basic("alice", "correct horse")).status == 200
    secret = shiplap("registry", "token", "create", "alice", "*:pull", "--days", "1").stdout.strip()
    assert server("GET", "/v2/", headers=_basic("alice", secret)).status == 200
    assert server("POST", "/v2/a/blobs/uploads/", headers=_basic("alice", secret)).status == 403


def test_serve_in_the_root_of_a_service_asks_for_passwords_unless_told_not_to(tmp_path: Path) -> None:
    (tmp_path / "serve").mkdir()
    (tmp_path / "serve" / "admin.token").write_text("shp_secret\n")
    with serving(tmp_path) as server:
        assert server("GET", "/v2/").status == 401
    with serving(tmp_path, "--insecure-no-auth") as server:
        assert server("GET", "/v2/").status == 200


def test_serve_refuses_other_machines_without_users(shiplap: Shiplap) -> None:
    refused = shiplap("registry", "serve", "--listen", "0.0.0.0:0", check=False)
    assert refused.returncode == 1
    assert "no users" in refused.stderr
    assert "--insecure-no-auth" in refused.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--listen", "nonsense"], "ADDRESS:PORT"),
        (["--tls-cert", "/nonexistent"], "--tls-key"),
        (["--tls-cert", "/nonexistent", "--tls-key", "/nonexistent"], "no such file"),
        (["--config", "/nonexistent"], "no such file"),
    ],
)
def test_serve_with_bad_options(shiplap: Shiplap, options: list[str], said: str) -> None:
    refused = shiplap("registry", "serve", *options, check=False)
    assert refused.returncode == 1
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_serve_on_an_address_in_use(server: Server) -> None:
    refused = Shiplap(server.root)("registry", "serve", "--listen", server.host, check=False)
    assert refused.returncode != 0
    assert "Traceback" not in refused.stderr


def test_serve_with_tls(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "1", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
            "-keyout", key, "-out", certificate,
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    data = bytes(range(256)) * 4000
    with serving(tmp_path / "root", "--tls-cert", str(certificate), "--tls-key", str(key)) as server:
        assert server.url.startswith("https://")
        server.http = urllib3.PoolManager(ca_certs=str(certificate), retries=False)
        path = f"/v2/a/blobs/uploads/?digest={digest_of(data)}"
        assert server("POST", path, body=data).status == 201
        assert server("GET", f"/v2/a/blobs/{digest_of(data)}").data == data
        part = server("GET", f"/v2/a/blobs/{digest_of(data)}", headers={"Range": "bytes=5-300000"})
        assert part.data == data[5:300001]


def test_slow_or_silent_clients_do_not_stop_others(server: Server) -> None:
    host, port = server.host.split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(100)]
    try:
        assert server("GET", "/v2/").status == 200
    finally:
        for connection in silent:
            connection.close()


def test_users_and_rights(shiplap: Shiplap) -> None:
    _add_user(shiplap, "alice", "team/*:pull,push", "*:pull")
    _add_user(shiplap, "bob")
    shiplap("registry", "user", "grant", "bob", "bob/*:*")
    shiplap("registry", "user", "grant", "everyone", "public/*:pull")
    shiplap("registry", "user", "revoke", "alice", "*")
    listed = json.loads(shiplap("registry", "user", "ls", "--json").stdout)
    assert listed == [
        {"name": "alice", "rights": ["team/*:pull,push"]},
        {"name": "bob", "rights": ["bob/*:delete,pull,push"]},
        {"name": "everyone", "rights": ["public/*:pull"]},
    ]
    assert "team/*:pull,push" in shiplap("registry", "user", "ls").stdout
    shiplap("registry", "user", "password", "bob", "--password-stdin", stdin="another one\n")
    shiplap("registry", "user", "rm", "bob")
    assert "bob" not in shiplap("registry", "user", "ls").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["user", "rm", "nobody"], "no user"),
        (["user", "add", "alice", "nonsense", "--password-stdin"], "no such action"),
        (["user", "add", "alice", ":pull", "--password-stdin"], "not a right"),
        (["user", "add", "alice"], "--password-stdin"),
        (["token", "create", "nobody"], "no user"),
        (["token", "rm", "nothing"], "no access token"),
        (["ls", "nobody/here"], "not known"),
    ],
)
def test_user_errors(shiplap: Shiplap, arguments: list[str], said: str) -> None:
    refused = shiplap("registry", *arguments, stdin="correct horse\n", check=False)
    assert refused.returncode == 1
    assert said in refused.stderr


def test_tokens(shiplap: Shiplap) -> None:
    _add_user(shiplap, "alice", "*:*")
    secret = shiplap("registry", "token", "create", "alice", "team/*:pull").stdout.strip()
    listed = json.loads(shiplap("registry", "token", "ls", "--json").stdout)
    assert [(token["user"], token["right"], token["expires"]) for token in listed] == [
        ("alice", "team/*:pull", "never")
    ]
    assert secret not in shiplap("registry", "token", "ls").stdout
    shiplap("registry", "token", "rm", listed[0]["id"])
    assert json.loads(shiplap("registry", "token", "ls", "--json").stdout) == []


def test_ls_and_gc(server: Server) -> None:
    shiplap = Shiplap(server.root)
    data = b"orphan" * 1000
    server("POST", f"/v2/team/app/blobs/uploads/?digest={digest_of(data)}", body=data)
    assert json.loads(shiplap("registry", "ls", "--json").stdout) == [{"name": "team/app", "tags": 0, "size": 6000}]
    assert "team/app" in shiplap("registry", "ls").stdout
    assert json.loads(shiplap("registry", "ls", "team/app", "--json").stdout) == []
    assert "removed 0 tags, 0 manifests, 0 blobs" in shiplap("registry", "gc").stdout
    collected = shiplap("registry", "gc", "--grace", "0").stdout
    assert f"unlinked blob: team/app@{digest_of(data)}" in collected
    assert "removed 0 tags, 0 manifests, 1 blobs" in collected
    assert server("HEAD", f"/v2/team/app/blobs/{digest_of(data)}").status == 404
    assert not (server.root / "blobs" / "sha256" / digest_of(data).hex).exists()


def test_tls_at_a_plain_port_is_told_so(server: Server) -> None:
    address = ("127.0.0.1", int(server.host.rpartition(":")[2]))
    for half in (b"\x16", b"\x16\x03\x01\x00\x0a\x0a\x0a"):  # and then nothing more
        with socket.create_connection(address, timeout=stretched(30)) as peer, peer.makefile("rb") as answer:
            peer.sendall(half)
            assert answer.readline() == b"HTTP/1.0 400 Bad Request\r\n"
            assert answer.read().endswith(b"and a TLS handshake came.\n")
    with socket.create_connection(address, timeout=stretched(30)) as peer, pytest.raises(ssl.SSLError) as caught:
        ssl.create_default_context().wrap_socket(peer, server_hostname="127.0.0.1")
    assert not isinstance(caught.value, ssl.SSLEOFError)  # what comes is no TLS: clients know that for plain HTTP
    assert server("GET", "/v2/").status == 200
