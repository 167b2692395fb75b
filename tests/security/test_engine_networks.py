"""Containers of the engine that reach for what is not theirs: other networks, the host, its cloud, others' ports."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import addresses
from containers.endpoints import Publication, mac_of
from containers.switchrules import HOST_GATEWAY
from tests.containers.lans import Lan, Machine, address6_of, address_of, lan
from tests.containers.test_published_ports import HERE, patient
from tests.containers.test_published_ports import Scene as Published
from tests.containers.test_published_ports import scene as published
from tests.security.test_switch import _ALL_NODES, _IP, _IP6, ethernet, everything, ipv4, ipv6, outside

__all__ = ["published"]

METADATA6 = (
    "fd00:ec2::254",
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
    "fd00:42::42",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
)
ELSEWHERE6 = "2001:db8::7"
_WAY6 = (
    "-6 address add 2001:db8::2/64 dev out nodad",
    f"-6 neighbour add {ELSEWHERE6} lladdr 02:00:00:00:00:01 dev out",
    "-6 neighbour add 2001:db8::1 lladdr 02:00:00:00:00:01 dev out",
    "-6 route add default via 2001:db8::1",
)


@pytest.fixture
def net(privileged: None, tmp_path: Path) -> Iterator[Lan]:
    with lan(tmp_path) as made:
        yield made


def send(machine: Machine, address: str, content: bytes) -> None:
    """A datagram; that it is refused at once is as good as that it does not arrive."""
    with machine.bound("::" if ":" in address else "0.0.0.0") as sender, contextlib.suppress(OSError):
        sender.sendto(content, (address, 9))


def test_advertisements_and_solicitations_stay_within_their_bridge(net: Lan) -> None:
    first, second = net.network(1, ipv6=True), net.network(2, ipv6=True)
    one, two = net.endpoint(first), net.endpoint(second)
    liar, victim = net.machine(one), net.machine(two)
    mac = addresses.pack_mac(one.mac)
    own, theirs = (addresses.pack(address6_of(end)) for end in (one, two))
    router = bytes([134, 0, 0, 0, 64, 0, 7, 8]) + bytes(8)
    neighbour = bytes([136, 0, 0, 0, 0x60, 0, 0, 0]) + theirs + b"\x02\x01" + mac
    with victim.wire() as seen, liar.wire() as out:
        for message in (router, neighbour):
            for source in (own, theirs, addresses.pack("fe80::1"), addresses.link_local(mac)):
                for to in (_ALL_NODES, theirs):
                    for target in (b"\x33\x33\0\0\0\x01", mac_of(first.id), mac_of(second.id)):
                        out.send(ethernet(target, mac, _IP6, ipv6(source, to, message)))
        assert not any(frame[6:12] == mac or message[8:24] in frame for frame in everything(seen))


def test_by_ipv6_neither_the_host_nor_metadata_services_are_reached(net: Lan) -> None:
    """By a way out that is there: a machine outside sees what gets that far."""
    here = net.machine(net.endpoint(net.network(1, ipv6=True)))
    with outside(net) as seen:
        for line in _WAY6:
            subprocess.run(["nsenter", f"--net={net.run}/switch/net", "ip", *line.split()], check=True)
        before = net.switch.host.all_addresses()
        net.switch.refresh()  # other tests' addresses come and go: what is there before and after is taken over
        there = before & net.switch.host.all_addresses()
        hosts = [addresses.unpack(each) for each in there if len(each) == 16]
        for address in (*METADATA6, *(each for each in hosts if each != "::1"), ELSEWHERE6):
            send(here, address, b"to " + address.encode())
        frames = [frame for frame in everything(seen) if frame[12:14] == b"\x86\xdd" and frame[20] == 17]
    assert [frame[62:].rstrip(b"\0").decode() for frame in frames] == [f"to {ELSEWHERE6}"]


def test_the_host_is_not_reached_under_the_address_of_who_may(net: Lan) -> None:
    network, other = net.network(1), net.network(2)
    plain, asking, far = net.endpoint(network), net.endpoint(network, host_gateway=True), net.endpoint(other)
    here, _favoured, there = net.machine(plain), net.machine(asking), net.machine(far)
    with outside(net) as seen:
        for machine, end, gateway in ((here, plain, network), (there, far, other)):
            with machine.wire() as out:
                for source in (end, asking):
                    frame = ipv4(source, HOST_GATEWAY, b"favour")
                    out.send(ethernet(mac_of(gateway.id), addresses.pack_mac(end.mac), _IP, frame))
        assert not any(b"favour" in frame for frame in everything(seen))


def test_port_at_one_address_is_not_reached_by_another_nor_by_one_of_no_network(net: Lan) -> None:
    """What is published at the host's loopback is for the host: no container reaches it, whosever port it is."""
    web, near, alone = net.network(1), net.network(2), net.network(3, internal=True)
    end = net.endpoint(web)
    server_machine, client, inner = net.machine(end), net.machine(net.endpoint(near)), net.machine(net.endpoint(alone))
    net.switch.publish(Publication("127.0.0.1", "tcp", 8080, address_of(end), 80))
    net.switch.publish(Publication("0.0.0.0", "tcp", 8081, address_of(end), 80))
    with server_machine.listen("0.0.0.0", 80):
        gateways = [network.gateway for network in (web, near, alone)]

        def reached(machine: Machine, port: int) -> list[str | None]:
            found = []
            for gateway in gateways:
                with machine.open() as sock, contextlib.suppress(OSError):
                    sock.connect((str(gateway), port))
                    found.append(gateway)
            return found

        assert reached(client, 8081) == gateways[:2]
        assert reached(client, 8080) == reached(inner, 8080) == reached(inner, 8081) == []


def test_datagram_that_says_to_come_from_a_container_is_shown_as_the_gateway_s(published: Published) -> None:
    """Else the container would answer another one, and believe it."""
    neighbour = published.net.endpoint(published.network)
    other = published.net.machine(neighbour)
    forged = address_of(neighbour)
    with patient(published.container.bound("0.0.0.0", 53)) as server, other.wire() as seen:
        port = published.publish("udp", 53)
        frame = _udp_frame(forged, port)
        with published.remote.wire("there") as out:
            out.send(frame)
        data, peer = server.recvfrom(100)
        assert data == b"as another"
        assert peer[0] == published.network.gateway
        server.sendto(b"an answer", peer)
        assert not any(b"an answer" in each for each in everything(seen))


def _udp_frame(source: str, port: int) -> bytes:
    """From the remote machine to the host, with another's address."""
    plain = bytearray(ipv4(source, HERE, b"as another"))
    plain[22:24] = port.to_bytes(2, "big")
    return ethernet(b"\x02near\x01", b"\x02far\x02\0", _IP, bytes(plain))


def test_endpoint_of_a_container_that_has_gone_is_nobody_s(net: Lan) -> None:
    """What it had published, and its addresses, are let in by nobody's port any more."""
    network = net.network(1)
    gone, heir = net.endpoint(network), net.endpoint(network)
    net.machine(gone)
    victim_end = net.endpoint(network)
    victim, liar = net.machine(victim_end), net.machine(heir)
    net.switch.detach(gone)
    with victim.wire() as seen, liar.wire() as out:
        target = addresses.pack_mac(victim_end.mac)
        for mac in (gone.mac, heir.mac):
            out.send(ethernet(target, addresses.pack_mac(mac), _IP, ipv4(gone, victim_end, b"from the dead")))
        assert not any(b"from the dead" in frame for frame in everything(seen))
