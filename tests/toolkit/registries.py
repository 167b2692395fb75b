"""Debian's docker-registry on a loopback port, in all the ways that people run it; and a token service for it."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.toolkit.foreign import run_tool
from tests.toolkit.ports import free_port


@dataclass(frozen=True, slots=True)
class DebianRegistry:
    """A running docker-registry. host: ``127.0.0.1:PORT``. storage: its directory."""

    host: str
    storage: Path
    log: Path


@contextlib.contextmanager
def debian_registry(
    directory: Path, config: Mapping[str, Any] | None = None, *, scheme: str = "http"
) -> Iterator[DebianRegistry]:
    """Run docker-registry below ``directory``. config: members to add to its configuration (JSON is YAML)."""
    program = shutil.which("docker-registry")
    assert program, "docker-registry is not installed: scripts/install-debian test"
    port = free_port()
    storage = directory / "storage"
    more = dict(config or {})
    settings = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}, "delete": {"enabled": True}},
        **more,
        "http": {"addr": f"127.0.0.1:{port}", **more.get("http", {})},
    }
    file = directory / "config.yml"
    file.write_text(json.dumps(settings))
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([program, "serve", file], stdout=output, stderr=output)
    try:
        _wait_for(port, process, log)
        yield DebianRegistry(f"127.0.0.1:{port}", storage, log)
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"docker-registry did not start:\n{log.read_text()}")


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA made for a test, and certificates that it signed: paths of PEM files."""

    directory: Path
    ca: Path

    def issue(self, name: str, *, sans: str = "") -> tuple[Path, Path]:
        """A certificate and its key."""
        key, request, certificate = (self.directory / f"{name}.{end}" for end in ("key", "csr", "pem"))
        run_tool(
            "openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={name}"
        )
        extensions = self.directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={sans}\n" if sans else "keyUsage=digitalSignature\n")
        run_tool(
            *("openssl", "x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.directory / "ca.key"),
            *("-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", certificate),
        )
        return certificate, key


def make_authority(directory: Path) -> Authority:
    directory.mkdir(parents=True, exist_ok=True)
    run_tool(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Shiplap test CA"),
        *("-addext", "keyUsage=critical,keyCertSign,digitalSignature"),
        *("-keyout", directory / "ca.key", "-out", directory / "ca.pem"),
    )
    return Authority(directory, directory / "ca.pem")


@dataclass
class TokenService:
    """Issues tokens that docker-registry accepts. alice (password "s3cret") may do all; others may pull ``public/``.

    asked: the scopes of each request for a token. stale: how many tokens to issue that have expired already.
    """

    realm: str
    key: Path
    certificate: Path
    refresh_token: str = "a-refresh-token"
    asked: list[tuple[str, ...]] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    stale: int = 0

    @property
    def registry_config(self) -> dict[str, Any]:
        token = {"realm": self.realm, "service": "test", "issuer": "test", "rootcertbundle": str(self.certificate)}
        return {"auth": {"token": token}}

    def answer(self, user: str, scopes: list[str], *, offline: bool) -> dict[str, Any]:
        self.asked.append(tuple(scopes))
        self.users.append(user)
        now = int(time.time())
        expires = now + 300
        if self.stale:
            self.stale -= 1
            expires = now - 3600
        claims = {
            "iss": "test",
            "sub": user,
            "aud": "test",
            "exp": expires,
            "nbf": now - 7200,
            "iat": now - 7200,
            "jti": str(len(self.asked)),
            "access": [access for scope in scopes if (access := self._access(user, scope))],
        }
        answer: dict[str, Any] = {"token": self._signed(claims), "expires_in": 300}
        if offline:
            answer["refresh_token"] = self.refresh_token
        return answer

    def _access(self, user: str, scope: str) -> dict[str, Any] | None:
        kind, name, actions = scope.split(":")
        allowed = set(actions.split(","))
        if user != "alice":
            allowed &= {"pull"} if name.startswith("public/") else set()
        return {"type": kind, "name": name, "actions": sorted(allowed)} if allowed else None

    def _signed(self, claims: dict[str, Any]) -> str:
        der = run_tool("openssl", "x509", "-in", self.certificate, "-outform", "PEM")
        chain = "".join(line for line in der.splitlines() if not line.startswith("-----"))
        header = {"typ": "JWT", "alg": "RS256", "x5c": [chain]}
        text = b".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self.key], input=text, capture_output=True, check=True
        ).stdout
        return (text + b"." + _base64url(signature)).decode()


@contextlib.contextmanager
def token_service(directory: Path) -> Iterator[TokenService]:
    authority = make_authority(directory)
    port = free_port()
    service = TokenService(f"http://127.0.0.1:{port}/token", directory / "ca.key", authority.ca)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            service.methods.append("GET")
            query = parse_qs(urlsplit(self.path).query)
            user = ""
            scheme, _, encoded = self.headers.get("Authorization", "").partition(" ")
            if scheme == "Basic":
                user, _, password = base64.b64decode(encoded).decode().partition(":")
                if (user, password) != ("alice", "s3cret"):
                    self._send(401, {"errors": [{"code": "UNAUTHORIZED", "message": "bad password"}]})
                    return
            self._send(200, service.answer(user, query.get("scope", []), offline="offline_token" in query))

        def do_POST(self) -> None:
            service.methods.append("POST")
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            if form["refresh_token"] != [service.refresh_token]:
                self._send(401, {})
                return
            scopes = form.get("scope", [""])[0].split()
            answer = service.answer("alice", scopes, offline=False)
            self._send(200, {"access_token": answer["token"], "expires_in": 300})

        def log_message(self, *arguments: object) -> None: ...

        def _send(self, status: int, document: dict[str, Any]) -> None:
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with serving(Handler, port):
        yield service


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # clients that hang up are what the tests are about
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler], port: int) -> Iterator[None]:
    """An HTTP server on this loopback port, while the block lasts."""
    server = _Server(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
