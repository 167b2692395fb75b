"""Published ports: from the host's network into the switch, with the client's true address."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from containers import netlink
from containers.addresses import pack
from containers.endpoints import Endpoint
from containers.errors import NetworkError
from containers.keeper import tcprelay, udprelay
from containers.keeper.loop import Loop
from containers.keeper.ports import Asked, Elsewhere, Ports, Target
from tests.containers.lans import Lan, Machine, address6_of, address_of, lan
from tests.toolkit.bounds import eventually, stretched

HERE, THERE, HERE6, THERE6 = "198.51.100.137", "198.51.100.138", "fd78::1", "fd78::2"
_numbers = itertools.count()
_NEAR, _FAR = b"\x02near\1", b"\x02near\2"
_RESET = struct.pack("ii", 1, 0)


class Scene:
    """A container behind published ports, a client on another machine, and a loop in a thread of its own."""

    def __init__(self, net: Lan) -> None:
        self.net = net
        self.network = net.network(1, ipv6=True)
        self.endpoint = net.endpoint(self.network)
        self.container = net.machine(self.endpoint)
        self.remote = net.machine()
        self._link = _join_host(self.remote)
        self.loop = Loop()
        self._stop, self._stopped = os.pipe()
        self._running = True
        self._lock = threading.Lock()
        self.loop.watch(self._stop, self._on_told)
        self._work: list[object] = []
        self.ports = Ports(self.loop, Elsewhere(net.switch.netns).open)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def publish(self, protocol: str, to_port: int, *addresses: str, endpoint: Endpoint | None = None) -> int:
        """The port of the host."""
        self.ports.bind([Asked(addresses or ("0.0.0.0", "::"), protocol, 0, to_port)])
        end = endpoint or self.endpoint
        subnets = ["10.77.1.0/24", "fd77:0:0:1::/64"]
        self.ports.open(Target(address_of(end), address6_of(end) if end.ipv6 else None, subnets))
        self._thread.start()
        return self.ports.bound[0].port

    def _run(self) -> None:
        while self._running:
            self.loop.step()

    def _on_told(self) -> None:
        os.read(self._stop, 1)
        if self._work:
            self._work.pop(0)()  # type: ignore[operator]
        else:
            self._running = False

    def in_loop(self, work: object) -> None:
        done = threading.Event()

        def both() -> None:
            work()  # type: ignore[operator]
            done.set()

        self._work.append(both)
        os.write(self._stopped, b"x")
        assert done.wait(stretched(5))

    def close(self) -> None:
        if self._thread.is_alive():
            os.write(self._stopped, b"x")
            self._thread.join(stretched(5))
        self.ports.close()
        _delete(self._link)
        os.close(self._stop)
        os.close(self._stopped)


def _join_host(machine: Machine) -> str:
    """A link between the host and a machine that is not behind the switch; the name of the host's end.

    They know each other's MAC address: what is asked before a new link carries is asked again a second later.
    """
    name = f"st{os.getpid() % 100_000}p{next(_numbers)}"
    with contextlib.closing(netlink.Netlink()) as link:
        link.change(netlink.new_pair(name, _NEAR, "there", _FAR, machine.netns, 1500))
        found = link.link(name)
        assert found is not None
        for address, far, bits in ((HERE, THERE, 30), (HERE6, THERE6, 64)):
            link.change(netlink.add_address(found[0], pack(address), bits))
            link.change(netlink.add_neighbour(found[0], pack(far), _FAR))

        def there() -> None:
            with contextlib.closing(netlink.Netlink()) as far:
                inner = far.link("there")
                assert inner is not None
                far.change(netlink.link_up(inner[0]), netlink.link_up(1))
                for address, near, bits in ((THERE, HERE, 30), (THERE6, HERE6, 64)):
                    far.change(netlink.add_address(inner[0], pack(address), bits))
                    far.change(netlink.add_neighbour(inner[0], pack(near), _NEAR))

        machine.do(there)
        link.link(name)  # waits until it carries
    eventually(lambda: _has_route(HERE6))
    machine.do(lambda: eventually(lambda: _has_route(THERE6)))
    return name


def _has_route(address: str) -> bool:
    """Whether this thread's namespace takes an IPv6 address for its own; some time after it was given it."""
    routes = Path("/proc/thread-self/net/ipv6_route").read_text().splitlines()
    return any(line.startswith(f"{pack(address).hex()} 80 ") for line in routes)


