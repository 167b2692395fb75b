"""A job's services, from where nobody may reach them, and what they may not reach: by every address there is.

The kernel may show bridged packets to the host's packet filter (br_netfilter), or not: nothing here hangs on it.
"""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import segment
from containers.launcher import Launcher
from containers.network import OURS
from core.rootfs import DirectoryLayer
from tests.containers.running import Runner, descendants, eventually
from tests.containers.segments import Pair
from tests.toolkit.bounds import stretched

_METADATA = "169.254.169.254"
_ASK_ALL = """
import select, socket, sys, time
port, clients = int(sys.argv[1]), {}
for address in sys.argv[2:]:
    found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    client = socket.socket(found[0], socket.SOCK_STREAM)
    client.setblocking(False)
    client.connect_ex(found[4])
    clients[client.fileno()] = client, address
end = time.monotonic() + 1
while clients and time.monotonic() < end:
    for fd in select.select(list(clients), [], [], 0.1)[0]:
        client, address = clients.pop(fd)
        try:
            print(address, client.recv(100).decode().strip(), flush=True)
        except OSError as error:
            print(address, error, flush=True)
"""


class Project:
    """What one project's worker has: a launcher, a job and its service."""

    def __init__(self, folder: Path, layer: DirectoryLayer, says: str) -> None:
        folder.mkdir()
        (folder / "launcher").mkdir()
        self.launcher = Launcher(folder / "launcher")
        self.run = Runner(self.launcher, folder, layer, itertools.count())
        self.pair = Pair(self.run, network="default", says=says)
        assert eventually(lambda: self.pair.service.listens(7000))
        self.service = next(pid for pid in descendants(self.launcher.pid) if b"nc -l" in _command(pid))

    def close(self) -> None:
        self.pair.close()
        self.launcher.close()


def _netns(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:
        return b""


def _addresses(pid: int) -> dict[str, list[str]]:
    """Of a process's network namespace, by interface, without their prefixes."""
    listed = subprocess.run(
        ["nsenter", "--target", str(pid), "--net", "ip", "-o", "address"], check=True, capture_output=True, text=True
    ).stdout
    found: dict[str, list[str]] = {}
    for line in listed.splitlines():
        words = line.split()
        found.setdefault(words[1], []).append(words[3].partition("/")[0])
    return found


def _has_ipv6(pid: int) -> bool:
    """Whether it has a way out by IPv6: then it has an address of that, too."""
    inside = ["nsenter", "--target", str(pid), "--net"]
    return bool(subprocess.check_output([*inside, "ip", "-6", "route", "show", "default"]).strip())


def _way(address: str) -> str:
    """The interface by which the host would send to an address; empty: it cannot."""
    command = ["ip", "-o", "route", "get", address]
    words = subprocess.run(command, check=False, capture_output=True, text=True).stdout.split()
    return words[words.index("dev") + 1] if "dev" in words else ""


def _said(pid: int, port: int, *addresses: str) -> str:
    """What comes from a port at each of these addresses. pid: who asks, from its network; 0: the host."""
    inside = ["nsenter", "--target", str(pid), "--net"] if pid else []
    command = [*inside, sys.executable, "-I", "-S", "-c", _ASK_ALL, str(port), *addresses]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=stretched(30)).stdout


def _everywhere(addresses: dict[str, list[str]], interfaces: tuple[str, ...]) -> list[str]:
    """Addresses of another machine, link-local ones by each of these interfaces."""
    found = [address for name, each in addresses.items() if name != "lo" for address in each]
    near = [address for address in found if address.startswith("fe80")]
    return [each for each in found if each not in near] + [f"{each}%{name}" for each in near for name in interfaces]


@pytest.fixture(scope="module")
def projects(
    privileged: None, busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Project, Project]]:
    folder = tmp_path_factory.mktemp("projects")
    tree = folder / "layer" / "fs"
    tree.mkdir(parents=True)
    subprocess.run(["tar", "--extract", "--numeric-owner", "--file", busybox_tar, "--directory", tree], check=True)
    layer = DirectoryLayer(str(tree))
    made = Project(folder / "one", layer, "victim"), Project(folder / "two", layer, "stranger")
    yield made
    for project in made:
        project.close()


@pytest.fixture(params=["0", "1"], ids=["", "br_netfilter"])
def filtered(request: pytest.FixtureRequest, projects: tuple[Project, Project]) -> None:
    """The kernel shows what crosses the bridges to packet filters, or does not."""
    for project in projects:
        for kind in ("iptables", "ip6tables", "arptables"):
            place = f"/proc/sys/net/bridge/bridge-nf-call-{kind}"
            if Path(place).exists():
                netns = f"--net=/proc/self/fd/{project.pair.fd}"
                script = f"echo {request.param} >{place}"
                subprocess.run(["nsenter", netns, "sh", "-c", script], pass_fds=[project.pair.fd], check=True)


@pytest.mark.usefixtures("filtered")
def test_a_service_is_reached_by_its_own_job_alone(projects: tuple[Project, Project]) -> None:
    """Another job of the same worker, another project's, and the host try each address that the service has."""
    victim, stranger = projects
    addresses = _addresses(victim.service)
    assert addresses["eth1"] == [segment.address_of(2)], "no IPv6 address, of which a neighbour could know"
    other = Pair(victim.run, network="default", says="other")
    try:
        assert eventually(lambda: other.service.listens(7000))
        services = [pid for pid in descendants(victim.launcher.pid) if b"nc -l" in _command(pid)]
        attacker = next(pid for pid in services if _netns(pid) != _netns(victim.service))
        targets = _everywhere(addresses, ("eth0", "eth1"))
        assert len(targets) == (5 if _has_ipv6(victim.service) else 4)
        for pid in (attacker, stranger.service):
            assert "victim" not in _said(pid, 7000, *targets)
        far = [each for each in targets if "%" not in each]
        assert "victim" not in _said(0, 7000, *far)
        assert not any(_way(each).startswith(OURS) for each in far), "the host's own way leads elsewhere, if anywhere"
    finally:
        other.close()
    assert victim.pair.ask("nc -w 2 db 7000 </dev/null")[1] == "victim\n", "its own job does"


@pytest.mark.usefixtures("filtered")
def test_a_service_reaches_neither_the_host_nor_its_metadata_nor_other_services(
    projects: tuple[Project, Project],
) -> None:
    victim, stranger = projects
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        serving = threading.Thread(target=_greet, args=(server,), daemon=True)
        serving.start()
        assert _said(0, port, "127.0.0.1") == "127.0.0.1 host\n"
        targets = [*_everywhere(_addresses(os.getpid()), ("eth0", "eth1")), "127.0.0.1", _METADATA]
        assert "host" not in _said(victim.service, port, *targets).replace("No route to host", "")
        server.shutdown(socket.SHUT_RDWR)
        serving.join()
    assert "stranger" not in _said(victim.service, 7000, *_addresses(stranger.service)["eth0"][:1])


def _greet(server: socket.socket) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        with client:
            client.sendall(b"host")


def test_the_bridge_has_no_address_that_could_be_asked(projects: tuple[Project, Project]) -> None:
    """Whoever lies about addresses on the wire lies to its own job and services: there is nobody else."""
    victim = projects[0]
    listed = subprocess.run(
        ["nsenter", f"--net=/proc/self/fd/{victim.pair.fd}", "ip", "-o", "address"],
        pass_fds=[victim.pair.fd], check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    addresses = {line.split()[3] for line in listed.splitlines() if not line.split()[1].startswith("v")}
    assert addresses == {"127.0.0.1/8", "::1/128"}
