"""A machine that has IPv6 alone: what build steps and containers reach from it, and what they do not."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.workloads import BASE
from containers import addresses, netlink, resolvers
from tests.containers.lans import Machine
from tests.toolkit.containers import end_containers
from tests.toolkit.shiplap import Shiplap

pytestmark = pytest.mark.usefixtures("privileged")

_HERE, _ROUTER, _FAR = "fd10::1", "fd10::2", "2001:db8:1::1"
_LINK = 100


class Internet:
    """A machine whose one way out is IPv6, and a far one behind its router, which says who has come."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.here, self._there = Machine(), Machine()
        stack.callback(self.here.close)
        stack.callback(self._there.close)

        def near() -> None:
            link = netlink.Netlink()
            link.change(
                netlink.link_up(1),
                netlink.new_veth(_LINK, "eth0", _LINK, "eth0", self._there.netns, 1500),
                netlink.add_address(_LINK, addresses.pack(_HERE), 64),
                netlink.add_neighbour(_LINK, addresses.pack(_ROUTER), netlink.VETH_MACS[1]),
            )
            link.close()

        def far() -> None:
            link = netlink.Netlink()
            link.change(
                netlink.link_up(1),
                netlink.add_address(1, addresses.pack(_FAR), 128),
                netlink.add_address(_LINK, addresses.pack(_ROUTER), 64),
                netlink.link_up(_LINK),
                netlink.add_neighbour(_LINK, addresses.pack(_HERE), netlink.VETH_MACS[0]),
            )
            link.close()

        def out() -> None:
            link = netlink.Netlink()
            link.change(netlink.add_default_route(addresses.pack(_ROUTER)))
            link.close()

        self.here.do(near)
        self._there.do(far)
        self.here.do(out)
        self.server = stack.enter_context(self._there.listen(_FAR))
        self.server.settimeout(None)
        self.port = self.server.getsockname()[1]
        self.own = stack.enter_context(self.here.listen(_HERE))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def prefix(self) -> tuple[str, ...]:
        """What runs a command on the machine."""
        return ("nsenter", f"--net=/proc/{os.getpid()}/fd/{self.here.netns}")

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, peer = self.server.accept()
                with client:
                    client.sendall(f"you are {peer[0]}\n".encode())


@pytest.fixture
def internet() -> Iterator[Internet]:
    with contextlib.ExitStack() as stack:
        yield Internet(stack)


@pytest.fixture
def shiplap(busybox_tar: Path, tmp_path: Path) -> Iterator[Shiplap]:
    shiplap = Shiplap(tmp_path / "root")
    shiplap("image", "import", busybox_tar, BASE)
    yield shiplap
    end_containers(shiplap)


def test_a_build_step_reaches_the_outside_by_ipv6_alone(internet: Internet, shiplap: Shiplap, tmp_path: Path) -> None:
    own = internet.own.getsockname()[1]
    asked = f"""\
        nc -w 20 {_FAR} {internet.port} </dev/null
        ip route | grep -c default
        ip -6 route | grep -c ^default
        nc -w 20 {_HERE} {own} </dev/null 2>&1 || echo not the host
        nc -w 20 fd00:ec2::254 80 </dev/null 2>&1 || echo not the cloud
        """
    step = "; ".join(line.strip() for line in asked.strip().splitlines())
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\nRUN {step}\n")
    done = shiplap("build", "--no-cache", "--progress", "plain", tmp_path, prefix=internet.prefix)
    said = [line.partition(" ")[2].partition(" ")[2] for line in done.stderr.splitlines() if line.startswith("#2 ")]
    for line in (f"you are {_HERE}", "0", "1", "not the host", "not the cloud"):
        assert line in said, done.stderr


def test_networks_that_the_administrator_names_are_out_of_reach(
    internet: Internet, shiplap: Shiplap, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\nRUN nc -w 20 {_FAR} {internet.port} </dev/null\n")
    denied = {"SHIPLAP_DENIED_NETWORKS": "2001:db8::/32"}
    done = shiplap("build", "--no-cache", tmp_path, prefix=internet.prefix, env=denied, check=False)
    assert done.returncode != 0
    assert "Permission denied" in done.stderr


def test_a_container_of_a_network_with_ipv6_does_so_too(internet: Internet, shiplap: Shiplap) -> None:
    shiplap("network", "create", "--ipv6", "six", prefix=internet.prefix)
    ask = f"nc -w 20 {_FAR} {internet.port} </dev/null"
    done = shiplap("run", "--rm", "--network", "six", BASE, "sh", "-c", ask, prefix=internet.prefix)
    assert done.stdout == f"you are {_HERE}\n"


def test_resolvers_of_a_machine_without_ipv4() -> None:
    own = addresses.pack("fd10::1")
    text = "nameserver ::1\nnameserver fe80::1%eth0\nnameserver fd10::1\nnameserver 2001:db8::53\n"
    forward = resolvers.DNS_FORWARD6
    assert resolvers.resolv_conf(text, {own}, forward) == f"nameserver {forward}\nnameserver 2001:db8::53\n"
    assert resolvers.within_reach("nameserver 2001:db8::53\n", {own}, size=16) == "nameserver 2001:db8::53\n"
