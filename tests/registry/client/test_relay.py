"""A relay to registries: what passes, what is refused, and that no log-in goes to who asks."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from registry.client import Client, ClientConfig
from registry.client.http import Request, Response
from registry.client.relay import Relay
from registry.client.relayed import RelayedTransport
from registry.credentials import Credentials

_ALICE = Credentials("alice", "s3cret")


class _Answer:
    def __init__(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.headers = {"Content-Length": str(len(body)), **(headers or {})}
        self._body = io.BytesIO(body)

    def read(self, size: int, /) -> bytes:
        return self._body.read(size)

    def close(self) -> None: ...


class _Registry:
    """A registry that wants a log-in, and notes who asked for what. As a transport."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    def send(self, request: Request) -> Response:
        who = request.headers.get("Authorization", "")
        self.asked.append((request.method, request.url, who))
        if not who:
            return _Answer(401, b"", {"WWW-Authenticate": 'Basic realm="r"'})
        if "/blobs/" in request.url:
            return _Answer(200, b"" if request.method == "HEAD" else b"bytes", {"Set-Cookie": "session=alice"})
        return _Answer(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "not here"}]}')

    def abort(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def registry() -> _Registry:
    return _Registry()


@pytest.fixture
def path(tmp_path: Path, registry: _Registry) -> Iterator[str]:
    """Of a relay with alice's log-in."""
    found = str(tmp_path / "images.sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(found)
    listener.listen()
    config = ClientConfig(docker_config=tmp_path)
    with Client(config, transport=registry, credentials=lambda _: _ALICE) as client, Relay(listener, client):
        yield found


def asked(path: str, method: str, url: str) -> tuple[int, bytes, str]:
    """Status, body and headers of what somebody without a log-in gets."""
    response = RelayedTransport(path, _Registry(), lambda _: None).send(Request(method, url))
    try:
        return response.status, response.read(1000), str(response.headers)
    finally:
        response.close()


_BLOB = "https://r.example/v2/team/app/blobs/sha256:1234"


def test_what_is_fetched_comes_by_the_log_in_of_the_relay(path: str, registry: _Registry) -> None:
    status, body, headers = asked(path, "GET", _BLOB)
    assert (status, body) == (200, b"bytes")
    assert "alice" not in headers  # only what an image needs is passed back
    method, url, who = registry.asked[-1]
    assert (method, url) == ("GET", _BLOB)
    assert who.startswith("Basic ")
    assert asked(path, "HEAD", _BLOB)[0] == 200
    status, body, _ = asked(path, "GET", "https://r.example/v2/team/app/manifests/1.0")
    assert status == 404
    assert b"MANIFEST_UNKNOWN" in body


def test_to_ask_whether_a_registry_is_there_tells_it_nothing(path: str, registry: _Registry) -> None:
    assert asked(path, "GET", "https://r.example/v2/")[0] == 200
    assert registry.asked == []


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("POST", "https://r.example/v2/team/app/blobs/uploads/", 403),
        ("PUT", "https://r.example/v2/team/app/manifests/1.0", 403),
        ("DELETE", _BLOB, 403),
        ("GET", "https://r.example/v2/_catalog", 404),
        ("GET", "https://r.example/v2/team/app/tags/list", 404),
        ("GET", "https://r.example/v2/../admin/blobs/x", 404),
        ("GET", "https://r.example/v2/team/../../admin/blobs/x", 404),
        ("GET", "https://r.example/v2/team/app/blobs/../../../admin", 404),
        ("GET", "https://r.example/v2/team//app/blobs/x", 404),
        ("GET", "https://alice:pw@r.example/v2/team/app/blobs/x", 404),
        ("GET", "https://r.example/v2/team/app/blobs/x%0d%0aX:y", 404),
        ("GET", f"https://r.example/v2/{'a' * 300}/blobs/x", 404),
    ],
)
def test_nothing_else_is_asked_of_any_registry(
    path: str, registry: _Registry, method: str, url: str, status: int
) -> None:
    assert asked(path, method, url)[0] == status
    assert registry.asked == []


def test_who_has_a_log_in_asks_the_registry_itself(path: str, registry: _Registry) -> None:
    direct = _Registry()
    own = RelayedTransport(path, direct, lambda domain: Credentials("bob", "x") if domain == "r.example" else None)
    own.send(Request("GET", _BLOB))
    own.send(Request("GET", "https://auth.example/token"))  # no registry's protocol
    assert [url for _, url, _ in direct.asked] == [_BLOB, "https://auth.example/token"]
    assert registry.asked == []
