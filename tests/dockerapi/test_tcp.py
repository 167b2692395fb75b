"""Over TCP: who shows a certificate, or a token, is the user of this host whom it names, and nobody else gets in."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core import duplex
from core.processes import descendants
from dockerapi.errors import ApiError
from dockerapi.tcp import gate as gates
from dockerapi.tcp import keeping
from dockerapi.tcp.gate import Gate
from dockerapi.tcp.naming import Named, read_head
from dockerapi.tcp.terms import Terms, TermsError
from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.certificates import Authority
from tests.toolkit.engineapi import Api
from tests.toolkit.shiplap import BUSYBOX_NAME, COMMAND, Shiplap

pytestmark = pytest.mark.usefixtures("privileged")

MEMBER, STRANGER, GROUP = 54321, 54323, 54399
_FILES = {
    "passwd": f"u{MEMBER}:x:{MEMBER}:{MEMBER}::/nowhere:/bin/sh\nu{STRANGER}:x:{STRANGER}:{STRANGER}::/x:/bin/sh\n",
    "group": f"shiplap:x:{GROUP}:u{MEMBER}\nu{MEMBER}:x:{MEMBER}:\nu{STRANGER}:x:{STRANGER}:\n",
}
_OWNERS = {"anas": "ana", "chiefs": "chief", "robots": None, "bobs": "bob", "readers": "chief"}


class _Service(BaseHTTPRequestHandler):
    """Knows whose tokens there are, as a Shiplap service does."""

    def do_GET(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        is_known = self.path == "/api/v1/whoami" and token in _OWNERS
        scopes = ["read"] if token == "readers" else ["build"]
        body = json.dumps({"name": "x", "scopes": scopes, "user": _OWNERS.get(token)}).encode()
        self.send_response(200 if is_known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Far:
    """An engine's API over TCP. port: of 127.0.0.1."""

    def __init__(self, api: Api, ca: Authority, port: int) -> None:
        self.api, self.ca, self.port = api, ca, port

    def docker(self, name: str, *words: str, stdin: bytes = b"", token: str = "") -> subprocess.CompletedProcess[bytes]:
        """docker's command line with a certificate for ``name``, "" for none."""
        folder = self.api.folder / f"client-{name or token or 'nobody'}"
        folder.mkdir(exist_ok=True)
        shutil.copy(self.ca.certificate, folder / "ca.pem")
        if name:
            for file, path in zip(("cert.pem", "key.pem"), self.ca.sign(name), strict=True):
                shutil.copy(path, folder / file)
        if token:
            (folder / "config.json").write_text(json.dumps({"HttpHeaders": {"Authorization": f"Bearer {token}"}}))
        env = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "DOCKER_CONFIG": str(folder), "DOCKER_TLS_VERIFY": "1",
            "DOCKER_CERT_PATH": str(folder), "DOCKER_HOST": f"tcp://127.0.0.1:{self.port}{'/engine' if token else ''}",
        }  # fmt: skip
        return subprocess.run(["docker", *words], input=stdin, capture_output=True, env=env, timeout=stretched(120))

    def connect(self) -> ssl.SSLSocket:
        """A connection of somebody who shows no certificate."""
        context = ssl.create_default_context(cafile=self.ca.certificate)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        raw = socket.create_connection(("127.0.0.1", self.port), stretched(60))
        return context.wrap_socket(raw, server_hostname="127.0.0.1")

    def ask(self, path: str, token: str) -> tuple[int, str]:
        """A GET with a token, or without one; the status and the message."""
        context = ssl.create_default_context(cafile=self.ca.certificate)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        client = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=stretched(60))
        client.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = client.getresponse()
        text = answer.read().decode()
        client.close()
        return answer.status, text