def _delete(name: str) -> None:
    """Remove a link of the host now. The kernel would, some time after its other end's machine has gone: until then
    the host has two routes to the next test's machine, and what it sends may take the one that leads nowhere.
    """
    with contextlib.closing(netlink.Netlink()) as link:
        found = link.link(name)
        assert found is not None
        link.change(netlink.delete_link(found[0]))


@pytest.fixture
def scene(privileged: None, tmp_path: Path) -> Iterator[Scene]:
    with lan(tmp_path) as net, contextlib.closing(Scene(net)) as made:
        yield made


def patient(sock: socket.socket) -> socket.socket:
    sock.settimeout(stretched(5))
    return sock


def answered(server: socket.socket, peer: Any, client: socket.socket, text: bytes) -> bytes:
    """What the client is told, which is said once."""
    server.sendto(text, peer)
    return client.recv(100)


def dial(machine: Machine | None, address: str, port: int) -> socket.socket:
    """A TCP connection from a machine, or from the host."""
    version = socket.AF_INET6 if ":" in address else socket.AF_INET
    client = patient(machine.open(version) if machine else socket.socket(version))
    try:
        client.connect((address, port))
    except OSError:
        client.close()
        raise
    return client


def read_from(scene: Scene, port: int) -> bytes:
    """The reset may be there before ``connect`` has returned, or after."""
    with dial(scene.remote, HERE, port) as client:
        return client.recv(1)


@pytest.mark.parametrize(("here", "there"), [(HERE, THERE), (HERE6, THERE6)])
def test_container_sees_the_clients_true_address(scene: Scene, here: str, there: str) -> None:
    inside = "::" if ":" in here else "0.0.0.0"
    with patient(scene.container.listen(inside, 80)) as server:
        port = scene.publish("tcp", 80)
        with dial(scene.remote, here, port) as client:
            connection, peer = server.accept()
            with connection:
                assert peer[0] == there
                client.sendall(b"question")
                assert connection.recv(100) == b"question"
                connection.sendall(b"answer")
                assert client.recv(100) == b"answer"


@pytest.mark.parametrize(("address", "gateway"), [("127.0.0.1", "10.77.1.1"), ("::1", "fd77:0:0:1::1")])
def test_client_on_the_hosts_loopback_is_shown_as_the_gateway(scene: Scene, address: str, gateway: str) -> None:
    with patient(scene.container.listen("::" if ":" in address else "0.0.0.0", 80)) as server:
        port = scene.publish("tcp", 80)
        with dial(None, address, port):
            connection, peer = server.accept()
            connection.close()
            assert peer[0] == gateway


def test_client_of_the_other_family_is_shown_as_the_gateway(scene: Scene) -> None:
    old = scene.net.endpoint(scene.net.network(2))
    machine = scene.net.machine(old)
    with patient(machine.listen("0.0.0.0", 80)) as server:
        port = scene.publish("tcp", 80, endpoint=old)
        with dial(scene.remote, HERE6, port):
            connection, peer = server.accept()
            connection.close()
            assert peer[0] == "10.77.2.1"


