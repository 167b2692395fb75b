"""The kernel's way in to a published port: after the host's firewall, past the keeper, and back to it where it must.

The keeper's loop does not run unless a test says so: who is served all the same came in by the kernel.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from containers import entrance, netlink, nftwire, programs
from containers.addresses import pack
from containers.endpoints import Endpoint, Publication
from containers.keeper.loop import Loop
from containers.keeper.ports import Asked, Elsewhere, Ports, Target
from containers.netspaces import write_sysctls
from containers.switch import remove_switch
from containers.switchway import entrance_mark
from tests.containers.lans import WAIT_S, address_of
from tests.containers.test_kernelway import _HOST, _NEIGHBOUR
from tests.containers.test_switchway import Connected
from tests.toolkit.bounds import stretched


class Published:
    """A container behind a published port of a host that has a neighbour."""

    def __init__(self, stack: contextlib.ExitStack, run: Path) -> None:
        self.connected = Connected(stack, run)
        self.scene, self.lan = self.connected.scene, self.connected.lan
        self.network = self.lan.network(1)
        self.endpoint = self.lan.endpoint(self.network)
        self.container = self.lan.machine(self.endpoint)
        assert self.connected.ensure("kernel") == "kernel"
        self.loop = Loop()
        made: list[Ports] = []
        self.scene.host.do(lambda: made.append(Ports(self.loop, Elsewhere(self.lan.switch.netns).open)))
        self.ports = made[0]
        stack.callback(self.ports.close)
        self.scene.host.do(lambda: self.ports.bind([Asked(("0.0.0.0",), "tcp", 0, 80)]))
        self.port = self.ports.bound[0].port
        self.publication = Publication("0.0.0.0", "tcp", self.port, address_of(self.endpoint), 80)
        self.lan.switch.publish(self.publication)
        mark = entrance_mark(str(run))
        assert mark
        self.ports.open(Target(address_of(self.endpoint), None, ["10.77.1.0/24"], mark=mark))

    def listen(self) -> socket.socket:
        return _patient(self.container.listen("0.0.0.0", 80))

    def connect(self, within_s: float = WAIT_S) -> socket.socket:
        client = self.scene.neighbour.open()
        client.settimeout(within_s)
        try:
            client.connect((_HOST, self.port))
        except OSError:
            client.close()
            raise
        return _patient(client)

    @contextlib.contextmanager
    def served(self) -> Iterator[None]:
        """The keeper's loop runs."""
        end = threading.Event()

        def work() -> None:
            while not end.is_set():
                self.loop.later(0.02, lambda: None)
                self.loop.step()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join(stretched(5))


def _patient(sock: socket.socket) -> socket.socket:
    sock.settimeout(stretched(5))
    return sock


@pytest.fixture
def published(privileged: None, tmp_path: Path) -> Iterator[Published]:
    with contextlib.ExitStack() as stack:
        stack.callback(remove_switch, str(tmp_path))
        yield Published(stack, tmp_path)


def _passes(server: socket.socket, client: socket.socket) -> str:
    """Whether bytes go both ways; whom the container sees."""
    connection, peer = server.accept()
    with _patient(connection):
        client.sendall(b"there")
        assert connection.recv(10) == b"there"
        connection.sendall(b"and back")
        assert client.recv(10) == b"and back"
    return str(peer[0])


def test_client_comes_in_by_the_kernel_and_is_seen_as_who_it_is(published: Published) -> None:
    with published.listen() as server, published.connect() as client:
        assert _passes(server, client) == _NEIGHBOUR
    published.connected.ensure()  # as the next start does
    with published.listen() as server, published.connect() as client:
        assert _passes(server, client) == _NEIGHBOUR
    with pytest.raises(ConnectionRefusedError):  # nobody listens in the container
        published.connect()


@pytest.mark.parametrize("priority", ["filter", "filter + 10"])
def test_what_the_hosts_firewall_does_not_let_in_does_not_come_in(published: Published, priority: str) -> None:
    published.scene.nft(
        f"add table ip wall\nadd chain ip wall input {{ type filter hook input priority {priority}; policy drop; }}"
    )
    with published.listen() as server:
        with pytest.raises(TimeoutError):
            published.connect()
        published.scene.nft(f"add rule ip wall input tcp dport {published.port} accept")
        with published.connect() as client:
            assert _passes(server, client) == _NEIGHBOUR


