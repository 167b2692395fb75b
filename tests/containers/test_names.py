"""The name server of a container: names of its networks, all else from the host's resolvers, and floods bounded."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.keeper import dnswire, forwarding, names
from containers.keeper.forwarding import Forwarder
from containers.keeper.loop import Loop
from containers.keeper.namefiles import NameTable, add_names, drop_names, keep_names, remove_file
from containers.keeper.names import HostResolvers, Names, container_resolv_conf
from containers.keeper.ports import own_sockets
from tests.containers.lans import Lan, Machine, lan
from tests.toolkit.bounds import stretched
from tests.toolkit.ports import free_port

_A, _AAAA, _PTR, _TXT = 1, 28, 12, 16


def query(name: str, kind: int = _A, number: int = 77) -> bytes:
    question = dnswire.encode_name(name) + struct.pack(">HH", kind, 1)
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + question


def code_of(message: bytes) -> int:
    return message[3] & 15


def records_of(message: bytes) -> list[bytes]:
    """The contents of the answers, whose names are pointers to the question."""
    read = dnswire.read_question(message)
    assert read is not None
    offset = 12 + len(read[2])
    found = []
    for _ in range(struct.unpack_from(">H", message, 6)[0]):
        (length,) = struct.unpack_from(">H", message, offset + 10)
        found.append(message[offset + 12 : offset + 12 + length])
        offset += 12 + length
    return found


class Resolver:
    """A resolver of the host's that answers every question with one address, or as it is told."""

    def __init__(self) -> None:
        self.port = free_port()
        self.tcp = socket.create_server(("127.0.0.1", self.port))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        self.asked: list[tuple[bytes, tuple[str, int]]] = []
        self.silent = False
        self.lies: list[bytes] = []
        for work in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=work, daemon=True).start()

    def _serve_udp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, peer = self.udp.recvfrom(4096)
                if not data:
                    return  # it was shut down
                self.asked.append((data, peer))
                for lie in self.lies:
                    self.udp.sendto(lie, peer)
                if not self.silent:
                    self.udp.sendto(self._answer(data), peer)

    def _serve_tcp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.tcp.accept()
                with connection:
                    data = connection.recv(4096)
                    answer = self._answer(data[2:])
                    connection.sendall(struct.pack(">H", len(answer)) + answer)

    def _answer(self, message: bytes) -> bytes:
        read = dnswire.read_query(message)
        assert isinstance(read, dnswire.Query)
        return dnswire.answer(read, [bytes([198, 51, 100, 17])])

    def close(self) -> None:
        for each in (self.udp, self.tcp):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


class Scene:
    """A container with a name server, and another one in its network."""

    def __init__(self, net: Lan, folder: Path) -> None:
        self.run = str(folder)
        network = net.network(1)
        self.machine: Machine = net.machine(net.endpoint(network))
        self.other: Machine = net.machine(net.endpoint(network))
        self.resolver = Resolver()
        self.loop = Loop()
        resolvers = ["127.0.0.1"]
        self.resolvers = resolvers
        self.forwarder = Forwarder(self.loop, lambda: list(resolvers), own_sockets, port=self.resolver.port)
        self.names = Names(self.loop, self.machine.netns, [NameTable(self.run, "one")], self.forwarder)
        self._stop, self._stopped = os.pipe()
        self._running = True
        self.loop.watch(self._stop, self._end)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self._running:
            self.loop.step()

    def _end(self) -> None:
        self._running = False

    def client(self) -> socket.socket:
        found = self.machine.open(socket.AF_INET, socket.SOCK_DGRAM)
        found.settimeout(stretched(5))
        found.connect(("127.0.0.11", 53))
        return found

    def ask(self, name: str, kind: int = _A) -> bytes:
        with self.client() as client:
            client.send(query(name, kind))
            return client.recv(65535)

    def close(self) -> None:
        os.write(self._stopped, b"x")
        self._thread.join(stretched(5))
        self.names.close()
        self.resolver.close()
        os.close(self._stop)
        os.close(self._stopped)


@pytest.fixture
def scene(privileged: None, tmp_path: Path) -> Iterator[Scene]:
    with lan(tmp_path) as net, contextlib.closing(Scene(net, tmp_path)) as made:
        yield made


def test_names_aliases_and_ids_are_known_with_all_their_addresses(scene: Scene) -> None:
    add_names(scene.run, "one", "c1", ["Web", "www", "0123456789ab"], ["10.77.1.2", "fd77::2"], called="front")
    add_names(scene.run, "one", "c2", ["db", "www"], ["10.77.1.3"])
    assert records_of(scene.ask("web")) == [bytes([10, 77, 1, 2])]
    assert records_of(scene.ask("WEB.front")) == [bytes([10, 77, 1, 2])]
    assert records_of(scene.ask("web", _AAAA)) == [bytes.fromhex("fd77") + bytes(13) + b"\2"]
    assert sorted(records_of(scene.ask("www"))) == [bytes([10, 77, 1, 2]), bytes([10, 77, 1, 3])]
    assert records_of(scene.ask("0123456789ab")) == [bytes([10, 77, 1, 2])]
    for kind in (_AAAA, _TXT):
        said = scene.ask("db", kind)
        assert (code_of(said), records_of(said)) == (0, [])
    assert not scene.resolver.asked