def test_client_who_says_to_be_inside_is_shown_as_the_gateway() -> None:
    target = Target("10.77.1.2", None, ["10.77.1.0/24", "fd77::/64"])
    assert target.way(pack("10.77.1.9")) == ("10.77.1.2", False)
    assert target.way(pack("10.77.2.9")) == ("10.77.1.2", True)
    assert target.way(pack("127.8.8.8")) == ("10.77.1.2", False)
    assert target.way(pack("fe80::1")) == ("10.77.1.2", False)
    both = Target("10.77.1.2", "fd77::2", ["fd77::/64"])
    assert both.way(pack("fd77::3")) == ("fd77::2", False)
    assert both.way(pack("fd78::3")) == ("fd77::2", True)
    assert Target(None, None).way(pack("192.0.2.1")) is None


def test_half_closes_are_passed_on_and_no_byte_is_lost(scene: Scene) -> None:
    """Megabytes both ways, each side reading late, so that pipes fill and wait."""
    data = os.urandom(3 << 20)
    with patient(scene.container.listen("0.0.0.0", 80)) as server:
        port = scene.publish("tcp", 80)
        with dial(scene.remote, HERE, port) as client:
            connection, _ = server.accept()
            patient(connection)
            with connection:
                sending = threading.Thread(target=send_whole, args=(client, data))
                answering = threading.Thread(target=lambda: connection.sendall(data[::-1]))
                sending.start()
                answering.start()
                received = read_all(connection)
                answering_is = read(client, len(data))
                sending.join(stretched(5))
                answering.join(stretched(5))
                connection.sendall(b"and after the other's end")
                connection.shutdown(socket.SHUT_WR)
                assert read_all(client) == b"and after the other's end"
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()
    assert answering_is == data[::-1]


def test_little_that_comes_after_much_is_not_waited_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcprelay, "_MUCH_BYTES", 1)
    monkeypatch.setattr(tcprelay, "_MUCH_TIMES", 1)
    with patient(scene.container.listen("0.0.0.0", 80)) as server:
        port = scene.publish("tcp", 80)
        with dial(scene.remote, HERE, port) as client:
            connection, _ = server.accept()
            with patient(connection):
                for each in (b"one", b"two", b"three"):
                    client.sendall(each)
                    assert read(connection, len(each)) == each
                    connection.sendall(each)
                    assert read(client, len(each)) == each
                client.sendall(b"the end")
                client.shutdown(socket.SHUT_WR)
                assert read_all(connection) == b"the end"


def send_whole(sock: socket.socket, data: bytes) -> None:
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def read_all(sock: socket.socket) -> bytes:
    found = bytearray()
    while data := sock.recv(1 << 16):
        found += data
    return bytes(found)