@pytest.fixture(scope="module")
def far(busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    folder = Path(tempfile.mkdtemp(prefix="shiplap-far-", dir="/tmp"))
    folder.chmod(0o755)
    shutil.copytree("/etc", folder / "etc", symlinks=True)
    for name, more in _FILES.items():
        with open(folder / "etc" / name, "a") as file:
            file.write(more)
    (folder / "users").write_text(f"# of the service, of this host\nana u{MEMBER}\nchief root  # he may\n")
    ca = Authority(folder / "ca")
    cert, key = ca.sign("server")
    service = HTTPServer(("127.0.0.1", 0), _Service)
    threading.Thread(target=service.serve_forever, args=(0.02,), daemon=True).start()
    shiplap = Shiplap(tmp_path_factory.mktemp("far") / "root")
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    api = Api(shiplap, folder)
    api.start(
        prefix=("unshare", "--mount", "sh", "-ec", f'mount --bind {folder}/etc /etc; exec "$@"', "sh"),
        options=(
            "--listen", "tcp://127.0.0.1:0", "--tlscert", cert, "--tlskey", key, "--tlscacert", ca.certificate,
            "--tokens", f"http://127.0.0.1:{service.server_port}", "--token-users", folder / "users",
        ),
    )  # fmt: skip
    try:
        found = re.search(r"tcp://127\.0\.0\.1:(\d+)", api.log())
        assert found, api.log()
        yield Far(api, ca, int(found[1]))
    finally:
        service.shutdown()
        service.server_close()
        api.stop()
        shutil.rmtree(folder)


def test_a_certificate_is_who_it_names(far: Far) -> None:
    sent = os.urandom(3 << 20)
    ran = far.docker("root", "run", "-i", "--rm", BUSYBOX_NAME, "sh", "-c", "cat; echo done >&2; exit 7", stdin=sent)
    assert ran.stderr == b"done\n"  # what came after the end of its input
    assert hashlib.sha256(ran.stdout).digest() == hashlib.sha256(sent).digest()
    assert ran.returncode == 7
    assert BUSYBOX_NAME.encode() in far.docker("root", "images").stdout
    assert BUSYBOX_NAME.encode() not in far.docker(f"u{MEMBER}", "images").stdout
    assert far.docker(f"u{MEMBER}", "info").returncode == 0


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (f"u{STRANGER}", b"is not in the group shiplap"),
        ("client", b"'client' is no user of the engine's host"),
        ("", b"this needs a token"),
    ],
)
def test_who_is_not_named_or_no_member_gets_nothing(far: Far, name: str, told: bytes) -> None:
    ran = far.docker(name, "ps")
    assert ran.returncode == 1
    assert told in ran.stderr, ran.stderr


def test_a_certificate_of_another_ca_opens_nothing(far: Far, tmp_path: Path) -> None:
    cert, key = Authority(tmp_path / "other").sign("root")
    context = ssl.create_default_context(cafile=far.ca.certificate)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.load_cert_chain(cert, key)
    raw = socket.create_connection(("127.0.0.1", far.port), stretched(60))
    answer = b""
    with suppress(OSError), context.wrap_socket(raw, server_hostname="127.0.0.1") as client:
        client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        answer = client.recv(100)
    assert answer == b""


def test_a_token_is_whom_its_owner_is_here(far: Far) -> None:
    sent = os.urandom(1 << 20)
    ran = far.docker("", "run", "-i", "--rm", BUSYBOX_NAME, "cat", stdin=sent, token="chiefs")
    assert (ran.returncode, ran.stdout == sent) == (0, True), ran.stderr
    assert BUSYBOX_NAME not in far.ask("/images/json", "anas")[1]
    assert BUSYBOX_NAME in far.ask("/engine/v1.44/images/json", "chiefs")[1]


@pytest.mark.parametrize(
    ("token", "status", "told"),
    [
        ("", 401, "this needs a token"),
        ("unknown", 401, "was revoked"),
        ("robots", 403, "is a robot's"),
        ("bobs", 403, "bob is no user of the engine's host"),
        ("readers", 403, "an engine needs one of the scope build"),
        ("x\u00e9", 401, "the token is none"),
    ],
)
def test_tokens_that_open_nothing(far: Far, token: str, status: int, told: str) -> None:
    found = far.ask("/info", token)
    assert found[0] == status, found
    assert told in found[1]


def test_a_connection_serves_one_request_of_one_token(far: Far) -> None:
    with far.connect() as client, client.makefile("rb") as file:
        one = b"GET /_ping HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer chiefs\r\nConnection: keep-alive\r\n\r\n"
        client.sendall(one + b"GET /images/json HTTP/1.1\r\nHost: x\r\n\r\n")
        assert file.read().count(b"HTTP/1.1") == 1
    with far.connect() as client, client.makefile("rb") as file:
        two = b"GET /_ping HTTP/1.1\r\nHost: x\r\nUpgrade: x\r\nAuthorization: Bearer chiefs\r\n\r\n"
        client.sendall(two + b"GET /images/json HTTP/1.1\r\nHost: x\r\n\r\n")
        assert file.read().count(b"HTTP/1.1") == 1  # the answer to an upgrade that there is none of


