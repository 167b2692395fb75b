"""Networks that a step must not reach though the host does: link-local addresses, and what the administrator names."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import addresses, hubrules, resolvers
from containers.errors import NetworkError
from containers.launcher import Launcher
from core.rootfs import DirectoryLayer
from tests.containers.running import eventually
from tests.security.conftest import DebianRunner

METADATA, INSIDE = "169.254.169.254", "203.0.113.9"
SERVER = """
import socket, sys
with socket.create_server(("0.0.0.0", 8080)) as server:
    print("ready", flush=True)
    while True:
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"credentials")
"""
CONNECT = """
use Socket;
socket(my $s, PF_INET, SOCK_STREAM, 0) or die;
connect($s, sockaddr_in(8080, inet_aton("%s"))) or do { print "refused: $!"; exit };
print <$s>;
"""


@pytest.fixture(scope="module")
def neighbour(privileged: None) -> Iterator[None]:
    """A machine beside the host, with a metadata service and an address of a private network."""
    name = f"shl{os.getpid()}"

    def ip(words: str) -> None:
        subprocess.run(["ip", *words.split()], check=True)

    ip(f"netns add {name}")
    try:
        ip(f"link add {name} type veth peer name far netns {name}")
        ip(f"address add 198.51.100.{1 + os.getpid() % 200}/32 dev {name}")
        ip(f"link set {name} up")
        ip(f"-n {name} link set far up")
        ip(f"-n {name} link set lo up")
        ip(f"-n {name} route add default dev far")
        for address in (METADATA, INSIDE):
            ip(f"-n {name} address add {address}/32 dev far")
            ip(f"route add {address}/32 dev {name}")
        command = ["ip", "netns", "exec", name, sys.executable, "-c", SERVER]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            for address in (METADATA, INSIDE):
                assert eventually(lambda: _fetch(address) == b"credentials")  # noqa: B023 - called at once
            yield
            server.kill()
    finally:
        ip(f"netns delete {name}")


def _fetch(address: str) -> bytes:
    with socket.create_connection((address, 8080), 5) as connection:
        return connection.recv(100)


def _runner(launcher: Launcher, folder: Path, layer: DirectoryLayer) -> DebianRunner:
    return DebianRunner(launcher, folder, layer, itertools.count())


def test_metadata_service_is_out_of_bounds(neighbour: None, debian: DebianRunner) -> None:
    assert debian.perl(CONNECT % INSIDE, network="default") == "credentials"
    assert debian.perl(CONNECT % METADATA, network="default").startswith("refused: ")


def test_networks_that_the_administrator_names_are_too(
    neighbour: None, tmp_path: Path, debian_layer: DirectoryLayer
) -> None:
    (tmp_path / "state").mkdir()
    with Launcher(tmp_path / "state", denied_networks="10.99.0.0/16, 203.0.113.0/24") as launcher:
        runner = _runner(launcher, tmp_path, debian_layer)
        assert runner.perl(CONNECT % INSIDE, network="default").startswith("refused: ")


@pytest.mark.parametrize(
    "text", ["10.0.0.0/33", "10.0.0.1/8", "ten", "fd00::1/8", "fd00::/129", "10.0.0.0/", "10.0.0.0/-1"]
)
def test_what_is_no_network_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="no network that could be denied"):
        Launcher(tmp_path, denied_networks=text)


def test_resolvers_stay_reachable_inside_denied_networks() -> None:
    found = resolvers.nameservers("nameserver 10.1.2.3\nnameserver fd00::1\n# nameserver 10.9.9.9\nsearch x\n")
    assert set(map(addresses.unpack, found)) == {"10.1.2.3", "fd00::1"}
    rules = hubrules.rules(set(), denied=("10.0.0.0/8", "fd00::/8"), resolvers=found)
    assert "set resolvers6 { type ipv6_addr; elements = { fd00::1 } }" in rules
    assert ", fd00::/8 }" in rules
    assert rules.index("@resolvers6 accept") < rules.index("@denied6 reject")
    assert "set resolvers { type ipv4_addr; elements = { 10.1.2.3 } }" in rules
    assert "elements = { 169.254.0.0/16, 10.0.0.0/8 }" in rules
    assert rules.index("@resolvers accept") < rules.index("@denied reject")