def test_hosts_own_users_do_not_come_in_behind_its_firewall(published: Published) -> None:
    """They might connect to the switch's end of its pair with the host."""
    known = published.lan.switch.way_in()
    assert known is not None
    with published.listen(), published.scene.host.open() as client:
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.connect((socket.inet_ntoa(known[0]), published.port))


def test_what_was_dnated_by_somebody_else_is_served_by_the_keeper(published: Published) -> None:
    """The copy would have the other port, and its answers would not be known to the client."""
    published.scene.nft(
        "add table ip other\nadd chain ip other pre { type nat hook prerouting priority dstnat; }\n"
        f"add rule ip other pre iifname eth0 tcp dport 1 redirect to :{published.port}"
    )
    with published.served(), published.listen() as server, _patient(published.scene.neighbour.open()) as client:
        client.connect((_HOST, 1))
        assert _passes(server, client) == _NEIGHBOUR


def _flushed(published: Published) -> None:
    published.scene.nft("flush ruleset")


def _shut_to_the_kernel(published: Published) -> None:
    published.scene.nft("flush set ip shiplap taking")


def _closed_doors(published: Published) -> None:
    published.scene.host.do(lambda: write_sysctls(("ipv4/conf/eth0/forwarding", "0")))
    published.connected.ensure()


def _untracked(published: Published) -> None:
    published.scene.nft(
        "add table ip raw\nadd chain ip raw pre { type filter hook prerouting priority raw; }\n"
        f"add rule ip raw pre tcp dport {published.port} notrack"
    )


def _zoned(published: Published) -> None:
    """The rest of the connection would be looked for in another zone than the copy's."""
    published.scene.nft(
        "add table ip raw\nadd chain ip raw pre { type filter hook prerouting priority raw; }\n"
        "add rule ip raw pre iifname eth0 ct zone set 7"
    )


def _dropped_on_its_way(published: Published) -> None:
    """A host that lets out answers only, and what it asks for itself."""
    published.scene.nft(
        "add table ip wall\nadd chain ip wall out { type filter hook output priority filter; policy drop; }\n"
        "add rule ip wall out ct state established accept"
    )


def _without_a_pair(published: Published) -> None:
    """The way out is lost, and there may be pasta's next."""

    def lose() -> None:
        with contextlib.closing(netlink.Netlink()) as link:
            link.change(*(netlink.delete_link(index) for name, index in link.links().items() if name[7:].isdigit()))

    published.scene.host.do(lose)


@pytest.mark.parametrize("event", [_flushed, _shut_to_the_kernel, _closed_doors, _untracked, _zoned])
def test_where_the_kernel_is_no_way_in_the_keeper_serves(
    published: Published, event: Callable[[Published], None]
) -> None:
    event(published)
    with published.served(), published.listen() as server, published.connect() as client:
        assert _passes(server, client) == _NEIGHBOUR


@pytest.mark.parametrize("event", [_dropped_on_its_way, _without_a_pair])
def test_who_is_lost_on_the_way_asks_again_and_the_keeper_serves(
    published: Published, event: Callable[[Published], None]
) -> None:
    event(published)
    with published.served(), published.listen() as server, published.connect(stretched(10)) as client:
        assert _passes(server, client) == _NEIGHBOUR


def test_flushed_way_in_is_made_again_and_streams_go_on(published: Published) -> None:
    with published.listen() as server, published.connect() as client:
        connection, _peer = server.accept()
        with _patient(connection):
            published.scene.nft("flush ruleset")
            published.connected.ensure()
            client.sendall(b"there")
            assert connection.recv(10) == b"there"
        with published.connect() as another:
            assert _passes(server, another) == _NEIGHBOUR


def test_client_with_an_address_of_the_containers_is_shown_as_the_gateway(published: Published) -> None:
    """A VPN that came later: the container would answer its own neighbour."""
    vpn = "10.77.1.200"

    def at_the_host() -> None:
        with contextlib.closing(netlink.Netlink()) as link:
            link.change(netlink.add_address(link.links()["eth0"], pack("10.77.1.201"), 31))
            link.change(netlink.add_neighbour(link.links()["eth0"], pack(vpn), b"\2host\2"))

    def there() -> None:
        with contextlib.closing(netlink.Netlink()) as link:
            link.change(netlink.add_address(link.links()["far"], pack(vpn), 31))

    published.scene.host.do(at_the_host)
    published.scene.neighbour.do(there)
    with published.served(), published.listen() as server, published.scene.neighbour.open() as client:
        client.bind((vpn, 0))
        _patient(client).connect((_HOST, published.port))
        assert _passes(server, client) == published.network.gateway