def test_nonsense_and_silence_hold_nobody_up(far: Far) -> None:
    silent = [socket.create_connection(("127.0.0.1", far.port), stretched(60)) for _ in range(300)]
    for number, client in enumerate(silent):
        with suppress(OSError):
            client.sendall((b"GET /info HTTP/1.1\r\n\r\n", os.urandom(3000), b"\x16\x03\x01\xff\xff", b"")[number % 4])
    assert far.ask("/_ping", "chiefs")[0] == 200
    with far.connect() as client:
        with suppress(OSError):
            client.sendall(b"GET / HTTP/1.1\r\n" + b"A: " + b"x" * (1 << 20))
        with suppress(OSError):
            assert client.recv(12) in (b"HTTP/1.1 431", b"")
    for client in silent:
        client.close()


def test_a_new_certificate_is_shown_from_now_on(far: Far) -> None:
    def serial() -> object:
        with far.connect() as client:
            return client.getpeercert()["serialNumber"]  # type: ignore[index]

    first = serial()
    cert, _ = far.ca.sign("server")
    second = serial()
    assert second != first
    cert.write_text("half of a cert")
    assert serial() == second
    assert "stay what they were" in far.api.log()
    far.ca.sign("server")
    assert serial() not in (first, second)


def test_a_file_of_users_that_makes_no_sense_is_told(far: Far) -> None:
    users = far.api.folder / "users"
    before = users.read_text()
    users.write_text("ana\n")
    try:
        status, told = far.ask("/info", "anas")
    finally:
        users.write_text(before)
    assert (status, "--token-users cannot be used" in told) == (503, True)
    assert f"{users}:1: expected" in far.api.log()
    assert far.ask("/info", "anas")[0] == 200


def _run(look: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """On a loop of its own, in a thread: a browser of other tests may have one running in this."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(look())).result()


def test_one_waits_for_an_api_that_is_busy_and_the_others_do_not_wait_for_them(tmp_path: Path) -> None:
    async def look() -> None:
        with socket.socket(socket.AF_UNIX) as listener, ExitStack() as stack:
            path = str(tmp_path / "api")
            listener.bind(path)
            listener.listen(0)
            with suppress(BlockingIOError):
                while True:
                    client = stack.enter_context(
                        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                    )
                    client.connect(path)
            gate = Gate(Terms(insecure=True), path)
            connecting = asyncio.ensure_future(gate._connected(Named("root", None)))
            await asyncio.sleep(0.05)
            assert not connecting.done()
            listener.accept()[0].close()
            (await asyncio.wait_for(connecting, stretched(20))).close()
            os.unlink(path)
            with pytest.raises(ApiError, match="does not answer"):
                await gate._connected(Named("root", None))

    _run(look)


def test_a_client_without_tls_that_is_gone_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplex, "_LOOK_EACH_S", 0.01)

    async def look() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            sock, _ = listener.accept()
            sock.setblocking(False)
            ours = duplex.Duplex(sock)
            client.shutdown(socket.SHUT_WR)
            assert await ours.read() == b""
            gone = asyncio.ensure_future(ours.gone())
            await asyncio.sleep(0.05)
            assert not gone.done()  # it may still want an answer
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            await asyncio.wait_for(gone, stretched(20))
            ours.close()

    _run(look)


def test_a_connection_of_a_services_has_no_bounds_of_its_earlier_requests() -> None:
    """Who reads a log page by page takes nothing for minutes: a registry's blobs are sent to nobody like that."""

    async def look() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            with client, listener.accept()[0] as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)
                gates._client(sock, None)
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0

    _run(look)


