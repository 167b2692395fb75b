"""A container that lies on its wire: other addresses, ARP, neighbour and router advertisements, tags, the host."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import addresses
from containers.endpoints import Endpoint, mac_of
from containers.switchrules import HOST_GATEWAY
from tests.containers.lans import Lan, address6_of, address_of, lan
from tests.toolkit.bounds import eventually

_IP, _ARP, _IP6, _VLAN = 0x0800, 0x0806, 0x86DD, 0x8100
_EVERYBODY = b"\xff" * 6
_ALL_NODES = addresses.pack("ff02::1")


@pytest.fixture
def net(privileged: None, tmp_path: Path) -> Iterator[Lan]:
    with lan(tmp_path) as made:
        yield made


class Scene:
    """Three containers of one network: a liar, a victim and whoever the liar pretends to be."""

    def __init__(self, net: Lan) -> None:
        network = net.network(1, ipv6=True)
        self.ends = tuple(net.endpoint(network) for _ in range(3))
        self.liar, self.victim, self.other = (net.machine(end) for end in self.ends)
        self.mine, self.victims, self.others = (addresses.pack_mac(end.mac) for end in self.ends)
        self.out = self.liar.wire()
        self.seen = self.victim.wire()
        self._sent = 0

    def arrives(self, frame: bytes) -> bool:
        """Whether the victim's interface sees what the liar sends. A true frame behind it says that it would have."""
        self._sent += 1
        said = b"the true one, number %d." % self._sent
        self.out.send(frame)
        self.out.send(ethernet(self.victims, self.mine, _IP, ipv4(self.ends[0], self.ends[1], said)))
        found = False
        while True:
            received = self.seen.recv(2000)
            if received[6:12] == self.victims:
                continue  # an answer
            if said in received:
                return found
            found = found or received[:60] == frame[:60] or frame[14:50] in received

    def close(self) -> None:
        self.out.close()
        self.seen.close()


@pytest.fixture
def scene(net: Lan) -> Iterator[Scene]:
    made = Scene(net)
    yield made
    made.close()


def ethernet(to: bytes, sender: bytes, kind: int, content: bytes) -> bytes:
    return to + sender + struct.pack(">H", kind) + content.ljust(46, b"\0")


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data.ljust(len(data) + len(data) % 2, b"\0")))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def ipv4(source: Endpoint | str, target: Endpoint | str, content: bytes) -> bytes:
    ends = [socket.inet_aton(end if isinstance(end, str) else address_of(end)) for end in (source, target)]
    udp = struct.pack(">HHHH", 1000, 1000, 8 + len(content), 0) + content
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + ends[0] + ends[1]
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + udp


def ipv6(source: bytes, target: bytes, content: bytes, next_header: int = 58, hops: int = 255) -> bytes:
    if next_header == 58:
        pseudo = source + target + struct.pack(">II", len(content), 58)
        content = content[:2] + struct.pack(">H", checksum(pseudo + content)) + content[4:]
    return struct.pack(">IHBB", 0x60000000, len(content), next_header, hops) + source + target + content


def arp(operation: int, mac: bytes, address: str, to_mac: bytes, to_address: str) -> bytes:
    ends = mac + socket.inet_aton(address) + to_mac + socket.inet_aton(to_address)
    return struct.pack(">HHBBH", 1, _IP, 6, 4, operation) + ends


def test_true_frame_arrives(scene: Scene) -> None:
    frame = ethernet(scene.victims, scene.mine, _IP, ipv4(scene.ends[0], scene.ends[1], b"first"))
    assert scene.arrives(frame)


def test_others_mac_and_ip_addresses_do_not(scene: Scene) -> None:
    liar, victim, other = scene.ends
    true = ipv4(liar, victim, b"a")
    assert not scene.arrives(ethernet(scene.victims, scene.others, _IP, true))
    assert not scene.arrives(ethernet(scene.victims, scene.mine, _IP, ipv4(other, victim, b"b")))
    assert not scene.arrives(ethernet(scene.victims, scene.mine, _IP, ipv4("10.77.1.1", victim, b"gateway")))
    assert not scene.arrives(ethernet(scene.victims, scene.mine, _IP, ipv4("127.0.0.1", victim, b"loop")))
    assert not scene.arrives(ethernet(_EVERYBODY, scene.mine, _IP, ipv4("0.0.0.0", "255.255.255.255", b"dhcp")))


@pytest.mark.parametrize("operation", [1, 2])
def test_arp_for_another_does_not(scene: Scene, operation: int) -> None:
    liar, victim, other = map(address_of, scene.ends)
    for address in (other, "10.77.1.1", "0.0.0.0"):
        frame = arp(operation, scene.mine, address, scene.victims, victim)
        assert not scene.arrives(ethernet(scene.victims, scene.mine, _ARP, frame))
    frame = arp(operation, scene.others, liar, scene.victims, victim)
    assert not scene.arrives(ethernet(scene.victims, scene.mine, _ARP, frame))
    frame = arp(operation, scene.mine, liar, scene.victims, victim)
    assert scene.arrives(ethernet(scene.victims, scene.mine, _ARP, frame))


def test_neighbour_advertisement_of_another_does_not(scene: Scene) -> None:
    liar, victim, other = (addresses.pack(address6_of(end)) for end in scene.ends)
    option = b"\x02\x01" + scene.mine
    for target in (other, addresses.pack("fd77:0:0:1::1")):
        advert = bytes([136, 0, 0, 0, 0x60, 0, 0, 0]) + target + option
        for source in (liar, target):
            assert not scene.arrives(ethernet(scene.victims, scene.mine, _IP6, ipv6(source, victim, advert)))
            behind = bytes([58, 0, 1, 4, 0, 0, 0, 0]) + advert  # behind a destination option
            frame = ethernet(scene.victims, scene.mine, _IP6, ipv6(source, victim, behind, 60))
            assert not scene.arrives(frame)
    own = bytes([136, 0, 0, 0, 0x60, 0, 0, 0]) + liar + option
    assert scene.arrives(ethernet(scene.victims, scene.mine, _IP6, ipv6(liar, victim, own)))


