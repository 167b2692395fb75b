"""What a container reaches, and what it must not."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from containers import addresses, netlink, network, resolvers, subnets
from containers.launcher import Launcher
from tests.containers.running import Runner, descendants, eventually
from tests.toolkit.bounds import stretched

_SECRET = b"secret of the host\n"


class Server:
    """A TCP and a UDP server of the host's, on one port: they remember whether anybody came."""

    def __init__(self, address: str) -> None:
        self.tcp = socket.create_server((address, 0))
        self.port = int(self.tcp.getsockname()[1])
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((address, self.port))
        self.visits = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.tcp.accept()
            except OSError:
                return
            self.visits += 1
            with connection:
                connection.sendall(_SECRET)

    def datagrams(self) -> int:
        self.udp.settimeout(0.3)
        try:
            self.udp.recv(100)
        except TimeoutError:
            return 0
        return 1

    def close(self) -> None:
        self.tcp.shutdown(socket.SHUT_RDWR)
        self.tcp.close()
        self.udp.close()
        self._thread.join(stretched(5))


@pytest.fixture(params=["127.0.0.1", "0.0.0.0"])
def host_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(request.param)
    yield server
    server.close()


def _host_addresses() -> list[str]:
    link = netlink.Netlink()
    try:
        return sorted(map(subnets.format_address, link.addresses()))
    finally:
        link.close()


def _talk(address: str, port: int) -> str:
    return f"nc -w 2 {address} {port} < /dev/null 2>&1 || true; echo x | nc -u -w 1 {address} {port} 2>&1 || true;"


def test_host_is_not_reachable(run: Runner, host_server: Server) -> None:
    """Neither by loopback, nor by any of its addresses, nor by gateways, nor by the address that forwards DNS."""
    with socket.create_connection(("127.0.0.1", host_server.port), 5) as check:
        assert check.recv(100) == _SECRET
    visits = host_server.visits
    targets = ["127.0.0.1", "0.0.0.0", "localhost", *_host_addresses(), resolvers.DNS_FORWARD, "$gateway"]
    script = "gateway=$(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'); test -n $gateway;"
    script += "".join(f"( {_talk(target, host_server.port)} ) & " for target in targets) + "wait"
    said = run(script, network="default")
    assert _SECRET.decode() not in said
    assert host_server.visits == visits
    assert host_server.datagrams() == 0


def test_address_that_the_host_gets_later_is_not_reachable_either(run: Runner, host_server: Server) -> None:
    run("true", network="default")
    subprocess.run(["ip", "address", "add", "198.51.100.77/32", "dev", "lo"], check=True)
    try:
        visits = host_server.visits
        said = run(f"sleep 0.3; {_talk('198.51.100.77', host_server.port)}", network="default")
        assert _SECRET.decode() not in said
        assert host_server.visits == visits
        assert host_server.datagrams() == 0
    finally:
        subprocess.run(["ip", "address", "del", "198.51.100.77/32", "dev", "lo"], check=True)


def test_containers_do_not_reach_each_other(run: Runner) -> None:
    reader, writer = os.pipe()
    script = "ip -4 -o addr show eth0; nc -l -p 7777 -e echo secret"
    listening = run.start("sh", "-c", script, network="default", stdout=writer)
    os.close(writer)
    match = re.search(rb"inet ([0-9.]+)", os.read(reader, 1000))
    os.close(reader)
    assert match is not None
    address = match[1].decode()
    said = run(f"sleep 0.2; {_talk(address, 7777)} ping -c1 -W1 {address} || true", network="default")
    assert "secret" not in said
    assert "1 packets received" not in said
    listening.kill()
    assert listening.wait(stretched(10)).code == 137


def test_outside_is_reachable_by_name(run: Runner) -> None:
    """The package registry that this machine's own configuration names."""
    host, port = _configured_registry()
    said = run(f"nslookup {host}; nc -w 20 {host} {port} < /dev/null && echo connected", network="default")
    assert "connected" in said


