"""A crowd of slow connections at the service's port: everybody else is served as if it were not there."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import itertools
import socket
import time
from collections.abc import Iterator

import pytest

from core.settings import ServiceSettings
from pipelines.service import Service
from tests.toolkit.bounds import stretched
from tests.web.processes import FakeWorker, WebProcess

_SIZE = 2000
_MUCH = b"Host: x\r\nContent-Length: 10000000\r\n"
_KINDS = {
    "silent": b"",
    "heads without an end": b"GET /readyz HTTP/1.1\r\nHost: x\r\nX-A: ",
    "bodies for a webhook": b"POST /hooks/default HTTP/1.1\r\n" + _MUCH + b"X-GitHub-Event: push\r\n\r\n{",
    "bodies with false credentials": b"POST /api/v1/runs HTTP/1.1\r\nAuthorization: Bearer x\r\n" + _MUCH + b"\r\n{",
    "bodies for the registry": b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\n" + _MUCH + b"\r\n",
    "small bodies": b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
}


@contextlib.contextmanager
def crowd(port: int, data: bytes, addresses: int) -> Iterator[list[socket.socket]]:
    """Connections that have sent ``data`` and send no more, from so many addresses."""
    with contextlib.ExitStack() as stack:
        members = []
        for number in range(_SIZE):
            member = stack.enter_context(socket.socket())
            member.settimeout(stretched(10))
            member.bind((f"127.7.{number % addresses // 250}.{1 + number % addresses % 250}", 0))
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                member.connect(("127.0.0.1", port))
                member.sendall(data)
            members.append(member)
        yield members


def seconds(port: int, path: str, headers: dict[str, str], status: int = 200) -> float:
    began = time.monotonic()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=stretched(60))) as client:
        client.request("GET", path, headers=headers)
        answer = client.getresponse()
        answer.read()
        assert answer.status == status
    return time.monotonic() - began


@pytest.fixture
def web(settings: ServiceSettings, service: Service) -> Iterator[WebProcess]:
    del service  # it has made the database
    with WebProcess(settings) as process:
        yield process


@pytest.mark.parametrize("kind", _KINDS)
def test_two_thousand_slow_connections_keep_nobody_out(web: WebProcess, service: Service, kind: str) -> None:
    token = {"Authorization": f"Bearer {service.tokens.create('t', ['read'])[1]}"}
    with crowd(web.port, _KINDS[kind], 500):
        for path, headers in itertools.islice(itertools.cycle([("/readyz", {}), ("/api/v1/runs", token)]), 10):
            assert seconds(web.port, path, headers) < stretched(10)


def test_crowd_of_the_own_address_keeps_nobody_out(web: WebProcess) -> None:
    with crowd(web.port, b"GET / HTTP/1.1\r\n", 1) as members:
        assert seconds(web.port, "/readyz", {}) < stretched(10)
        assert members


def test_follower_of_a_log_is_not_cut_by_a_crowd(web: WebProcess, service: Service) -> None:
    worker = FakeWorker(service)
    token = service.tokens.create("t", ["read"])[1]
    with socket.create_connection(("127.0.0.1", web.port), timeout=stretched(60)) as follower:
        head = f"GET /api/v1/runs/{worker.number}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        follower.sendall(head.encode())
        assert follower.recv(12) == b"HTTP/1.1 200"
        with crowd(web.port, _KINDS["bodies for a webhook"], 500):
            time.sleep(3)
            worker.write(1, 100)
            seen = b""
            while b"line 100" not in seen:
                piece = follower.recv(65536)
                assert piece
                seen += piece
        worker.finish()


def test_large_context_is_taken_from_somebody_known_in_spite_of_a_crowd(web: WebProcess, service: Service) -> None:
    token = service.tokens.create("t", ["build"])[1]
    content = bytes(5 << 20)
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    with crowd(web.port, _KINDS["bodies for a webhook"], 500):
        began = time.monotonic()
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=stretched(60))) as client:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/octet-stream"}
            client.request("PUT", f"/api/v1/contexts/blobs/{digest}", content, headers)
            assert client.getresponse().status in (200, 201, 204)
        assert time.monotonic() - began < stretched(20)
