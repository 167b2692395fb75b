"""Connections of docker's clients at a service's port: which they are, and what they get when no engine takes them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core import passing
from core.proxies import TrustedProxies
from tests.toolkit.bounds import stretched
from web.engines import handing
from web.engines.handing import Handing, is_dockers
from web.server import Worker

_PING = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("request_line", "upgrade", "theirs"),
    [
        ("HEAD /_ping", "", True),
        ("GET /v1.47/info", "", True),
        ("POST /engine/v1.24/containers/create?name=x", "", True),
        ("POST /session", "h2c", True),
        ("POST /grpc", "H2C", True),
        ("POST /session", "", False),
        ("POST /session", "websocket", False),
        ("GET /engines", "", False),
        ("GET /v1.x/info", "", False),
        ("GET /v2/", "", False),
        ("GET /_pings", "", False),
        ("GET http://x/_ping", "", False),
        ("GET /projects/_ping", "", False),
    ],
)
def test_what_dockers_clients_ask_for_is_theirs_and_nothing_else(request_line: str, upgrade: str, theirs: bool) -> None:
    more = f"Connection: Upgrade\r\nUpgrade: {upgrade}\r\n" if upgrade else ""
    assert is_dockers(f"{request_line} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode()) is theirs


def _answer(act: Callable[[socket.socket], object]) -> bytes:
    """What a client gets, whose request came by a socket that does not block."""
    with ExitStack() as stack:
        ours, client = map(stack.enter_context, socket.socketpair())
        ours.setblocking(False)
        client.settimeout(stretched(20))
        act(ours)
        ours.close()
        with client.makefile("rb") as answer:
            return answer.read()


def test_who_cannot_be_handed_over_is_told_to_try_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """404 would be the answer that there is no such container."""
    assert _answer(lambda sock: Handing(tmp_path / "nobody").hand(sock, _PING)).startswith(b"HTTP/1.1 503 ")
    monkeypatch.setattr(handing, "_MOST", 0)
    assert _answer(lambda sock: Handing(tmp_path / "nobody").hand(sock, _PING)).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize(
    ("peer", "status"),
    [
        ("127.0.0.1", 503),
        ("::1", 503),
        ("::ffff:127.0.0.1", 503),
        ("10.1.2.3", 503),
        ("10.2.2.3", 403),
        ("fe80::1", 403),
    ],
)
def test_without_tls_an_engine_is_for_its_own_host_and_proxies_that_are_believed(
    peer: str, status: int, tmp_path: Path
) -> None:
    """503: it would have been handed over, and there is no gate."""
    worker: Any = SimpleNamespace(handing=Handing(tmp_path / "nobody"), proxies=TrustedProxies(["10.1.0.0/16"]))
    worker._is_private = partial(Worker._is_private, worker)

    def ask(sock: socket.socket) -> None:
        conn: Any = SimpleNamespace(sock=sock, received=bytearray(_PING), client=(peer, 1), is_over_ip=True)
        assert Worker.gives_away(worker, conn)

    assert _answer(ask).startswith(b"HTTP/1.1 %d " % status)


def test_a_connection_is_handed_over_with_what_was_read(short_path: Path) -> None:
    with ExitStack() as stack:
        door = stack.enter_context(socket.socket(socket.AF_UNIX))
        door.settimeout(stretched(20))
        door.bind(str(short_path / "door"))
        door.listen()
        ours, client = map(stack.enter_context, socket.socketpair())
        Handing(short_path / "door").hand(ours, bytearray(_PING))
        ours.close()
        way = stack.enter_context(door.accept()[0])
        way.settimeout(stretched(20))
        taken, received = passing.take(way, 1000)
        with taken:
            taken.sendall(b"the gate's answer")
        assert (received, client.recv(100)) == (_PING, b"the gate's answer")
