"""The switch: who talks to whom, and that it is found, finished and swept whatever was killed."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from containers import addresses, netlink, nftwire, programs, switchpin
from containers.endpoints import Endpoint, Network, Publication
from containers.errors import NetworkError
from containers.netspaces import inside
from containers.switch import open_switch, remove_switch
from containers.switchrules import FIND_TRANSPARENT, MAPS, PORT_SETS, SETS, TABLE
from tests.containers.lans import Lan, address6_of, address_of, lan


@pytest.fixture
def net(privileged: None, tmp_path: Path) -> Iterator[Lan]:
    with lan(tmp_path) as made:
        yield made


def test_containers_of_one_network_talk(net: Lan) -> None:
    network = net.network(1, ipv6=True)
    one, two = net.endpoint(network), net.endpoint(network)
    here, there = net.machine(one), net.machine(two)
    with there.listen(address_of(two)) as server, there.listen(address6_of(two)) as server6:
        assert here.reaches(server)
        assert here.reaches(server6)


def test_containers_of_different_networks_do_not(net: Lan) -> None:
    one, two = net.endpoint(net.network(1, ipv6=True)), net.endpoint(net.network(2, ipv6=True))
    here, there = net.machine(one), net.machine(two)
    with there.listen("0.0.0.0") as server, there.listen("::") as server6:
        assert not here.reaches(server, address_of(two))
        assert not here.reaches(server6, address6_of(two))


def test_container_in_two_networks_talks_in_both_and_carries_nothing_across(net: Lan) -> None:
    first, second = net.network(1), net.network(2)
    one, two = net.endpoint(first), net.endpoint(second)
    left, right = net.machine(one), net.machine(two)
    both_first, both_second = net.endpoint(first), net.endpoint(second, interface="eth1")
    both_second.gateway = None
    both = net.machine(both_first, both_second)
    with left.listen(address_of(one)) as server, right.listen(address_of(two)) as other:
        assert both.reaches(server)
        assert both.reaches(other)
        assert not left.reaches(other)


def test_gateway_keeps_its_mac_address_whoever_comes_and_goes(net: Lan) -> None:
    network = net.network(1)

    def mac() -> bytes:
        (fd,) = inside(net.switch.netns, lambda: [netlink.Netlink().detach()])
        link = netlink.Netlink(fd=fd)
        try:
            found = link.look_up(network.bridge)
            assert found is not None
            return found[2]
        finally:
            link.close()

    before = mac()
    ends = [net.endpoint(network) for _ in range(8)]
    for end in ends:
        net.machine(end)
    assert mac() == before
    net.switch.detach(ends[0])
    assert mac() == before


def test_first_packets_to_and_from_a_container_wait_for_no_neighbours_answer(net: Lan) -> None:
    """A question that comes before the answerer is ready would be asked again a second later."""
    network = net.network(1, ipv6=True)
    end = net.endpoint(network)
    machine = net.machine(end)
    known = []
    for netns, address in ((net.switch.netns, end.ipv4), (net.switch.netns, end.ipv6), (machine.netns, end.gateway)):
        (fd,) = inside(netns, lambda: [netlink.Netlink().detach()])
        link = netlink.Netlink(fd=fd)
        known.append(addresses.pack((address or "").partition("/")[0]) in neighbours(link))
        link.close()
    assert known == [True, True, True]


def neighbours(link: netlink.Netlink) -> set[bytes]:
    """The addresses that a namespace knows the machines of."""
    get_neigh, nda_dst = 30, 1
    entries = link._dump(get_neigh, bytes(12))
    return {attributes[nda_dst] for _, attributes in entries if nda_dst in attributes}


def test_ping_of_the_gateway_is_answered_and_nothing_else_of_it(net: Lan) -> None:
    network = net.network(1)
    here = net.machine(net.endpoint(network))
    assert network.gateway
    (fd,) = inside(net.switch.netns, lambda: [socket.create_server(("0.0.0.0", 0)).detach()])
    with socket.socket(fileno=fd) as server:
        server.settimeout(1)
        assert not here.reaches(server, network.gateway)
    with here.open(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as ping:
        ping.sendto(bytes.fromhex("0800 f7fd 0001 0001"), (network.gateway, 0))
        assert ping.recv(100)[20] == 0


def test_published_port_is_reached_by_the_gateways_and_the_hosts_addresses(net: Lan) -> None:
    """Also from the network that it is in, and from the container itself; by no address that it is not published at."""
    first, second = net.network(1), net.network(2)
    one, two = net.endpoint(first), net.endpoint(second)
    near, far = net.machine(one), net.machine(two)
    host = next(text for text in _host_addresses() if not text.startswith("127."))
    with near.listen("0.0.0.0", 80) as server:
        every = Publication("0.0.0.0", "tcp", 8080, address_of(one), 80)
        net.switch.publish(every)
        net.switch.publish(every)
        for address in ("10.77.1.1", "10.77.2.1", host):
            for machine in (near, far):
                with machine.open() as client:
                    client.connect((address, 8080))
                    server.accept()[0].close()
        net.switch.withdraw(every)
        net.switch.withdraw(every)
        net.switch.publish(Publication(host, "tcp", 8080, address_of(one), 80))
        with far.open() as client:
            client.connect((host, 8080))
            server.accept()[0].close()
        with far.open() as client, pytest.raises(OSError, match=r"refused|No route"):
            client.connect(("10.77.2.1", 8080))


def _host_addresses() -> list[str]:
    link = netlink.Netlink()
    try:
        return [socket.inet_ntop(socket.AF_INET, each) for each in link.all_addresses() if len(each) == 4]
    finally:
        link.close()


def test_publication_of_a_container_that_was_killed_is_replaced(net: Lan) -> None:
    network = net.network(1)
    one, two = net.endpoint(network), net.endpoint(network)
    machine = net.machine(two)
    net.switch.publish(Publication("0.0.0.0", "tcp", 8080, address_of(one), 80))
    net.switch.publish(Publication("0.0.0.0", "tcp", 8080, address_of(two), 80))
    with machine.listen("0.0.0.0", 80) as server, machine.open() as client:
        client.connect(("10.77.1.1", 8080))
        server.accept()[0].close()


def test_internal_network_has_no_way_out_and_no_published_ports(net: Lan) -> None:
    inner, outer = net.endpoint(net.network(1, internal=True)), net.endpoint(net.network(2))
    here, there = net.machine(inner), net.machine(outer)
    with there.listen("0.0.0.0", 80):
        net.switch.publish(Publication("0.0.0.0", "tcp", 8080, address_of(outer), 80))
        with here.open() as client, pytest.raises(OSError, match=r"unreachable"):
            client.connect(("10.77.2.1", 8080))
        here.do(lambda: _route("10.77.1.1"))
        with here.open() as client, pytest.raises(OSError, match=r"route|refused|timed"):
            client.connect(("10.77.1.1", 8080))


def _route(gateway: str) -> None:
    link = netlink.Netlink()
    link.change(netlink.add_default_route(socket.inet_aton(gateway)))
    link.close()


def test_what_is_made_twice_is_there_once_and_goes_with_all_its_elements(net: Lan) -> None:
    network = net.network(1, ipv6=True)
    bare = _elements(net)
    endpoint = net.endpoint(network, host_gateway=True)
    machine = net.machine(endpoint)
    net.switch.attach(machine.netns, endpoint)
    net.switch.add_network(network)
    other = net.machine(endpoint)
    with other.listen(address_of(endpoint)):
        assert net.switch.networks() == {network.bridge}
    net.switch.detach(endpoint)
    net.switch.detach(endpoint)
    assert _elements(net) == bare
    net.switch.remove_network(network)
    net.switch.remove_network(network)
    assert not net.switch.networks()
    assert {name: keys for name, keys in _elements(net).items() if keys and name not in _HOSTS} == {}


_HOSTS = {"host", "host6", "reachable", "reachable6", "resolvers", "resolvers6"}


_WAYS_OUT: Final = (bytes((198, 19)), b"\xfdShiplap", b"\xfe\x80")
"""How addresses begin that the host has while a switch of another test has a way out."""


def _elements(net: Lan) -> dict[str, list[bytes]]:
    (fd,) = inside(net.switch.netns, lambda: [nftwire.Nft().detach()])
    nft = nftwire.Nft(fd=fd)
    found = {name: sorted(nft.elements(nftwire.INET, TABLE, name)) for name in (*SETS, *MAPS)}
    for name, elements in found.items():
        found[name] = [element for element in elements if not element.startswith(_WAYS_OUT)]
    found |= {name: sorted(nft.elements(nftwire.BRIDGE, TABLE, name)) for name in PORT_SETS}
    nft.close()
    return found


def test_sweep_removes_what_nobody_knows_and_nothing_else(net: Lan) -> None:
    kept, gone = net.network(1), net.network(2)
    known, unknown, lost = net.endpoint(kept), net.endpoint(kept), net.endpoint(gone)
    here, there = net.machine(known), net.machine(unknown, lost_as(lost))
    published = Publication("0.0.0.0", "udp", 53, address_of(known), 53)
    net.switch.publish(published)
    before = _elements(net)
    net.switch.publish(Publication("0.0.0.0", "tcp", 80, address_of(unknown), 80))
    net.switch.sweep([kept], [known], [published])
    assert net.switch.networks() == {kept.bridge}
    after = _elements(net)
    assert after["published"] == before["published"]
    assert [key[:16].rstrip(b"\0").decode() for key in after["macs"]] == [known.port]
    assert len(after["addresses"]) == len(after["bridges"]) == len(after["outgoing"]) == 1
    with here.open(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as ping:
        ping.sendto(bytes.fromhex("0800 f7fd 0001 0001"), ("10.77.1.1", 0))
        assert ping.recv(100)[20] == 0
    del there


def lost_as(endpoint: Endpoint) -> Endpoint:
    """The same, as a second interface without a route."""
    endpoint.interface, endpoint.gateway = "eth1", None
    return endpoint


def test_endpoint_of_an_absent_network_is_refused_by_name(net: Lan) -> None:
    absent = Network("network9", "10.77.9.0/24", "10.77.9.1")
    with pytest.raises(NetworkError, match="no network network9"):
        net.machine(net.endpoint(absent))


def test_switch_is_found_again_with_its_networks(net: Lan) -> None:
    network = net.network(1)
    with open_switch(str(net.run)) as again:
        assert os.fstat(again.netns).st_ino == os.fstat(net.switch.netns).st_ino
        assert again.networks() == {network.bridge}


def test_rules_of_another_release_are_replaced_and_the_elements_stay(net: Lan) -> None:
    one, two = net.endpoint(net.network(1)), net.endpoint(net.network(1))
    here, there = net.machine(one), net.machine(two)
    before = _elements(net)
    with open_switch(str(net.run), denied=("10.0.0.0/8", "fd00::/8")):
        assert _elements(net) == before
        with there.listen(address_of(two)) as server:
            assert here.reaches(server)


def test_many_who_need_it_at_once_get_the_same_one(privileged: None, tmp_path: Path) -> None:
    readers = []
    for _ in range(8):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                with open_switch(str(tmp_path)) as switch:
                    os.write(writer, b"%d" % os.fstat(switch.netns).st_ino)
            finally:
                os._exit(0)
        os.close(writer)
        readers.append((reader, pid))
    found = []
    for reader, pid in readers:
        found.append(os.read(reader, 100))
        os.close(reader)
        os.waitpid(pid, 0)
    remove_switch(str(tmp_path))
    assert len(set(found)) == 1
    assert found[0]


def test_maker_killed_at_any_instant_leaves_a_switch_that_is_whole_or_absent(privileged: None, tmp_path: Path) -> None:
    """And an endpoint half attached is finished by the next attempt."""
    try:
        for delay in range(12):
            pid = os.fork()
            if pid == 0:
                try:
                    with lan(tmp_path) as made:
                        made.machine(made.endpoint(made.network(1)))
                        time.sleep(10)
                finally:
                    os._exit(0)
            time.sleep(delay * 0.008)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            with open_switch(str(tmp_path)) as switch:
                network = Network("network1", "10.77.1.0/24", "10.77.1.1")
                switch.add_network(network)
                switch.sweep([network], [], [])
                assert switch.networks() == {network.bridge}
            if delay % 3 == 2:
                remove_switch(str(tmp_path))
    finally:
        remove_switch(str(tmp_path))


def test_lock_that_another_holds_ends_in_a_message(
    privileged: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switchpin, "LOCK_TIMEOUT_S", 0.05)
    held = switchpin.locked(str(tmp_path / "lock"))
    try:
        with pytest.raises(NetworkError, match="another process has held"):
            switchpin.locked(str(tmp_path / "lock"))
    finally:
        os.close(held)


def test_nothing_stays_of_a_hundred_endpoints(net: Lan) -> None:
    network = net.network(1)
    bare = _elements(net)
    machines = []
    endpoints = [net.endpoint(network) for _ in range(100)]
    began = time.monotonic()
    machines = [net.machine(endpoint) for endpoint in endpoints]
    print(f"{(time.monotonic() - began) * 10:.2f} ms an endpoint")
    for endpoint in endpoints:
        net.switch.detach(endpoint)
    assert _elements(net) == bare
    assert len(machines) == 100


def test_kernel_without_nft_socket_is_noted_and_then_found(
    privileged: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keepers then connect as the gateway: answers to the clients' own addresses would not find back."""
    whole = programs.nft
    monkeypatch.setattr(
        programs, "nft", lambda rules: f"Error: {FIND_TRANSPARENT}" if FIND_TRANSPARENT in rules else whole(rules)
    )
    run, folder = str(tmp_path), f"{tmp_path}/switch"
    try:
        open_switch(run).close()
        assert switchpin.is_opaque(folder)
        monkeypatch.setattr(programs, "nft", whole)
        open_switch(run, denied=("192.0.2.0/24",)).close()  # other rules, as of another release
        assert not switchpin.is_opaque(folder)
    finally:
        remove_switch(run)
