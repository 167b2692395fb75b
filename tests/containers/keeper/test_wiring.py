"""Containers in networks of the switch: they reach each other by name, and the host reaches their published ports."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from containers.addresses import mac_for, pack
from containers.endpoints import Network
from containers.errors import NetworkError
from containers.switch import open_switch, remove_switch
from tests.containers.keeper.home import Box, Home
from tests.toolkit.bounds import eventually, stretched

_NET = "f" * 64
_OTHER = "e" * 64
_SERVE = ("sh", "-c", "while :; do echo hello | nc -l -p 80; done")


@pytest.fixture
def wired(home: Home) -> Iterator[Home]:
    """A home whose switch has two networks."""
    run = str(home.run)
    with open_switch(run) as switch:
        switch.add_network(Network(_NET, "172.28.0.0/24", "172.28.0.1"))
        switch.add_network(Network(_OTHER, "172.28.1.0/24", "172.28.1.1"))
        yield home
        home.end()
    remove_switch(run)


def _endpoint(number: int, *names: str, network: str = _NET, interface: str = "eth0") -> dict[str, Any]:
    third = 0 if network == _NET else 1
    address = f"172.28.{third}.{number}"
    return {
        "network": network,
        "interface": interface,
        "mac": mac_for(pack(address)),
        "ipv4": f"{address}/24",
        "gateway": f"172.28.{third}.1" if interface == "eth0" else None,
        "names": list(names),
        "called": "front",
    }


def _serving(home: Home, number: int, *ports: dict[str, Any], args: Sequence[str] = _SERVE, **fields: Any) -> Box:
    network = {"endpoints": [_endpoint(number, "web")], "ports": list(ports)}
    box = home.create(*args, network=network, **fields)
    box.start()
    return box


def _asked(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), stretched(20)) as sock:
        sock.settimeout(stretched(20))
        return sock.recv(100)


def test_a_published_port_is_reached_and_kept_over_a_restart(wired: Home) -> None:
    asked = {"addresses": ["127.0.0.1"], "protocol": "tcp", "port": 0, "to_port": 80}
    box = _serving(wired, 2, asked, restart={"policy": "always"}, args=["sh", "-c", "echo hello | nc -l -p 80"])
    (told,) = box.state()["ports"]
    assert told["port"] > 0
    for times in (1, 2):  # each answer is the end of the command
        eventually(lambda: _answers(told["port"]))
        _until_started_again(box, times)
        assert box.state()["ports"] == [told]
    box.stop(timeout_s=0)
    with pytest.raises(ConnectionRefusedError):
        _asked(told["port"])


def _until_started_again(box: Box, times: int) -> None:
    eventually(lambda: box.state()["restarts"] >= times and box.state()["status"] == "running")


def _answers(port: int) -> bool:
    try:
        return _asked(port) == b"hello\n"
    except ConnectionResetError:
        return False


def test_a_port_that_is_taken_is_refused_before_anything_runs(wired: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        asked = {"addresses": ["127.0.0.1"], "protocol": "tcp", "port": other.getsockname()[1], "to_port": 80}
        with pytest.raises(NetworkError):
            _serving(wired, 3, asked)
    (identity,) = wired.made
    assert not (wired.root / "containers" / identity / "upper" / "fs" / "etc").exists()


def test_containers_reach_each_other_by_name_and_join_and_leave_networks(wired: Home) -> None:
    _serving(wired, 2)
    client = wired.create("sleep", "1000", network={"endpoints": [_endpoint(9, "client", network=_OTHER)]})
    client.start()
    assert client.execute("nc", "-w", "1", "172.28.0.2", "80")[0] != 0
    client.ask("connect", {"endpoint": _endpoint(8, "client", interface="eth1")})
    eventually(lambda: client.execute("nc", "web", "80") == (0, b"hello\n"))
    assert b"172.28.0.2" in client.execute("nslookup", "web.front")[1]
    assert b"172.28.1.9\t" in client.execute("cat", "/etc/hosts")[1]
    client.ask("disconnect", {"network": _NET})
    assert client.execute("nc", "-w", "1", "172.28.0.2", "80")[0] != 0
    with pytest.raises(NetworkError):
        client.ask("disconnect", {"network": _NET})


def test_nothing_of_it_stays_in_the_switch(wired: Home) -> None:
    asked = {"addresses": ["127.0.0.1"], "protocol": "udp", "port": 0, "to_port": 53}
    box = _serving(wired, 2, asked)
    box.stop(timeout_s=0)
    assert 'containers": {}' in (wired.run / "switch" / f"{_NET}.names").read_text()