@pytest.fixture(scope="module")
def forwarded(far: Far) -> Iterator[dict[str, str]]:
    """The environment of a client for whom ``shiplap system forward`` sends the token."""
    folder = far.api.folder / "forwarded"
    place = folder / "config" / "certs.d" / f"127.0.0.1:{far.port}"
    place.mkdir(parents=True)
    shutil.copy(far.ca.certificate, place / "ca.crt")
    path = folder / "far.sock"
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "DOCKER_CONFIG": str(folder / "config")}
    words = [*COMMAND, "system", "forward", f"https://127.0.0.1:{far.port}", "--listen", f"unix://{path}"]
    for token, told in (("", "there is no token"), ("readers", "one of the scope build")):
        ran = subprocess.run(words, env={**env, "SHIPLAP_TOKEN": token}, capture_output=True, text=True)
        assert (ran.returncode, told in ran.stderr) == (1, True), ran.stderr
    with subprocess.Popen(words, env={**env, "SHIPLAP_TOKEN": "chiefs"}, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert str(path) in process.stderr.readline()
        assert path.stat().st_mode & 0o777 == 0o600
        yield {**env, "DOCKER_HOST": f"unix://{path}"}
        process.terminate()
        assert process.wait(stretched(20)) == 0
    assert not path.exists()


def test_clients_that_know_no_token_have_one_sent(forwarded: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nCOPY . /files\nRUN cat /files/x\n")
    (tmp_path / "x").write_bytes(b"by the token")
    ran = subprocess.run(["docker", "build", "-t", "far:1", tmp_path], env=forwarded, capture_output=True)
    assert ran.returncode == 0, ran.stderr
    assert b"by the token" in ran.stderr
    sent = os.urandom(3 << 20)
    words = ["docker", "run", "-i", "--rm", "far:1", "sh", "-c", "cat; echo done >&2; exit 7"]
    ran = subprocess.run(words, env=forwarded, input=sent, capture_output=True, timeout=stretched(60))
    assert (ran.returncode, ran.stdout == sent, ran.stderr) == (7, True, b"done\n")


def test_http2_at_once_is_forwarded(forwarded: dict[str, str]) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(stretched(20))
        client.connect(forwarded["DOCKER_HOST"].removeprefix("unix://"))
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
        assert client.recv(9)[3] == 4  # its settings


def test_the_gate_is_started_again(far: Far) -> None:
    assert far.api.process is not None

    def gates() -> list[int]:
        assert far.api.process is not None
        found = []
        for pid in descendants(far.api.process.pid):
            with suppress(FileNotFoundError, ProcessLookupError):  # one that has ended by now
                if b"dockerapi.tcp" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    (before,) = gates()
    os.kill(before, 9)
    eventually(lambda: [pid for pid in gates() if pid != before] != [])
    eventually(lambda: far.docker("root", "version").returncode == 0)


def test_a_gate_that_could_not_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Enough(Exception):
        pass

    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            raise Enough

    def popen(*_: object, **_more: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")  # no more processes

    monkeypatch.setattr(keeping, "subprocess", SimpleNamespace(Popen=popen, PIPE=subprocess.PIPE))
    monkeypatch.setattr(keeping, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    with pytest.raises(Enough):
        keeping.Keeping([0], Terms(), "/nowhere")._keep()
    assert pauses[0] < pauses[1] < pauses[-1] == 5.0


@pytest.mark.parametrize(
    "head",
    [
        b"", b"GET", b"GET /x HTTP/2.0", b"get /x HTTP/1.1", b"GET x HTTP/1.1", b"GET /x HTTP/1.1\r\nno colon",
        b"GET /x HTTP/1.1\r\nA: b\r\n folded", b"GET /x HTTP/1.1\r\nA : b", b"GET /x HTTP/1.1\r\nA: b\nB: c",
        b"GET /x HTTP/1.1\r\nAuthorization: Basic eDp5", b"GET /\x80 HTTP/1.1",
        b"GET /x HTTP/1.1\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b",
    ],
)  # fmt: skip
def test_heads_that_are_none(head: bytes) -> None:
    with pytest.raises(ApiError):
        read_head(head)


def test_a_head_passes_without_its_token() -> None:
    head = (
        b"POST /engine/v1.44/x?y HTTP/1.1\r\nHost: h\r\nauthorization: bearer T\r\nUpgrade: tcp\r\nConnection: Upgrade"
    )
    token, passed = read_head(head)
    assert token == "T"
    assert passed == b"POST /v1.44/x?y HTTP/1.1\r\nHost: h\r\nUpgrade: tcp\r\nConnection: close\r\n\r\n"
    assert read_head(b"GET /engineer HTTP/1.0").passed == b"GET /engineer HTTP/1.0\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        (Terms(cert="c", key="k"), "neither is asked for"),
        (Terms(ca="c"), "without TLS"),
        (Terms(cert="none", key="none", ca="none"), "cannot be used"),
        (Terms(tokens="x", users="/dev/null"), "no URL"),
        (Terms(tokens="http://x", users="/dev/null"), "without TLS: whoever is on the way"),
        (Terms(tokens="http://[x", users="/dev/null"), "no URL"),
        (Terms(tokens="https://x"), "said together"),
        (Terms(tokens="https://x", users="/none"), "cannot be read"),
        (Terms(tokens="https://x", users="/etc/passwd"), "expected a user"),
        (Terms(tokens="https://x", users="/dev/null", insecure=True), "loopback alone"),
        (Terms(tokens="https://x", users="/dev/null", ca="x", insecure=True), "no meaning"),
    ],
)
def test_terms_that_would_let_strangers_in(terms: Terms, told: str) -> None:
    with pytest.raises(TermsError, match=told):
        terms.check(["0.0.0.0"])
