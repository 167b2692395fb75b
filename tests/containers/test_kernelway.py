"""The kernel's way out: taken where nobody drops what is forwarded, closed to all but answers, made again when lost.

The host here is a namespace of the test's own, with a neighbour behind its interface.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from containers import kernelway, netlink, nftwire, programs
from containers.addresses import pack
from containers.errors import NetworkError
from containers.launcher import Launcher
from containers.netspaces import inside, write_sysctls
from tests.containers.lans import Machine
from tests.containers.running import Runner, descendants, eventually
from tests.toolkit.bounds import stretched

_HOST, _NEIGHBOUR = "203.0.113.1", "203.0.113.2"
_DOCKERS = "add table ip filter\nadd chain ip filter FORWARD { type filter hook forward priority filter; policy drop; }"
_FIREWALLDS = """\
add table inet firewalld
add chain inet firewalld filter_FORWARD { type filter hook forward priority filter + 10; }
add rule inet firewalld filter_FORWARD ct state established,related accept
add rule inet firewalld filter_FORWARD reject with icmpx type admin-prohibited
"""


class Scene:
    """A host, its neighbour, and namespaces that are to reach it."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self.host, self.neighbour = self.machine(), self.machine()
        self.host.do(self._prepare)

    def machine(self) -> Machine:
        made = Machine()
        self._stack.callback(made.close)
        return made

    def _prepare(self) -> None:
        write_sysctls(("ipv4/ip_forward", "0"), ("ipv6/conf/all/forwarding", "0"))
        with contextlib.closing(netlink.Netlink()) as link:
            pair = netlink.new_pair("eth0", b"\2host\1", "far", b"\2host\2", self.neighbour.netns, 1400)
            link.change(netlink.link_up(1), pair)
            index = link.links()["eth0"]
            link.change(
                netlink.add_address(index, pack(_HOST), 24),
                netlink.add_neighbour(index, pack(_NEIGHBOUR), b"\2host\2"),
                netlink.add_default_route(pack(_NEIGHBOUR)),
            )
        self.neighbour.do(self._prepare_neighbour)

    def _prepare_neighbour(self) -> None:
        with contextlib.closing(netlink.Netlink()) as link:
            index = link.links()["far"]
            link.change(
                netlink.link_up(1),
                netlink.add_address(index, pack(_NEIGHBOUR), 24),
                netlink.link_up(index),
                netlink.add_neighbour(index, pack(_HOST), b"\2host\1"),
                netlink.add_default_route(pack(_HOST)),
            )

    def joined(self) -> Machine:
        made = self.machine()

        def join() -> None:
            with contextlib.closing(netlink.Netlink()) as link:
                assert kernelway.join(made.netns, link) == 1400

        self.host.do(join)
        return made

    def nft(self, script: str) -> None:
        def work() -> None:
            assert programs.nft(script) == ""

        self.host.do(work)


@pytest.fixture
def scene(privileged: None) -> Iterator[Scene]:
    with contextlib.ExitStack() as stack:
        yield Scene(stack)


def test_neighbour_is_reached_and_sees_the_host(scene: Scene) -> None:
    here = scene.joined()
    with scene.neighbour.listen(_NEIGHBOUR, 80) as server, here.open() as client:
        client.settimeout(stretched(5))
        server.settimeout(stretched(5))
        client.connect((_NEIGHBOUR, 80))
        connection, peer = server.accept()
        connection.close()
        assert peer[0] == _HOST


def test_nothing_comes_in_and_neither_host_nor_another_is_reached(scene: Scene) -> None:
    one, other = scene.joined(), scene.joined()
    far = _address(one)
    for near in (scene.neighbour, other):
        with one.listen("0.0.0.0", 80), near.open() as client, pytest.raises(OSError, match=r"timed|route|refused"):
            client.connect((far, 80))
    with scene.host.listen("0.0.0.0", 80):
        for address in (_HOST, far[: far.rindex(".")] + f".{int(far.rpartition('.')[2]) - 1}"):
            with one.open() as client, pytest.raises(OSError, match=r"timed|route|refused"):
                client.connect((address, 80))


def _address(machine: Machine) -> str:
    found: list[str] = []

    def work() -> None:
        with contextlib.closing(netlink.Netlink()) as link:
            found.extend(socket.inet_ntop(socket.AF_INET, each) for each in link.all_addresses() if len(each) == 4)

    machine.do(work)
    return next(address for address in found if not address.startswith("127."))


