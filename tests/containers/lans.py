"""Containers as a switch sees them: network namespaces, and sockets of this process inside them."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from containers import addresses
from containers.endpoints import Endpoint, Network
from containers.netspaces import inside
from containers.switch import Switch, open_switch, remove_switch
from tests.toolkit.bounds import stretched

WAIT_S = 0.4
"""How long something that must not come is waited for."""


class Machine:
    """A network namespace that is this process's only."""

    def __init__(self) -> None:
        (self.netns,) = inside(None, lambda: [os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)])

    def close(self) -> None:
        os.close(self.netns)

    def open(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
        (fd,) = inside(self.netns, lambda: [socket.socket(family, kind, protocol).detach()])
        found = socket.socket(fileno=fd)
        found.settimeout(WAIT_S)
        return found

    def listen(self, address: str, port: int = 0) -> socket.socket:
        found = self.open(socket.AF_INET6 if ":" in address else socket.AF_INET)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((address, port))
        found.listen()
        return found

    def bound(self, address: str, port: int = 0) -> socket.socket:
        """A UDP socket."""
        found = self.open(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        found.bind((address, port))
        return found

    def wire(self, interface: str = "eth0") -> socket.socket:
        """A socket for whole frames, sent and received."""
        found = self.open(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        found.bind((interface, 3))
        return found

    def reaches(self, server: socket.socket, address: str | None = None) -> bool:
        """Whether a TCP connection from here gets to a listening socket, by its own or another address."""
        host, port = server.getsockname()[:2]
        with self.open(server.family) as client:
            client.settimeout(stretched(2))  # refusals come at once; who was just attached may need a second
            try:
                client.connect((address or host, port))
            except OSError:
                return False
            connection, _ = server.accept()
            connection.close()
            return True

    def do(self, work: Callable[[], None]) -> None:
        def there() -> list[int]:
            work()
            return []

        inside(self.netns, there)


class Lan:
    """A switch below a folder, and machines attached to it."""

    def __init__(self, run: Path, stack: contextlib.ExitStack) -> None:
        self.run = run
        self._stack = stack
        self.switch: Switch = stack.enter_context(open_switch(str(run)))
        self._count = 1

    def network(self, number: int, *, internal: bool = False, ipv6: bool = False) -> Network:
        extra = {"subnet6": f"fd77:0:0:{number:x}::/64", "gateway6": f"fd77:0:0:{number:x}::1"} if ipv6 else {}
        network = Network(f"network{number}", f"10.77.{number}.0/24", f"10.77.{number}.1", internal=internal, **extra)
        self.switch.add_network(network)
        return network

    def endpoint(self, network: Network, *, interface: str = "eth0", host_gateway: bool = False) -> Endpoint:
        self._count += 1
        number = network.id.removeprefix("network")
        ipv4 = f"10.77.{number}.{self._count}"
        return Endpoint(
            f"container{self._count}",
            network.id,
            interface,
            addresses.mac_for(addresses.pack(ipv4)),
            f"{ipv4}/24",
            f"fd77:0:0:{int(number):x}::{self._count:x}/64" if network.subnet6 else None,
            gateway=None if network.internal else network.gateway,
            gateway6=None if network.internal else network.gateway6,
            host_gateway=host_gateway,
        )

    def machine(self, *endpoints: Endpoint) -> Machine:
        machine = Machine()
        self._stack.callback(machine.close)
        for endpoint in endpoints:
            self.switch.attach(machine.netns, endpoint)
        return machine


@contextlib.contextmanager
def lan(run: Path) -> Iterator[Lan]:
    with contextlib.ExitStack() as stack:
        stack.callback(remove_switch, str(run))
        yield Lan(run, stack)


def address_of(endpoint: Endpoint) -> str:
    assert endpoint.ipv4 is not None
    return endpoint.ipv4.partition("/")[0]


def address6_of(endpoint: Endpoint) -> str:
    assert endpoint.ipv6 is not None
    return endpoint.ipv6.partition("/")[0]
