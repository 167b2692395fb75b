"""The switch's way out: by the kernel and by pasta, chosen, lost, and made again."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.netlink import Netlink
from containers.nftwire import Nft
from containers.switch import remove_switch
from containers.switchrules import HOST_GATEWAY
from containers.switchway import ensure_way, watch
from tests.containers.lans import Lan, Machine
from tests.containers.running import eventually
from tests.containers.test_kernelway import _DOCKERS, _HOST, _NEIGHBOUR, Scene
from tests.toolkit.bounds import stretched


class Connected:
    """A switch below a host of the test's own."""

    def __init__(self, stack: contextlib.ExitStack, run: Path) -> None:
        self.scene = Scene(stack)
        self.run = run
        made: list[Lan] = []
        self.scene.host.do(lambda: made.append(Lan(run, stack)))
        self.lan = made[0]

    def ensure(self, way: str = "auto") -> str:
        made: list[str] = []
        self.scene.host.do(lambda: made.append(ensure_way(str(self.run), self.lan.switch, way)))
        return made[0]

    def seen_from(self, machine: Machine) -> str:
        """Whom the neighbour sees when a machine connects to it."""
        with self.scene.neighbour.listen(_NEIGHBOUR, 80) as server, machine.open() as client:
            client.settimeout(stretched(5))
            server.settimeout(stretched(5))
            client.connect((_NEIGHBOUR, 80))
            connection, peer = server.accept()
            connection.close()
            return str(peer[0])


@pytest.fixture
def connected(privileged: None, tmp_path: Path) -> Iterator[Connected]:
    with contextlib.ExitStack() as stack:
        stack.callback(remove_switch, str(tmp_path))
        yield Connected(stack, tmp_path)


@pytest.mark.parametrize("way", ["kernel", "pasta"])
def test_container_reaches_the_outside_as_the_host_and_an_internal_one_does_not(connected: Connected, way: str) -> None:
    assert connected.ensure(way) == way
    assert connected.ensure(way) == way
    outer = connected.lan.machine(connected.lan.endpoint(connected.lan.network(1)))
    inner = connected.lan.machine(connected.lan.endpoint(connected.lan.network(2, internal=True)))
    assert connected.seen_from(outer) == _HOST
    with inner.open() as client, pytest.raises(OSError, match="unreachable"):
        client.connect((_NEIGHBOUR, 80))


def test_firewall_that_drops_what_is_forwarded_makes_it_pasta(connected: Connected) -> None:
    connected.scene.nft(_DOCKERS)
    assert connected.ensure() == "pasta"
    outer = connected.lan.machine(connected.lan.endpoint(connected.lan.network(1)))
    assert connected.seen_from(outer) == _HOST


def test_lost_way_is_noticed_and_made_again(connected: Connected) -> None:
    outer = connected.lan.machine(connected.lan.endpoint(connected.lan.network(1)))
    assert connected.ensure("pasta") == "pasta"
    made: list[tuple[Nft, Netlink]] = []
    connected.scene.host.do(lambda: made.append(watch(connected.lan.switch)))
    tables, links = made[0]
    with contextlib.closing(tables), contextlib.closing(links):
        os.kill(int((connected.run / "switch" / "pasta.pid").read_text()), signal.SIGKILL)
        assert eventually(lambda: connected.lan.switch.mtu() == 0)
        links.drain()
        assert connected.ensure("kernel") == "kernel"
        assert connected.seen_from(outer) == _HOST
        tables.drain()
        connected.scene.nft("flush ruleset")
        tables.drain()
        assert connected.ensure() == "kernel"
        assert connected.seen_from(outer) == _HOST


@pytest.mark.parametrize("way", ["kernel", "pasta"])
def test_host_is_reached_at_its_gateway_address_by_who_may_only(connected: Connected, way: str) -> None:
    connected.ensure(way)
    network = connected.lan.network(1)
    plain = connected.lan.machine(connected.lan.endpoint(network))
    asking = connected.lan.machine(connected.lan.endpoint(network, host_gateway=True))
    with connected.scene.host.listen("0.0.0.0", 8080) as server:
        server.settimeout(stretched(5))
        with asking.open() as client:
            client.settimeout(stretched(5))
            client.connect((HOST_GATEWAY, 8080))
            server.accept()[0].close()
        for machine, address in ((plain, HOST_GATEWAY), (plain, _HOST), (asking, _HOST)):
            with machine.open() as client, pytest.raises(OSError, match=r"route|refused"):
                client.connect((address, 8080))


def test_nothing_comes_in_by_the_way_out(connected: Connected) -> None:
    connected.ensure("kernel")
    endpoint = connected.lan.endpoint(connected.lan.network(1))
    outer = connected.lan.machine(endpoint)
    assert endpoint.ipv4
    address = endpoint.ipv4.partition("/")[0]
    with contextlib.ExitStack() as stack:
        stack.enter_context(outer.listen("0.0.0.0", 80))
        client = stack.enter_context(connected.scene.neighbour.open())
        with pytest.raises(OSError, match=r"timed|route|refused"):
            client.connect((address, 80))