@pytest.mark.parametrize(
    ("rules", "links", "said", "hint"),
    [
        (_DOCKERS, ("docker0",), "docker drops", "DOCKER-USER -i shiplap+"),
        (_DOCKERS, (), "another firewall drops", "shiplap*"),
        (_FIREWALLDS, (), "firewalld rejects", "--zone=trusted --add-interface=shiplap+"),
    ],
)
def test_other_firewall_is_noticed_and_named_with_the_rule_that_would_help(
    scene: Scene, rules: str, links: tuple[str, ...], said: str, hint: str
) -> None:
    scene.nft(rules)

    def add() -> None:
        with contextlib.closing(netlink.Netlink()) as link:
            for name in links:
                link.change(netlink.new_bridge(name, b"\x02outer"))

    scene.host.do(add)
    with pytest.raises(NetworkError, match=said) as caught:
        scene.joined()
    assert hint in str(caught.value.hint)
    assert not any(name.startswith("shiplap") for name in _links(scene.host))


def _links(machine: Machine) -> list[str]:
    found: list[str] = []

    def work() -> None:
        with contextlib.closing(netlink.Netlink()) as link:
            found.extend(link.links())

    machine.do(work)
    return found


def test_host_that_forwarded_nothing_forwards_nothing_of_others(scene: Scene) -> None:
    """It takes part in forwarding by its interface from now on; a stranger's packets are dropped all the same."""
    here = scene.joined()
    other = scene.machine()

    def add_another() -> None:
        with contextlib.closing(netlink.Netlink()) as link:
            link.change(netlink.new_pair("eth1", b"\2othr\1", "far", b"\2othr\2", other.netns, 1500))
            link.change(netlink.add_address(link.links()["eth1"], pack("10.99.0.1"), 24))

    def there() -> None:
        with contextlib.closing(netlink.Netlink()) as link:
            index = link.links()["far"]
            link.change(netlink.add_address(index, pack("10.99.0.2"), 24), netlink.link_up(index))
            link.change(netlink.add_default_route(pack("10.99.0.1")))

    scene.host.do(add_another)
    other.do(there)
    with other.listen("0.0.0.0", 80) as server:
        server.settimeout(stretched(1))
        with scene.neighbour.open() as client, pytest.raises(OSError, match=r"timed|route|refused"):
            client.connect(("10.99.0.2", 80))
        scene.host.do(lambda: write_sysctls(("ipv4/ip_forward", "1")))
        scene.host.do(kernelway.give_back_borrowed)  # it is a router now, by somebody else's wish
        with scene.neighbour.open() as client:
            client.settimeout(stretched(5))
            client.connect(("10.99.0.2", 80))
    del here


def test_flushed_rules_are_made_again(scene: Scene) -> None:
    here = scene.joined()
    scene.nft("flush ruleset")
    scene.host.do(kernelway.ensure_table)
    with scene.neighbour.listen(_NEIGHBOUR, 80) as server, here.open() as client:
        client.settimeout(stretched(5))
        client.connect((_NEIGHBOUR, 80))
        connection, peer = server.accept()
        connection.close()
        assert peer[0] == _HOST


def test_nothing_stays_of_a_namespace_that_is_gone(scene: Scene) -> None:
    before = _links(scene.host)

    def join_and_go() -> None:
        (fd,) = inside(None, lambda: [os.open("/proc/thread-self/ns/net", os.O_RDONLY)])
        with contextlib.closing(netlink.Netlink()) as link:
            kernelway.join(fd, link)
        os.close(fd)

    scene.host.do(join_and_go)
    assert eventually(lambda: _links(scene.host) == before)


def test_host_without_a_way_out_says_so(scene: Scene) -> None:
    lonely = scene.machine()

    def join() -> None:
        with contextlib.closing(netlink.Netlink()) as link:
            kernelway.join(scene.machine().netns, link)

    with pytest.raises(NetworkError, match="no way out by IPv4"):
        lonely.do(join)


def _pastas(launcher: Launcher) -> int:
    count = 0
    for pid in descendants(launcher.pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            count += Path(f"/proc/{pid}/comm").read_text().startswith("pasta")
    return count


@pytest.fixture
def launched(privileged: None, tmp_path: Path) -> Iterator[Callable[[str], Launcher]]:
    with contextlib.ExitStack() as stack:

        def make(uplink: str) -> Launcher:
            state = tmp_path / uplink
            state.mkdir()
            return stack.enter_context(Launcher(state, uplink=uplink))

        yield make


@pytest.mark.parametrize(("uplink", "pastas"), [("kernel", 0), ("pasta", 1)])
def test_setting_chooses_the_way(launched: Callable[[str], Launcher], run: Runner, uplink: str, pastas: int) -> None:
    run.launcher = launched(uplink)
    assert "eth0" in run("ls /sys/class/net", network="default")
    assert bool(_pastas(run.launcher)) == bool(pastas)


def test_flushed_rules_are_made_again_while_containers_run(launched: Callable[[str], Launcher], run: Runner) -> None:
    run.launcher = launched("kernel")
    run("true", network="default")
    with contextlib.closing(nftwire.Nft()) as nft:
        assert nft.has_table(nftwire.INET, "shiplap")
        assert programs.nft("delete table inet shiplap") == ""
        assert eventually(lambda: nft.has_table(nftwire.INET, "shiplap"))
