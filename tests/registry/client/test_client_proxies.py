"""Registries behind a proxy: tunnels, log-ins, refusals, and TLS to the proxy itself."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry.client import ClientConfig
from registry.client import transport as transport_module
from registry.client.http import Request
from registry.client.origins import Proxy as ProxyAddress
from registry.client.transport import HttpTransport
from registry.errors import RegistryConfigError, UnreachableError
from tests.toolkit.bounds import eventually
from tests.toolkit.registries import Authority

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextlib.contextmanager
def serving(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port whose connections are handed to ``talk``, each in a thread of its own."""
    threads: list[threading.Thread] = []

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            talk(connection)

    def accept(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                threads.append(threading.Thread(target=one, args=(listener.accept()[0],), daemon=True))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, args=(listener,), daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
    for each in (thread, *threads):
        each.join()


def until_blank_line(connection: socket.socket) -> str:
    heard = b""
    while not heard.endswith(b"\r\n\r\n"):
        data = connection.recv(1)
        if not data:
            raise OSError("hung up")
        heard += data
    return heard.decode()


def copied(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


class Proxy:
    """A proxy that leads every tunnel to one port. context: it speaks TLS itself."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self.port = port
        self.context = context
        self.heard: list[str] = []

    def talk(self, plain: socket.socket) -> None:
        connection = self.context.wrap_socket(plain, server_side=True) if self.context else plain
        with connection:
            self.heard.append(until_blank_line(connection))
            if not self.heard[-1].startswith("CONNECT"):
                connection.sendall(_OK)
                return
            connection.sendall(b"HTTP/1.1 200 Go on\r\n\r\n")
            with socket.create_connection(("127.0.0.1", self.port)) as far:
                back = threading.Thread(target=copied, args=(far, connection))
                back.start()
                copied(connection, far)
                back.join()


def server_context(authority: Authority, name: str, sans: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(name, sans=sans))
    return context


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_tls_goes_through_a_proxy_that_wants_a_log_in(
    scheme: str, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    context = server_context(authority, f"far-{scheme}", "DNS:far.test")
    heard = []

    def registry(plain: socket.socket) -> None:
        with context.wrap_socket(plain, server_side=True) as connection:
            for _ in "ab":  # on one connection
                heard.append(until_blank_line(connection))
                connection.sendall(_OK)
            connection.recv(1)

    with serving(registry) as port:
        proxy = Proxy(port, server_context(authority, "proxy", "IP:127.0.0.1") if scheme == "https" else None)
        with serving(proxy.talk) as near:
            config = ClientConfig(tmp_path, https_proxy=f"{scheme}://me:s%20cret@127.0.0.1:{near}")
            transport = HttpTransport(config)
            for _ in "ab":
                response = transport.send(Request("GET", "https://far.test:5000/v2/"))
                assert response.read(10) == b"ok"
                response.close()
            transport.close()
    assert len(proxy.heard) == 1
    assert proxy.heard[0].startswith("CONNECT far.test:5000 HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic bWU6cyBjcmV0\r\n" in proxy.heard[0]
    assert [text.partition("\r\n")[0] for text in heard] == ["GET /v2/ HTTP/1.1"] * 2
    assert all("Proxy-Authorization" not in text and "Host: far.test:5000\r\n" in text for text in heard)


def test_plain_http_is_asked_of_the_proxy_by_whole_urls(tmp_path: Path) -> None:
    proxy = Proxy(0)
    with serving(proxy.talk) as near:
        transport = HttpTransport(ClientConfig(tmp_path, http_proxy=f"127.0.0.1:{near}"))
        transport.send(Request("GET", "http://far.test:80/v2/a b\u00e9?n=1%20")).close()
        transport.send(Request("GET", "http://far.test//as/signed?")).close()
        transport.close()
    assert proxy.heard[1].startswith("GET http://far.test//as/signed HTTP/1.1\r\n")
    assert proxy.heard[0].startswith("GET http://far.test:80/v2/a%20b%C3%A9?n=1%20 HTTP/1.1\r\nHost: far.test\r\n")


def test_a_proxy_that_refuses_is_told(tmp_path: Path) -> None:
    def refusing(connection: socket.socket) -> None:
        until_blank_line(connection)
        connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    with serving(refusing) as near:
        transport = HttpTransport(ClientConfig(tmp_path, https_proxy=f"http://127.0.0.1:{near}"))
        with pytest.raises(UnreachableError, match=r"cannot reach far\.test through the proxy: it answers 407"):
            transport.send(Request("GET", "https://far.test/v2/"))


@pytest.mark.parametrize("text", ["socks5://me:secret@127.0.0.1:1080", "http://", "http://proxy:port", "http://[::1"])
def test_what_is_no_http_proxy_is_told_without_its_password(text: str, tmp_path: Path) -> None:
    transport = HttpTransport(ClientConfig(tmp_path, https_proxy=text))
    with pytest.raises(RegistryConfigError, match="is no proxy that registries can be reached through") as caught:
        transport.send(Request("GET", "https://far.test/v2/"))
    assert "secret" not in str(caught.value)


def test_a_connection_is_used_again_until_the_server_hangs_up(tmp_path: Path) -> None:
    connections = []

    def once_or_twice(connection: socket.socket) -> None:
        connections.append(connection)
        for number in b"12":
            until_blank_line(connection)
            connection.sendall(_OK.replace(b"\r\n\r\n", b"\r\nNumber: %c\r\n\r\n" % number))

    with serving(once_or_twice) as port:
        transport = HttpTransport(ClientConfig(tmp_path))
        for used in (1, 1, 2):
            response = transport.send(Request("GET", f"http://127.0.0.1:{port}/v2/"))
            assert response.read(10) == b"ok"
            response.close()
            assert len(connections) == used
            if response.headers["Number"] == "2":
                eventually(lambda: connections[0].fileno() == -1)
        transport.close()


def test_a_rest_that_comes_too_slowly_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "_DRAIN_S", 0.05)
    closed, all_sent = threading.Event(), threading.Event()

    def slow(connection: socket.socket) -> None:
        until_blank_line(connection)
        connection.sendall(b"HTTP/1.1 404 No\r\nContent-Length: 400\r\n\r\n")
        for _ in range(400):
            connection.sendall(b"x")
            if closed.wait(0.01):
                return
        all_sent.set()

    with serving(slow) as port:
        transport = HttpTransport(ClientConfig(tmp_path))
        transport.send(Request("GET", f"http://127.0.0.1:{port}/v2/")).close()
        closed.set()
        transport.close()
    assert not all_sent.is_set()


@pytest.mark.parametrize(
    ("text", "port"),
    [("proxy.example", 80), ("http://proxy.example", 80), ("https://proxy.example", 443), ("proxy.example:3128", 3128)],
)
def test_proxy_without_a_port_is_at_its_scheme_s(text: str, port: int) -> None:
    assert ProxyAddress.parse(text).port == port