def _configured_registry() -> tuple[str, int]:
    """Host and port of the first URL in apt's, then in pip's configuration."""
    apt = Path("/etc/apt")
    files = [*apt.glob("sources.list"), *apt.glob("sources.list.d/*"), Path("/etc/pip.conf")]
    files += [Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf"]
    for file in files:
        if file.is_file():
            for line in file.read_text().splitlines():
                match = re.search(r"https?://[^\s\"']+", line)
                if match and not line.lstrip().startswith("#"):
                    url = urlsplit(match[0])
                    return str(url.hostname), url.port or (443 if url.scheme == "https" else 80)
    pytest.fail("neither apt nor pip on this machine names a package registry to connect to")


def test_default_network_has_the_hubs_mtu_and_one_interface(run: Runner) -> None:
    said = run("ls /sys/class/net; cat /sys/class/net/eth0/mtu", network="default").split()
    assert said[:2] == ["eth0", "lo"]
    link = netlink.Netlink()
    try:
        assert int(said[2]) >= link.default_mtu() > 0  # pasta's is greater
    finally:
        link.close()


def test_network_none_has_loopback_only(run: Runner) -> None:
    assert run("ls /sys/class/net; cat /sys/class/net/lo/flags").split() == ["lo", "0x9"]
    run("ping -c1 -W1 127.0.0.1")
    assert run.status("ping", "-c1", "-W1", "192.0.2.1")[0].code != 0


def test_network_none_starts_no_helpers(run: Runner) -> None:
    run("true")
    names = [Path(f"/proc/{pid}/comm").read_text().strip() for pid in descendants(run.launcher.pid)]
    assert not [name for name in names if name.startswith("pasta")]


def test_network_host_is_the_hosts(run: Runner) -> None:
    assert run("readlink /proc/self/ns/net; ls /sys/class/net", network="host").split() == [
        os.readlink("/proc/self/ns/net"),
        *sorted(os.listdir("/sys/class/net")),
    ]
    status, _ = run.status("ip", "link", "set", "lo", "down", network="host")
    assert status.code != 0


def test_container_cannot_change_its_address(run: Runner) -> None:
    status, said = run.status("ip", "addr", "add", "198.18.99.99/32", "dev", "eth0", network="default")
    assert status.code != 0
    assert "not permitted" in said


_LOOK_UP = """
import sys
from pathlib import Path
from containers.launcher import Launcher
from containers.spec import ContainerSpec
from core.rootfs import DirectoryLayer

state, layer = sys.argv[1:]
spec = ContainerSpec(
    layers=(DirectoryLayer(layer),), upper=None, args=("sh", "-c", "cat /etc/resolv.conf; nslookup -type=a box.test")
)
with Launcher(Path(state)) as launcher:
    launcher.start(spec, stdin=0, stdout=1, stderr=2).wait(30)
"""


def test_resolver_on_the_hosts_loopback_is_used(run: Runner, tmp_path: Path) -> None:
    """As with systemd-resolved: nothing else of the loopback is reachable, but names resolve."""
    resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    resolver.bind(("127.0.0.53", 53))
    resolver.settimeout(stretched(20))

    def answer() -> None:
        query, client = resolver.recvfrom(512)
        question = query[12:]
        header = query[:2] + bytes.fromhex("8180 0001 0001 0000 0000")
        resolver.sendto(header + question + bytes.fromhex("c00c 0001 0001 0000003c 0004 c6336411"), client)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    configuration, state = tmp_path / "resolv.conf", tmp_path / "state"
    configuration.write_text("nameserver 127.0.0.53\n")
    state.mkdir()
    own_file = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    client = [sys.executable, "-c", _LOOK_UP, str(state), run.layer.path]
    try:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", own_file, str(configuration), *client],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
    finally:
        resolver.close()
        thread.join(stretched(25))
    assert f"nameserver {resolvers.DNS_FORWARD}" in done.stdout
    assert "198.51.100.17" in done.stdout, done.stdout + done.stderr


def test_lost_hub_is_started_again(privileged: None, run: Runner, tmp_path: Path) -> None:
    state = tmp_path / "by-pasta"
    state.mkdir()
    with Launcher(state, uplink="pasta") as launcher:
        run.launcher = launcher
        _lose_pasta(run)


def _lose_pasta(run: Runner) -> None:
    run("true", network="default")
    assert "pasta" in "".join(_names(run.launcher))
    for pid in descendants(run.launcher.pid):
        if Path(f"/proc/{pid}/comm").read_text().startswith("pasta"):
            os.kill(pid, 9)
    assert eventually(lambda: "pasta" not in "".join(_names(run.launcher)))
    assert "eth0" in run("ls /sys/class/net", network="default")


def _names(launcher: Launcher) -> list[str]:
    found = []
    for pid in descendants(launcher.pid):
        try:
            if "Z (zombie)" not in Path(f"/proc/{pid}/status").read_text():
                found.append(Path(f"/proc/{pid}/comm").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


_WITHOUT_PASTA = """
import sys
from pathlib import Path
from containers.errors import NetworkError
from containers.launcher import Launcher
from containers.spec import ContainerSpec

folder = Path(sys.argv[1])
with Launcher(folder, uplink="pasta") as launcher, open("/dev/null", "r+b") as null:
    io = dict(stdin=null.fileno(), stdout=null.fileno(), stderr=null.fileno())
    try:
        launcher.start(ContainerSpec(layers=(), upper=None, args=("/x",), network="default"), **io)
    except NetworkError as error:
        print(error, "|", error.hint)
    print(launcher.start(ContainerSpec(layers=(), upper=None, args=("/x",), network="none"), **io).wait(10).code)
"""


@pytest.mark.parametrize("program", ["pasta", "nft"])
def test_missing_helper_is_named_with_the_remedy_and_none_still_works(
    privileged: None, tmp_path: Path, program: str
) -> None:
    hide = f'mount --bind /dev/null "$(command -v {program})" && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", hide, "sh", sys.executable, "-c", _WITHOUT_PASTA, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    message, code = done.stdout.splitlines()
    assert program in message
    assert f"apt-get install {'passt' if program == 'pasta' else 'nftables'};" in message
    assert code == "127"


def test_namespace_whose_maker_was_killed_is_no_refusal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A refusal would be told with the advice to ask ``shiplap doctor`` what the host lacks."""
    monkeypatch.setattr(network, "_furnished_namespace", lambda place: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(OSError, match="the process that made it was killed") as caught:
        network.Hub(str(tmp_path))
    assert not isinstance(caught.value, PermissionError)


def test_addresses_that_come_while_the_filter_is_made_are_told_to_it_afterwards(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An update would find no table, and the file of both is one."""
    told: list[str] = []

    def start_filter(_hub: network.Hub, text: str) -> int:
        told.append(text)
        return len(told)

    link = netlink.Netlink()
    monkeypatch.setattr(network.Hub, "_make_namespace", lambda _hub: link)
    monkeypatch.setattr(network.Hub, "_start_pasta", lambda _hub: 1000)
    monkeypatch.setattr(network.Hub, "_start_filter", start_filter)
    hub = network.Hub(str(tmp_path), way="pasta")
    try:
        for text in ("10.0.0.1", "10.0.0.2"):
            both = {addresses.pack(text), addresses.pack("fd00::1")}
            monkeypatch.setattr(netlink.Netlink, "all_addresses", lambda _link, both=both, **_: both)
            assert hub.addresses_changed() is None
        update = hub.ended(1, 0)
        assert update == 2
        assert told[1].splitlines() == [
            "flush set inet shiplap host", "add element inet shiplap host { 10.0.0.2 }",
            "flush set inet shiplap host6", "add element inet shiplap host6 { fd00::1 }",
        ]  # fmt: skip
        assert hub.starting == {1000: "pasta", 2: "nft"}
        assert hub.ended(2, 0) is None
        assert hub.starting == {1000: "pasta"}
    finally:
        hub.host.close()
        link.close()