def test_what_is_published_no_more_and_who_has_its_address_next_is_not_reached(published: Published) -> None:
    with published.listen() as server, published.connect() as client:
        connection, _peer = server.accept()
        with connection:
            published.ports.close()  # as a kill of the keeper does: nothing is withdrawn
            with pytest.raises(ConnectionRefusedError):
                published.connect()
            heir = _same_address(published.endpoint)
            machine = published.lan.machine(heir)
            with machine.open(kind=socket.SOCK_RAW, protocol=socket.IPPROTO_TCP) as seen:
                client.sendall(b"for who was there before")
                assert not any(b"before" in each for each in _packets(seen))


def _packets(seen: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(TimeoutError):
        while True:
            yield seen.recv(1 << 16)


def _same_address(endpoint: Endpoint) -> Endpoint:
    other = f"02:99{endpoint.mac[5:]}"
    return Endpoint("heir", endpoint.network, "eth0", other, endpoint.ipv4, gateway=endpoint.gateway)


def test_port_that_is_withdrawn_resets(published: Published) -> None:
    with published.listen(), published.connect() as client:
        published.lan.switch.withdraw(published.publication)
        with pytest.raises(ConnectionRefusedError):
            published.connect()
        client.sendall(b"to who has gone")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def _strict() -> None:
    write_sysctls(("ipv4/conf/all/rp_filter", "1"))


def _strict_by_one() -> None:
    """As ``net.ipv4.conf.*.rp_filter`` in a file of sysctl.d does, once the interface is there."""
    write_sysctls((f"ipv4/conf/{entrance.IN}/rp_filter", "1"))


def _with_two_ways_out() -> None:
    rule = struct.pack("=BBBBBBBBI", 2, 0, 32, 0, 254, 0, 0, 1, 0) + netlink.attribute(2, pack(_HOST))
    with contextlib.closing(netlink.Netlink()) as link:
        link.change((32, 0x600, rule))  # RTM_NEWRULE, FRA_SRC


@pytest.mark.parametrize("become", [_strict, _strict_by_one, _with_two_ways_out])
def test_host_where_answers_would_be_lost_has_no_way_in_any_more(
    published: Published, become: Callable[[], None]
) -> None:
    known = published.lan.switch.way_in()
    assert known is not None
    marks: list[int] = []
    published.scene.host.do(become)
    published.scene.host.do(lambda: marks.append(entrance.ensure(*known)))
    assert marks == [0]
    with published.served(), published.listen() as server, published.connect() as client:
        assert _passes(server, client) == _NEIGHBOUR


def test_marks_and_networks_that_are_gone_are_taken_away(published: Published) -> None:
    gone = "add element ip shiplap entrances {{ 0x53000003 : 10.9.9.{} }}"
    published.scene.nft(f"add element ip shiplap taking {{ 0x53000003 }}\n{gone.format(9)}")
    published.scene.nft("add element ip shiplap inside { 0x53000003 . 10.9.0.0/16 }")
    other = published.lan.network(2)
    published.connected.ensure()
    published.lan.switch.remove_network(other)
    published.connected.ensure()
    published.scene.nft(gone.format(8))  # nft refuses another value for one that is there

    def look() -> None:
        with contextlib.closing(nftwire.Nft()) as nft:
            ((first, last),) = nft.ranges(nftwire.IP, "shiplap", "inside")
            assert (first[4:], last[4:]) == (pack("10.77.1.0"), pack("10.77.1.255"))

    published.scene.host.do(look)


def test_hosts_rules_that_were_saved_can_be_loaded_at_a_boot(published: Published) -> None:
    """Else an administrator who saves the ruleset has a host without a firewall."""
    saved: list[str] = []
    list_rules = ["nft", "list", "ruleset"]
    published.scene.host.do(lambda: saved.append(subprocess.run(list_rules, capture_output=True, text=True).stdout))
    assert "dup to" in saved[0]
    said: list[str] = []
    published.scene.machine().do(lambda: said.append(programs.nft(saved[0])))
    assert said == [""]