def test_addresses_lead_back_to_the_name(scene: Scene) -> None:
    add_names(scene.run, "one", "c1", ["web"], ["10.77.1.2", "fd77::2"], called="front")
    assert records_of(scene.ask("2.1.77.10.in-addr.arpa", _PTR)) == [b"\3web\5front\0"]
    nibbles = ".".join(reversed(socket.inet_pton(socket.AF_INET6, "fd77::2").hex()))
    assert records_of(scene.ask(f"{nibbles}.ip6.arpa", _PTR)) == [b"\3web\5front\0"]
    scene.ask("9.1.77.10.in-addr.arpa", _PTR)
    assert len(scene.resolver.asked) == 1


def test_change_of_the_names_is_seen_at_once(scene: Scene) -> None:
    for number in range(2, 6):
        add_names(scene.run, "one", "c1", ["web"], [f"10.77.1.{number}"])
        assert records_of(scene.ask("web")) == [bytes([10, 77, 1, number])]
    keep_names(scene.run, "one", ["c1"])
    assert records_of(scene.ask("web")) == [bytes([10, 77, 1, 5])]
    drop_names(scene.run, "one", "c1")
    drop_names(scene.run, "one", "c1")
    assert records_of(scene.ask("web")) == [bytes([198, 51, 100, 17])]
    add_names(scene.run, "one", "c1", ["web"], ["10.77.1.9"])
    keep_names(scene.run, "one", [])
    assert records_of(scene.ask("web")) == [bytes([198, 51, 100, 17])]
    remove_file(scene.run, "one")
    remove_file(scene.run, "one")


def test_all_else_is_asked_of_the_hosts_resolver_each_by_a_port_and_number_of_its_own(scene: Scene) -> None:
    with scene.client() as client:
        for number in range(20):
            client.send(query("example.test", number=number))
            said = client.recv(1000)
            assert said[:2] == struct.pack(">H", number)
            assert records_of(said) == [bytes([198, 51, 100, 17])]
    assert len({data[:2] for data, _ in scene.resolver.asked}) > 10
    assert len({peer[1] for _, peer in scene.resolver.asked}) > 10


def test_server_by_tcp_asks_by_tcp(scene: Scene) -> None:
    add_names(scene.run, "one", "c1", ["many"], [f"10.77.2.{number}" for number in range(200)])
    truncated = scene.ask("many")
    assert truncated[2] & 2
    with scene.machine.open() as client:
        client.settimeout(stretched(5))
        client.connect(("127.0.0.11", 53))
        for name, count in (("many", 200), ("example.test", 1)):
            message = query(name)
            client.sendall(struct.pack(">H", len(message)) + message)
            length = struct.unpack(">H", client.recv(2))[0]
            said = b""
            while len(said) < length:
                said += client.recv(length - len(said))
            assert len(records_of(said)) == count
    assert not scene.resolver.asked  # by UDP


def test_resolver_that_is_silent_or_away_is_followed_by_the_next(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "_TIMEOUT_S", 0.1)
    scene.resolvers[:] = ["127.0.0.99", "127.0.0.1"]
    assert records_of(scene.ask("example.test")) == [bytes([198, 51, 100, 17])]
    scene.resolver.silent = True
    assert code_of(scene.ask("example.test")) == 2
    scene.resolvers.clear()
    assert code_of(scene.ask("example.test")) == 2


def test_internal_network_learns_nothing_of_the_outside(privileged: None, tmp_path: Path) -> None:
    with lan(tmp_path) as net:
        machine = net.machine(net.endpoint(net.network(1, internal=True)))
        said: list[bytes] = []
        with contextlib.closing(Names(Loop(), machine.netns, [NameTable(str(tmp_path), "one")], None)) as server:
            server.answer(query("example.test"), said.append)
        assert [code_of(message) for message in said] == [3]


def test_container_keeps_port_53_for_a_server_of_its_own(scene: Scene) -> None:
    with scene.machine.bound("0.0.0.0", 53), scene.machine.listen("0.0.0.0", 53):
        assert records_of(scene.ask("example.test")) == [bytes([198, 51, 100, 17])]


def test_resolv_conf_names_the_server_and_keeps_the_rest() -> None:
    host = "# made by x\nnameserver 192.0.2.1\nsearch corp.test\noptions edns0 trust-ad\n"
    assert container_resolv_conf(host) == "nameserver 127.0.0.11\nsearch corp.test\noptions edns0 trust-ad\n"
    own = container_resolv_conf(host, search=("a", "b"), options=("ndots:0",))
    assert own == "nameserver 127.0.0.11\nsearch a b\noptions ndots:0\n"


def test_hosts_resolvers_are_read_from_its_file() -> None:
    words = [line.split() for line in Path("/etc/resolv.conf").read_text().splitlines()]
    assert HostResolvers()() == [line[1] for line in words if line[:1] == ["nameserver"]]


@pytest.mark.parametrize(
    "name", ["1.2.in-addr.arpa", "999.1.1.1.in-addr.arpa", "x.1.1.1.in-addr.arpa", "z" + ".0" * 31 + ".ip6.arpa"]
)
def test_names_that_only_look_like_addresses_are_none(name: str) -> None:
    assert dnswire.reversed_address(name) is None


def test_idle_connection_is_closed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_IDLE_S", 0.05)
    with scene.machine.open() as client:
        client.settimeout(stretched(5))
        client.connect(("127.0.0.11", 53))
        assert client.recv(1) == b""