def read(sock: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        found += sock.recv(min(1 << 16, count - len(found)))
    return bytes(found)


def test_resets_are_passed_on_both_ways(scene: Scene) -> None:
    with patient(scene.container.listen("0.0.0.0", 80)) as server:
        port = scene.publish("tcp", 80)
        for breaks in (0, 1):
            client = dial(scene.remote, HERE, port)
            connection, _ = server.accept()
            ends = [client, patient(connection)]
            client.sendall(b"x")
            assert connection.recv(1) == b"x"
            ends[breaks].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            ends[breaks].close()
            with ends[1 - breaks] as left, pytest.raises(ConnectionResetError):
                left.recv(1)


def test_port_without_a_program_behind_it_and_a_container_that_ended_give_a_reset(scene: Scene) -> None:
    port = scene.publish("tcp", 81)
    with pytest.raises(ConnectionResetError):
        read_from(scene, port)
    with patient(scene.container.listen("0.0.0.0", 81)) as server:
        with dial(scene.remote, HERE, port) as client:
            connection, _ = server.accept()
            scene.in_loop(scene.ports.shut)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            connection.close()
        with pytest.raises(ConnectionResetError):
            read_from(scene, port)
        end = scene.endpoint
        scene.in_loop(lambda: scene.ports.open(Target(address_of(end), address6_of(end))))
        with dial(scene.remote, HERE, port):
            server.accept()[0].close()
    assert scene.ports.bound[0].port == port


def test_client_that_does_not_read_holds_up_nobody_else(scene: Scene) -> None:
    with patient(scene.container.listen("0.0.0.0", 80)) as server:
        port = scene.publish("tcp", 80)
        with contextlib.ExitStack() as stack:
            for _ in range(12):
                stack.enter_context(dial(scene.remote, HERE, port))
                connection, _ = server.accept()
                stack.enter_context(connection)
                connection.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        connection.send(bytes(1 << 20))
            with dial(scene.remote, HERE, port) as client:
                connection, _ = server.accept()
                with connection:
                    connection.sendall(b"for who reads")
                    assert client.recv(100) == b"for who reads"


@pytest.mark.parametrize(("here", "there"), [(HERE, THERE), (HERE6, THERE6)])
def test_datagrams_come_from_the_client_and_go_back_from_the_address_asked(scene: Scene, here: str, there: str) -> None:
    version = socket.AF_INET6 if ":" in here else socket.AF_INET
    with patient(scene.container.bound("::" if ":" in here else "0.0.0.0", 53)) as server:
        port = scene.publish("udp", 53)
        with patient(scene.remote.open(version, socket.SOCK_DGRAM)) as client:
            client.connect((here, port))  # takes answers from that address only
            for text in (b"one", b"two", b""):
                client.send(text)
                data, peer = server.recvfrom(100)
                assert (data, peer[0]) == (text, there)
                assert answered(server, peer, client, b"answer") == b"answer"


def test_clients_of_datagrams_are_bounded_and_forgotten(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udprelay, "_MOST_CLIENTS", 5)
    monkeypatch.setattr(udprelay, "_LOOK_S", 0.05)
    with patient(scene.container.bound("0.0.0.0", 53)) as server, contextlib.ExitStack() as stack:
        port = scene.publish("udp", 53)
        clients = [
            stack.enter_context(patient(scene.remote.open(socket.AF_INET, socket.SOCK_DGRAM))) for _ in range(20)
        ]
        for client in clients:
            client.sendto(b"x", (HERE, port))
            _data, peer = server.recvfrom(100)
        relay = scene.ports._relays[0]
        assert isinstance(relay, udprelay.UdpRelay)
        assert len(relay._clients) == 5
        assert answered(server, peer, clients[-1], b"for the last") == b"for the last"
        monkeypatch.setattr(udprelay, "_IDLE_S", 0.0)
        deadline = threading.Event()
        for _ in range(400):
            if not relay._clients:
                break
            deadline.wait(0.02)
        assert not relay._clients


def test_flood_of_what_nobody_takes_does_not_stop_the_next(scene: Scene) -> None:
    """ICMP says that nobody listens: that is one datagram's end, not the port's."""
    port = scene.publish("udp", 54)
    with scene.remote.open(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for _ in range(200):
            client.sendto(b"nobody", (HERE, port))
        with patient(scene.container.bound("0.0.0.0", 54)) as server:
            for _ in range(3):
                client.sendto(b"somebody", (HERE, port))
            while server.recv(100) != b"somebody":
                pass


def test_port_that_is_taken_is_refused_and_nothing_is_bound(scene: Scene) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NetworkError, match=rf"127\.0\.0\.1:{port}/tcp: port is already allocated"):
            scene.ports.bind([Asked(("127.0.0.1",), "tcp", 0, 80), Asked(("127.0.0.1",), "tcp", port, 81)])
    assert not scene.ports.bound
    with pytest.raises(NetworkError, match="no such address"):
        scene.ports.bind([Asked(("203.0.113.99",), "udp", 0, 80)])


def test_chosen_port_is_the_same_at_all_addresses(scene: Scene) -> None:
    asked = [Asked(("127.0.0.1", "::1", HERE), kind, 0, 80) for kind in ("tcp", "udp")]
    scene.ports.bind(asked)
    for each, kind in zip(scene.ports.bound, (socket.SOCK_STREAM, socket.SOCK_DGRAM), strict=True):
        assert each.port
        for address in each.addresses:
            version = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(version, kind) as again, pytest.raises(OSError, match="in use"):
                again.bind((address, each.port))