def test_router_advertisement_and_redirect_do_not(scene: Scene) -> None:
    liar = addresses.pack(address6_of(scene.ends[0]))
    for source in (liar, addresses.link_local(scene.mine)):
        for kind in (133, 134, 137):
            message = bytes([kind, 0, 0, 0, 64, 0, 7, 8]) + bytes(8) + bytes(32)
            frame = ethernet(b"\x33\x33\0\0\0\x01", scene.mine, _IP6, ipv6(source, _ALL_NODES, message))
            assert not scene.arrives(frame)


def test_tags_and_other_protocols_do_not(scene: Scene) -> None:
    liar, victim, other = scene.ends
    for source in (liar, other):
        tagged = struct.pack(">HH", 0, _IP) + ipv4(source, victim, b"tagged")
        assert not scene.arrives(ethernet(scene.victims, scene.mine, _VLAN, tagged))
        assert not scene.arrives(ethernet(scene.victims, scene.mine, 0x88A8, tagged))
    assert not scene.arrives(ethernet(b"\x01\x80\xc2\0\0\0", scene.mine, 0x0027, b"\x42\x42\x03" + bytes(40)))
    assert not scene.arrives(ethernet(scene.victims, scene.mine, 0x88CC, bytes(60)))


def test_lies_about_a_neighbour_change_nothing(scene: Scene) -> None:
    """What all of the above is about: the victim's traffic goes where it did."""
    liar, victim, other = map(address_of, scene.ends)
    with scene.other.listen(other, 80) as server:
        assert scene.victim.reaches(server)
        for operation in (1, 2):
            lie = arp(operation, scene.mine, other, scene.victims, victim)
            scene.out.send(ethernet(scene.victims, scene.mine, _ARP, lie))
            scene.out.send(ethernet(scene.others, scene.others, _ARP, lie))
        assert scene.victim.reaches(server)
    del liar


def test_frame_straight_to_the_gateway_does_not_cross(net: Lan) -> None:
    """Neither with the own address nor with one of the other network."""
    first, second = net.network(1), net.network(2)
    one, two = net.endpoint(first), net.endpoint(second)
    here, there = net.machine(one), net.machine(two)
    mac = mac_of(first.id)
    with there.wire() as seen, here.wire() as out:
        for source in (one, two, "10.77.2.1", "198.51.100.1"):
            out.send(ethernet(mac, addresses.pack_mac(one.mac), _IP, ipv4(source, two, b"across")))
        assert not any(b"across" in frame for frame in everything(seen))


def test_metadata_service_and_host_are_out_of_reach_unless_asked_for(net: Lan) -> None:
    """By a way out that is there: a machine outside sees what gets that far."""
    network = net.network(1)
    plain, asking = net.endpoint(network), net.endpoint(network, host_gateway=True)
    here, favoured = net.machine(plain), net.machine(asking)
    with outside(net) as seen:
        for machine in (here, favoured):
            with machine.bound("0.0.0.0") as sender:
                for address in ("169.254.169.254", HOST_GATEWAY, *_host_addresses(), "203.0.113.7"):
                    try:
                        sender.sendto(
                            b"to " + address.encode() + (b" asked" if machine is favoured else b""), (address, 9)
                        )
                    except OSError:
                        continue
        frames = [frame for frame in everything(seen) if frame[12:14] == b"\x08\x00"]
        found = {frame[42:].rstrip(b"\0").decode() for frame in frames}
    assert found == {f"to {HOST_GATEWAY} asked", "to 203.0.113.7", "to 203.0.113.7 asked"}


def everything(wire: socket.socket) -> Iterator[bytes]:
    """What comes until nothing comes."""
    while True:
        try:
            yield wire.recv(2000)
        except TimeoutError:
            return


def outside(net: Lan) -> socket.socket:
    """A wire beyond the switch's way out, to which everything goes that the switch sends out."""
    machine = net.machine()
    script = (
        "link add out type veth peer name far netns {fd}",
        "address add 192.0.2.77/24 dev out",
        "link set out up",
        "route add default via 192.0.2.1",
        "neighbour add 192.0.2.1 lladdr 02:00:00:00:00:01 dev out",
        "route add 169.254.0.0/16 via 192.0.2.1",
    )
    prefix = ["nsenter", f"--net={net.run}/switch/net", "ip"]
    with subprocess.Popen(
        ["nsenter", f"--net=/proc/self/fd/{machine.netns}", "sleep", "60"], pass_fds=[machine.netns]
    ) as far:
        try:
            inside = os.fstat(machine.netns).st_ino
            eventually(lambda: os.stat(f"/proc/{far.pid}/ns/net").st_ino == inside, why="nsenter has entered")
            for line in script:
                subprocess.run([*prefix, *line.format(fd=far.pid).split()], check=True)
            wire_up = ["nsenter", f"--net=/proc/{far.pid}/ns/net", "ip", "link", "set", "far", "up"]
            subprocess.run(wire_up, check=True)
        finally:
            far.kill()
    return machine.wire("far")


def _host_addresses() -> list[str]:
    done = subprocess.run(["ip", "-4", "-o", "addr"], check=True, capture_output=True, text=True)
    found = [line.split()[3].partition("/")[0] for line in done.stdout.splitlines() if " lo " not in line]
    return [address for address in found if not address.startswith("198.19.")]  # ways out that other tests make
