"""Networks as rows: docker's documents, addresses, what is refused. Those of containers that run are further below."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from containers import idmap
from containers.errors import NamespaceError, NetworkError
from containers.keeper import dnswire, ranges
from containers.netspaces import inside
from core import ofdlocks
from engine import lifecycle, making, published, records, spec, subnets, wiring
from engine.callers import Caller
from engine.engine import Engine
from engine.errors import ConflictError, ContainerNotFoundError, InvalidRequestError, NetworkNotFoundError, NotDoneError
from engine.fields import Fields
from tests.engine.test_life import create, output
from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.ports import free_port

_SERVER = "while :; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\nroot' | nc -l -p 80; done"


def said_at(port: int) -> bytes:
    """What is read from a port of the host; nothing when nobody listens behind it."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as client:
        client.shutdown(socket.SHUT_WR)
        return client.recv(1000)
    return b""


def network(engine: Engine, name: str, **body: Any) -> str:
    identity: str = engine.networks.create({"Name": name, **body})["Id"]
    return identity


def test_a_network_is_made_found_and_removed(engine: Engine) -> None:
    engine.places.make()
    identity = network(engine, "mine", Labels={"a": "b"}, Internal=True)
    document = engine.networks.inspect("mine")
    assert (document["Id"], document["Driver"], document["Internal"], document["Labels"]) == (
        identity, "bridge", True, {"a": "b"},
    )  # fmt: skip
    (pool,) = document["IPAM"]["Config"]
    assert pool["Gateway"] == pool["Subnet"].replace("0.0/16", "0.1").replace("0/20", "1")
    with pytest.raises(ConflictError, match="network with name mine already exists"):
        network(engine, "mine")
    assert engine.networks.inspect(identity[:12])["Name"] == "mine"
    assert [each["Name"] for each in engine.networks.listed()] == ["bridge", "mine", "host", "none"]
    assert [each["Name"] for each in engine.networks.listed({"type": ["custom"]})] == ["mine"]
    assert engine.networks.remove("mine").id == identity
    with pytest.raises(NetworkNotFoundError, match="network mine not found"):
        engine.networks.inspect("mine")
    with pytest.raises(ConflictError, match="bridge is a pre-defined network and cannot be removed"):
        engine.networks.remove("bridge")


def test_network_with_ipv6_has_a_subnet_and_gives_addresses_of_it(engine: Engine) -> None:
    engine.places.make()
    pool = {"Subnet": "fd99::/64", "Gateway": "fd99::5"}
    network(engine, "six", EnableIPv6=True, IPAM={"Config": [pool]})
    network(engine, "own", EnableIPv6=True)
    assert engine.networks.inspect("six")["IPAM"]["Config"][1] == pool
    own = engine.networks.inspect("own")["IPAM"]["Config"][1]
    assert (own["Subnet"][:2], own["Gateway"]) == ("fd", own["Subnet"].replace("::/64", "::1"))
    with pytest.raises(InvalidRequestError, match="Pool overlaps"):
        network(engine, "more", EnableIPv6=True, IPAM={"Config": [{"Subnet": "fd99::/48"}]})
    with pytest.raises(InvalidRequestError, match="is a subnet of IPv6, and the network has none"):
        network(engine, "more", IPAM={"Config": [{"Subnet": "fd98::/64"}]})
    with pytest.raises(InvalidRequestError, match="its addresses are no machine's own"):
        network(engine, "more", EnableIPv6=True, IPAM={"Config": [{"Subnet": "fe80::/64"}]})
    asked = {"Image": "app", "HostConfig": {"NetworkMode": "six"}}

    def at(address: str) -> dict[str, Any]:
        return {**asked, "NetworkingConfig": {"EndpointsConfig": {"six": {"IPAMConfig": {"IPv6Address": address}}}}}

    engine.create("one", at("fd99:0::2"))
    engine.create("two", asked)
    containers = engine.networks.inspect("six")["Containers"].values()
    assert sorted((each["Name"], each["IPv6Address"]) for each in containers) == [
        ("one", "fd99::2/64"), ("two", "fd99::1/64"),
    ]  # fmt: skip
    for address, message in (("fd99::2", "Address already in use"), ("fd99::5", "Address already in use")):
        with pytest.raises(ConflictError, match=message):
            engine.create("three", at(address))
    for address, message in (("fd98::2", "no configured subnet"), ("fd99::", "no machine"), ("10.0.0.1", "invalid")):
        with pytest.raises(InvalidRequestError, match=message):
            engine.create("three", at(address))
    asked = {"Image": "app", "HostConfig": {"NetworkMode": "bridge"}}
    with pytest.raises(NetworkNotFoundError):
        engine.create("three", at("fd99::2") | {"HostConfig": {"NetworkMode": "seven"}})


def test_addresses_are_of_a_range_and_none_is_somebody_elses(engine: Engine) -> None:
    engine.places.make()
    pool = {
        "Subnet": "10.97.0.0/16", "IPRange": "10.97.5.0/30", "Gateway": "10.97.0.1",
        "AuxiliaryAddresses": {"router": "10.97.5.1"},
    }  # fmt: skip
    network(engine, "mine", IPAM={"Config": [pool]})
    assert engine.networks.inspect("mine")["IPAM"]["Config"] == [pool]
    asked = {"Image": "app", "HostConfig": {"NetworkMode": "mine"}}

    def at(address: str) -> dict[str, Any]:
        return {**asked, "NetworkingConfig": {"EndpointsConfig": {"mine": {"IPAMConfig": {"IPv4Address": address}}}}}

    for name in ("one", "two", "three"):
        engine.create(name, asked)
    with pytest.raises(InvalidRequestError, match="no available IPv4 addresses on this network's address pool"):
        engine.create("four", asked)
    with pytest.raises(ConflictError, match="Address already in use"):
        engine.create("four", at("10.97.5.1"))
    engine.create("four", at("10.97.9.9"))
    containers = engine.networks.inspect("mine")["Containers"].values()
    assert {each["Name"]: each["IPv4Address"] for each in containers} == {
        "one": "10.97.5.0/16", "two": "10.97.5.2/16", "three": "10.97.5.3/16", "four": "10.97.9.9/16",
    }  # fmt: skip
    for changes, message in (
        ({"IPRange": "10.98.0.0/24"}, "parent subnet 10.96.0.0/16 doesn't contain ip-range"),
        ({"IPRange": "fd96::/64"}, "doesn't contain ip-range"),
        ({"IPRange": "here"}, "invalid ip-range here"),
        ({"AuxiliaryAddresses": {"a": "10.98.0.1"}}, "no configured subnet contains IP address 10.98.0.1"),
        ({"Subnet": "", "IPRange": "10.96.1.0/24"}, "an ip-range without a subnet"),
    ):
        with pytest.raises(InvalidRequestError, match=message):
            network(engine, "other", IPAM={"Config": [{"Subnet": "10.96.0.0/16", **changes}]})
    twice = {"Subnet": "10.96.0.0/16", "Gateway": "10.96.0.1", "AuxiliaryAddresses": {"a": "10.96.0.1"}}
    with pytest.raises(ConflictError, match="Address already in use"):
        network(engine, "other", IPAM={"Config": [twice]})


def test_a_network_of_the_schema_before_has_no_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(records, "_MIGRATIONS", records._MIGRATIONS[:3])
        patched.setattr(records, "SCHEMA_VERSION", 3)
        old = records.Records(tmp_path / "engine.db")
        with old.transaction() as connection:
            connection.execute(
                "INSERT INTO networks VALUES ('a', 'mine', 1, '10.97.0.0/16', '10.97.0.1', '', '', 0, '{}', '{}')"
            )
        old.close()
    new = records.Records(tmp_path / "engine.db")
    (row,) = new.networks()
    assert (row.name, row.subnet, row.range, row.range6, row.auxiliary) == ("mine", "10.97.0.0/16", "", "", {})
    new.close()


def test_the_way_out_goes_by_the_place_of_the_highest_priority(engine: Engine) -> None:
    for name in ("first", "second", "third"):
        network(engine, name)
    network(engine, "closed", Internal=True)
    places: dict[str, Any] = {"first": {}, "second": {"GwPriority": 7}, "third": {"GwPriority": 7}}
    places["closed"] = {"GwPriority": 9}
    asked = {"EndpointsConfig": places}
    engine.create("one", {"Image": "app", "HostConfig": {"NetworkMode": "first"}, "NetworkingConfig": asked})
    row = engine.records.container("one")
    told = wiring.told(engine.places, engine.records, row, spec.read(engine.directory(row.id)))
    assert [each["called"] for each in told["endpoints"] if each["gateway"]] == ["second"]
    shown = engine.inspect("one")["NetworkSettings"]["Networks"]
    assert {name: place["GwPriority"] for name, place in shown.items()} == {
        "first": 0, "second": 7, "third": 7, "closed": 9,
    }  # fmt: skip
    with pytest.raises(InvalidRequestError, match="gw-priority"):
        engine.connect("first", "one", {"GwPriority": 1 << 40})


def test_why_a_container_could_not_be_started_is_in_its_state(engine: Engine) -> None:
    engine.places.make()
    engine.create("one", {"Image": "app", "HostConfig": {"NetworkMode": "bridge"}})
    engine.create("two", {"Image": "app", "HostConfig": {"NetworkMode": "bridge", "Links": ["one:db"]}})
    with pytest.raises(ConflictError) as refused:
        engine.start("two")
    state = engine.inspect("two")["State"]
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("created", 128, refused.value.message)
    network(engine, "mine")
    engine.create("far", {"Image": "app", "HostConfig": {"NetworkMode": "mine"}})
    engine.create("three", {"Image": "app", "HostConfig": {"NetworkMode": "bridge", "Links": ["far:db"]}})
    with pytest.raises(ConflictError, match="Cannot link to /far, as it does not belong to the default network"):
        engine.start("three")


def test_first_subnet_is_the_default_network_s_whoever_comes_first(engine: Engine) -> None:
    engine.places.make()
    network(engine, "mine")
    subnet = engine.networks.inspect("mine")["IPAM"]["Config"][0]["Subnet"]
    assert engine.networks.inspect("bridge")["IPAM"]["Config"][0]["Subnet"] == str(subnets.free([])) != subnet


def test_subnets_do_not_overlap(engine: Engine) -> None:
    engine.places.make()
    network(engine, "mine", IPAM={"Config": [{"Subnet": "10.99.0.0/24", "Gateway": "10.99.0.254"}]})
    with pytest.raises(InvalidRequestError, match="Pool overlaps with other one on this address space"):
        network(engine, "other", IPAM={"Config": [{"Subnet": "10.99.0.128/25"}]})
    with pytest.raises(InvalidRequestError, match="invalid CIDR address"):
        network(engine, "other", IPAM={"Config": [{"Subnet": "10.99.0.1/24"}]})
    first, second = (str(subnets.free(used)) for used in ([], [str(subnets.free([]))]))
    assert first != second
    with pytest.raises(NotDoneError, match="networks of the driver overlay"):
        network(engine, "other", Driver="overlay")


@pytest.mark.parametrize(
    ("config", "host", "message"),
    [
        ({}, {"Dns": ["here"]}, "invalid DNS server: here is not an IP address"),
        ({}, {"DnsSearch": ["a b"]}, "invalid DNS search domain"),
        ({}, {"DnsOptions": ["ndots:1\nnameserver 6.6.6.6"]}, "invalid DNS option"),
        ({}, {"ExtraHosts": ["db:nowhere"]}, "invalid IP address in add-host"),
        ({}, {"ExtraHosts": ["db"]}, "bad format for add-host"),
        ({}, {"Links": ["a:b:c"]}, "bad format for links"),
        ({}, {"Links": ["nobody:db"]}, "could not get container for nobody: No such container: nobody"),
        ({"MacAddress": "ff:ff:ff:ff:ff:ff"}, {}, "invalid MAC address"),
        ({}, {"NetworkMode": "host", "Links": ["a:b"]}, "host type networking can't be used with links"),
        ({}, {"NetworkMode": "container:"}, "invalid container format"),
        ({}, {"NetworkMode": "container:a", "Dns": ["1.1.1.1"]}, "conflicting options: dns and the network mode"),
        ({}, {"NetworkMode": "container:a", "ExtraHosts": ["a:1.1.1.1"]}, "custom host-to-IP mapping"),
        ({}, {"NetworkMode": "container:a", "PublishAllPorts": True}, "port publishing and the container type"),
        ({"Hostname": "x"}, {"NetworkMode": "container:a"}, "conflicting options: hostname and the network mode"),
        ({"ExposedPorts": {"80/tcp": {}}}, {"NetworkMode": "container:a"}, "port exposing and the container type"),
        ({"MacAddress": "02:00:00:00:00:01"}, {"NetworkMode": "host"}, "mac-address and the network mode"),
    ],
)
def test_what_is_wrong_about_a_network_is_refused_in_docker_s_words(
    engine: Engine, config: dict[str, Any], host: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        engine.create("wrong", {"Image": "app", **config, "HostConfig": host})


def test_link_local_addresses_are_refused(engine: Engine) -> None:
    endpoint = {"bridge": {"IPAMConfig": {"LinkLocalIPs": ["169.254.1.9"]}}}
    with pytest.raises(NotDoneError, match="link-local"):
        engine.create("wrong", {"Image": "app", "NetworkingConfig": {"EndpointsConfig": endpoint}})


def test_containers_have_places_in_networks_for_as_long_as_they_exist(engine: Engine) -> None:
    engine.places.make()
    network(engine, "mine", IPAM={"Config": [{"Subnet": "10.99.0.0/29"}]})
    endpoints = {"EndpointsConfig": {"mine": {"IPAMConfig": {"IPv4Address": "10.99.0.5"}, "Aliases": ["db"]}}}
    asked = {"Image": "app", "HostConfig": {"NetworkMode": "mine"}}
    engine.create("one", {**asked, "NetworkingConfig": endpoints})
    with pytest.raises(ConflictError, match="Address already in use"):
        engine.create("two", {**asked, "NetworkingConfig": endpoints})
    for name in ("two", "three", "four", "five"):
        engine.create(name, asked)
    with pytest.raises(InvalidRequestError, match="no available IPv4 addresses"):
        engine.create("six", asked)
    assert len(engine.networks.inspect("mine")["Containers"]) == 5
    with pytest.raises(ConflictError, match="has active endpoints"):
        engine.networks.remove("mine")
    assert engine.networks.prune() == []
    shown = engine.inspect("one")["NetworkSettings"]["Networks"]
    assert shown["mine"]["DNSNames"] == ["one", "db", engine.inspect("one")["Id"][:12]]
    assert shown["mine"]["IPAddress"] == ""  # it does not run
    for container in engine.containers(every=True):
        engine.remove(container["Id"])
    assert [row.name for row in engine.networks.prune()] == ["mine"]
    with pytest.raises(NetworkNotFoundError, match="network mine not found"):
        engine.create("one", asked)


def test_ports_as_docker_asks_for_them() -> None:
    def ports(**host: Any) -> list[tuple[Any, ...]]:
        found = published.wanted(Fields(host, "HostConfig"), ["80/tcp", "53/udp"])
        return [(tuple(each["addresses"]), each["protocol"], each["port"], each["to_port"]) for each in found]

    everywhere = ("0.0.0.0", "::")
    assert ports(PortBindings={"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}) == [(everywhere, "tcp", 8080, 80)]
    assert ports(PortBindings={"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}) == [(("127.0.0.1",), "tcp", 0, 80)]
    assert ports(PublishAllPorts=True) == [(everywhere, "tcp", 0, 80), (everywhere, "udp", 0, 53)]
    ranged = {"80/tcp": [{"HostIp": "::1", "HostPort": "8000-8010"}]}
    (found,) = published.wanted(Fields({"PortBindings": ranged}, "HostConfig"), ())
    assert found == {"addresses": ["::1"], "protocol": "tcp", "port": 8000, "last": 8010, "to_port": 80}
    bad: list[dict[str, Any]] = [
        {"80/tcp": [{"HostPort": "0-5"}]}, {"80/tcp": [{"HostPort": "9-8"}]},
        {"80/tcp": [{"HostPort": "http"}]}, {"80/tcp": [{"HostIp": "here"}]}, {"x/tcp": []}, {"0/tcp": []},
    ]  # fmt: skip
    for wrong in bad:
        with pytest.raises(InvalidRequestError):
            ports(PortBindings=wrong)
    bound = [{"address": "0.0.0.0", "protocol": "tcp", "port": 8080, "to_port": 80}]
    assert published.as_map(["80/tcp", "53/udp"], bound) == {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "53/udp": None,
    }  # fmt: skip
    assert published.as_list(["53/udp"], bound) == [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}, {"PrivatePort": 53, "Type": "udp"},
    ]  # fmt: skip


def test_a_published_port_answers_and_names_are_known(living: Engine) -> None:
    network(living, "mine")
    create(living, "web", "sh", "-c", _SERVER,
           host={"NetworkMode": "mine", "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1"}]}})  # fmt: skip
    living.start("web")
    ((place,),) = living.inspect("web")["NetworkSettings"]["Ports"].values()
    eventually(lambda: b"root" in said_at(int(place["HostPort"])))
    ask = "until nc web 80 </dev/null; do sleep 0.1; done"
    create(living, "client", "sh", "-c", ask, host={"NetworkMode": "mine"})
    living.start("client")
    assert living.wait("client") == 0
    assert b"root" in output(living, "client")
    address = living.inspect("web")["NetworkSettings"]["Networks"]["mine"]["IPAddress"]
    reach = f"nc -w 1 {address} 80 </dev/null || nc -w 1 web 80 </dev/null"
    create(living, "stranger", "sh", "-c", reach, host={"NetworkMode": "bridge"})
    living.start("stranger")
    assert living.wait("stranger") != 0
    create(living, "second", "true",
           host={"NetworkMode": "mine", "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", **place}]}})  # fmt: skip
    with pytest.raises(NetworkError):
        living.start("second")
    living.stop("web", timeout_s=0)
    eventually(lambda: living.inspect("web")["NetworkSettings"]["Ports"] == {})
    for name in ("web", "client", "stranger", "second"):
        living.remove(name)
    living.networks.remove("mine")


_DYING: str = """
import os, signal, sys
from pathlib import Path
from engine.engine import Engine
from engine.networks import Networks
from engine.places import Places

real = Networks.take_away

def dying(self, *arguments):
    if sys.argv[1] == "after":
        real(self, *arguments)
    os.kill(os.getpid(), signal.SIGKILL)

Networks.take_away = dying
with Engine(Places(Path(sys.argv[2]), Path(sys.argv[3]))) as engine:
    engine.disconnect("mine", "one")
"""
"""An engine that is killed right before, or right after, a container's place is nobody's any more."""


def test_address_is_free_only_once_nobody_has_it_whoever_is_killed(living: Engine) -> None:
    network(living, "mine", IPAM={"Config": [{"Subnet": "10.97.0.0/24"}]})
    create(living, "one", "sleep", "1000", host={"NetworkMode": "bridge"})
    living.start("one")
    pid = living.inspect("one")["State"]["Pid"]
    places = [str(living.places.root), str(living.places.run)]
    for when in ("before", "after"):
        living.connect("mine", "one")
        assert "eth1" in Path(f"/proc/{pid}/net/dev").read_text()
        done = subprocess.run([sys.executable, "-c", _DYING, when, *places], check=False, timeout=stretched(60))
        assert done.returncode == -signal.SIGKILL
        has_place = "mine" in living.inspect("one")["NetworkSettings"]["Networks"]
        assert has_place == (when == "before")
        assert "eth1" not in Path(f"/proc/{pid}/net/dev").read_text(), "the address was, or is, somebody else's"
        if has_place:
            living.disconnect("mine", "one")
    living.remove("one", force=True)
    living.remove_network("mine")


def test_connect_that_was_killed_before_there_was_an_interface_is_finished_by_the_next_one(living: Engine) -> None:
    network(living, "mine")
    create(living, "one", "sleep", "1000", host={"NetworkMode": "bridge"})
    living.start("one")
    row = living.records.container(living.inspect("one")["Id"])
    living.networks.place(row, "mine", Fields({}, "EndpointConfig"))  # and there it was killed
    devices = Path(f"/proc/{living.inspect('one')['State']['Pid']}/net/dev")
    assert "eth1" not in devices.read_text()
    living.connect("mine", "one")
    assert "eth1" in devices.read_text()
    with pytest.raises(ConflictError, match="already exists"):
        living.connect("mine", "one")
    living.remove("one", force=True)
    living.remove_network("mine")


def test_who_connects_at_the_same_time_as_another_takes_nothing_away(living: Engine) -> None:
    network(living, "mine")
    create(living, "one", "sleep", "1000", host={"NetworkMode": "bridge"})
    living.start("one")

    def connect(_: int) -> bool:
        try:
            living.connect("mine", "one")
        except ConflictError:
            return False
        return True

    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(connect, range(4))) == 1
        assert set(living.inspect("one")["NetworkSettings"]["Networks"]) == {"bridge", "mine"}
        living.disconnect("mine", "one")
    living.remove("one", force=True)
    living.remove_network("mine")


def test_container_that_waits_for_its_restart_leaves_a_network_and_comes_into_one(living: Engine) -> None:
    network(living, "mine")
    network(living, "other")
    create(living, "again", "sh", "-c", "sleep 0.1; exit 1",
           host={"NetworkMode": "mine", "RestartPolicy": {"Name": "always"}})  # fmt: skip
    living.start("again")
    eventually(lambda: living.inspect("again")["State"]["Status"] == "restarting")
    living.disconnect("mine", "again")
    living.connect("other", "again")
    eventually(lambda: living.inspect("again")["RestartCount"] > 3)
    assert set(living.inspect("again")["NetworkSettings"]["Networks"]) == {"other"}
    keeper = living.keepers.connect(living.inspect("again")["Id"])
    with keeper as asked, pytest.raises(NetworkError):
        asked.ask("disconnect", {"network": living.networks.inspect("mine")["Id"]})
    living.remove("again", force=True)
    for name in ("mine", "other"):
        living.remove_network(name)


def test_a_running_container_comes_into_a_network_and_leaves_it(
    living: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    network(living, "mine", IPAM={"Config": [{"Subnet": "10.98.0.0/24"}]})
    create(living, "one", "sh", "-c", "sleep 1000", host={"NetworkMode": "bridge"})
    create(living, "two", "sh", "-c", "until ping -c 1 -W 1 bee; do sleep 0.1; done", host={"NetworkMode": "mine"})
    create(living, "alone", "sh", "-c", "sleep 1000")
    living.start("one")
    living.connect("mine", "one", {"Aliases": ["bee"]})
    with pytest.raises(ConflictError, match="endpoint with name one already exists in network mine"):
        living.connect("mine", "one")
    with pytest.raises(ConflictError, match="private"):
        living.connect("mine", "alone")
    living.start("two")
    assert living.wait("two") == 0
    assert set(living.inspect("one")["NetworkSettings"]["Networks"]) == {"bridge", "mine"}
    assert [found["Names"] for found in living.containers(every=True, filters={"network": ["mine"]})] == [
        ["/two"], ["/one"],
    ]  # fmt: skip
    living.disconnect("mine", "one")
    with pytest.raises(ConflictError, match="is not connected to network mine"):
        living.disconnect("mine", "one")
    assert set(living.inspect("one")["NetworkSettings"]["Networks"]) == {"bridge"}
    living.connect("mine", "one")
    pid = living.inspect("one")["State"]["Pid"]
    keeper = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    monkeypatch.setattr(lifecycle, "_FORCED_S", 0.2)
    os.kill(keeper, signal.SIGSTOP)
    try:
        living.disconnect("mine", "one", force=True)
        assert set(living.inspect("one")["NetworkSettings"]["Networks"]) == {"bridge"}
        interfaces = Path(f"/proc/{pid}/net/dev").read_text()
        assert "eth0" in interfaces
        assert "eth1" not in interfaces
    finally:
        os.kill(keeper, signal.SIGCONT)
    for name in ("one", "two", "alone"):
        living.remove(name, force=True)
    living.remove_network("mine")
    assert living.prune_networks() == []


def said(engine: Engine, name: str, *command: str, host: dict[str, Any] | None = None, **config: Any) -> str:
    """What a command in a container of its own says."""
    create(engine, name, "sh", "-c", *command, host=host or {"NetworkMode": "bridge"}, **config)
    engine.start(name)
    engine.wait(name)
    return output(engine, name).decode()


def test_names_of_a_container_s_own(living: Engine) -> None:
    """Host and domain name, lines of /etc/hosts, its resolver."""
    host = {
        "NetworkMode": "bridge", "ExtraHosts": ["db:10.0.0.7", "six:::7", "up:host-gateway"], "Dns": ["192.0.2.53"],
        "DnsSearch": ["a.example", "b.example"], "DnsOptions": ["ndots:2"],
    }  # fmt: skip
    ask = "cat /etc/hosts /etc/resolv.conf; hostname; cat /proc/sys/kernel/domainname"
    lines = said(living, "one", ask, host=host, Hostname="box", Domainname="here.example").splitlines()
    address = living.networks.inspect("bridge")["Containers"][living.inspect("one")["Id"]]["IPv4Address"][:-3]
    for line in ("10.0.0.7\tdb", "::7\tsix", "169.254.1.2\tup", f"{address}\tbox.here.example box",
                 "search a.example b.example", "options ndots:2", "box", "here.example"):  # fmt: skip
        assert line in lines
    alone = said(living, "two", "cat /etc/resolv.conf", host={**host, "NetworkMode": "none", "DnsSearch": ["."]})
    assert alone == "nameserver 192.0.2.53\noptions ndots:2\n"
    for name in ("one", "two"):
        living.remove(name)


@contextlib.contextmanager
def resolver(netns: int | None, address: str) -> Iterator[list[str]]:
    """A name server at port 53 of an address, in a network namespace; who asked it what. It knows one address."""
    asked: list[str] = []

    def made() -> list[int]:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((address, 53))
        return [sock.detach()]

    (fd,) = made() if netns is None else inside(netns, made)
    server = socket.socket(fileno=fd)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                data, peer = server.recvfrom(1000)
                if peer is None or not data:
                    return
                query = dnswire.read_query(data)
                assert isinstance(query, dnswire.Query)
                asked.append(query.name)
                found = [bytes([1, 2, 3, 4])] if query.kind == dnswire.A else []
                server.sendto(dnswire.answer(query, found), peer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)  # wakes who waits, although it is connected to nobody
        thread.join()
        server.close()


def test_a_container_s_own_name_server_is_asked_from_within_its_network(living: Engine) -> None:
    """So it is no way to ask who only the host reaches."""
    network(living, "mine")
    create(living, "dns", "sh", "-c", "sleep 1000", host={"NetworkMode": "mine"})
    living.start("dns")
    server = living.inspect("dns")["NetworkSettings"]["Networks"]["mine"]["IPAddress"]
    ask = "nslookup far.example"
    with open(f"/proc/{living.inspect('dns')['State']['Pid']}/ns/net") as netns:
        with resolver(netns.fileno(), server) as asked:
            assert "1.2.3.4" in said(living, "one", ask, host={"NetworkMode": "mine", "Dns": [server]})
        assert set(asked) == {"far.example"}
    with resolver(None, "127.0.0.77") as asked:
        said(living, "two", ask, host={"NetworkMode": "mine", "Dns": ["127.0.0.77"]})
        assert living.wait("two") != 0
        assert asked == []
    for name in ("dns", "one", "two"):
        living.remove(name, force=True)
    living.remove_network("mine")


def test_no_start_leaves_a_keeper_more_descriptors(living: Engine) -> None:
    network(living, "mine")
    host = {"NetworkMode": "mine", "Dns": ["127.0.0.77"], "RestartPolicy": {"Name": "always"}}
    create(living, "one", "sh", "-c", "sleep 1000", host=host)
    living.start("one")
    first = 0
    for number in range(3):
        eventually(partial(is_up_again, living, "one", number))
        pid = living.inspect("one")["State"]["Pid"]
        keeper = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        first = first or network_namespaces(keeper)
        eventually(partial(holds_at_most, keeper, first))
        os.kill(pid, signal.SIGKILL)
    living.remove("one", force=True)
    living.remove_network("mine")


def network_namespaces(pid: str) -> int:
    """How many descriptors of such namespaces a process has."""
    found = 0
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(path).startswith("net:[")
    return found


def holds_at_most(pid: str, number: int) -> bool:
    return network_namespaces(pid) <= number


def is_up_again(engine: Engine, name: str, restarts: int) -> bool:
    found = engine.inspect(name)
    return bool(found["RestartCount"] == restarts and found["State"]["Running"])


def test_links_are_names_that_one_container_has_for_another(living: Engine) -> None:
    network(living, "mine")
    config = {"ExposedPorts": {"80/tcp": {}}, "Env": ["COLOUR=blue"]}
    for name, mode in (("db", "mine"), ("old", "bridge")):
        create(living, name, "sh", "-c", "sleep 1000", host={"NetworkMode": mode}, **config)
    old = {"NetworkMode": "bridge", "Links": ["old:first-one"]}
    with pytest.raises(ConflictError, match="Cannot link to a non running container: /old AS /one/first-one"):
        said(living, "one", "env; cat /etc/hosts; nslookup first-one", host=old)
    living.start("db")
    living.start("old")
    living.start("one")
    living.wait("one")
    address = living.inspect("old")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    lines = output(living, "one").decode().splitlines()
    for line in (f"FIRST_ONE_PORT=tcp://{address}:80", f"FIRST_ONE_PORT_80_TCP_ADDR={address}",
                 "FIRST_ONE_NAME=/one/first-one", "FIRST_ONE_ENV_COLOUR=blue",
                 f"{address}\tfirst-one {living.inspect('old')['Id'][:12]} old", f"Address: {address}"):  # fmt: skip
        assert line in lines
    links = {"EndpointsConfig": {"mine": {"Links": ["db:store"]}}}
    host = {"NetworkMode": "mine"}
    assert "store" in said(living, "two", "ping -c 1 store", host=host, NetworkingConfig=links)
    assert living.wait("two") == 0
    assert "1.1" not in said(living, "three", "ping -c 1 -W 1 store", host=host)
    assert living.wait("three") != 0
    by_api = {**host, "Links": ["db:depot"]}
    assert "depot" in said(living, "four", "ping -c 1 depot", host=by_api)
    assert living.wait("four") == 0
    for name in ("one", "two", "three", "four", "db", "old"):
        living.remove(name, force=True)
    living.remove_network("mine")


def test_the_first_free_port_of_a_range_is_published(living: Engine) -> None:
    port = free_port()
    binding = {"HostIp": "127.0.0.1", "HostPort": f"{port}-{port + 1}"}
    host = {"NetworkMode": "bridge", "PortBindings": {"80/tcp": [binding], "53/udp": [binding]}}
    found = []
    for name in ("one", "two"):
        create(living, name, "sh", "-c", "sleep 1000", host=host)
        living.start(name)
        ports = living.inspect(name)["NetworkSettings"]["Ports"]
        found.append([int(ports[key][0]["HostPort"]) for key in ("80/tcp", "53/udp")])
    assert found == [[port, port], [port + 1, port + 1]]
    create(living, "three", "sh", "-c", "sleep 1000", host=host)
    with pytest.raises(NetworkError, match=f"{port + 1}/tcp: port is already allocated"):
        living.start("three")
    for name in ("one", "two", "three"):
        living.remove(name, force=True)


def test_ipv6_within_a_network_by_name_and_published(living: Engine) -> None:
    network(living, "six", EnableIPv6=True)
    network(living, "other", EnableIPv6=True)
    create(living, "web", "sh", "-c", _SERVER,
           host={"NetworkMode": "six", "PortBindings": {"80/tcp": [{"HostIp": "::1"}]}})  # fmt: skip
    living.start("web")
    place = living.inspect("web")["NetworkSettings"]["Networks"]["six"]
    address = place["GlobalIPv6Address"]
    port = int(living.inspect("web")["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"])

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("::1", port)) as client:
            client.shutdown(socket.SHUT_WR)
            return b"root" in client.recv(100)
        return False

    eventually(answers)
    ask = "nslookup -type=aaaa web; ping -6 -c 1 web; nc -w 2 web 80 </dev/null; ip -6 route"
    text = said(living, "client", ask, host={"NetworkMode": "six"})
    assert f"Address: {address}" in text
    assert "1 packets received" in text
    assert "root" in text
    assert f"default via {place['IPv6Gateway']}" in text
    assert "1 packets received" not in said(
        living, "stranger", f"ping -6 -c 1 -W 1 {address}", host={"NetworkMode": "other"}
    )
    for name in ("web", "client", "stranger"):
        living.remove(name, force=True)
    for name in ("six", "other"):
        living.remove_network(name)


def test_a_container_has_another_one_s_network(living: Engine) -> None:
    """And its user namespace: without that it would have no rights over what it shares."""
    network(living, "mine")
    create(living, "web", "sh", "-c", "echo hello > /tmp/x; exec sleep 1000", host={"NetworkMode": "mine"})
    joined = {"NetworkMode": "container:web", "CapAdd": ["NET_ADMIN"]}
    with pytest.raises(ContainerNotFoundError, match="No such container: nobody"):
        create(living, "one", "true", host={"NetworkMode": "container:nobody"})
    ask = "ip addr show eth0; hostname; cat /etc/resolv.conf /etc/hosts; ip addr add 192.0.2.9/32 dev lo && echo rights"
    with pytest.raises(ConflictError, match=r"cannot join network of a non running container: [0-9a-f]{64}"):
        said(living, "one", ask, host=joined)
    living.start("web")
    living.start("one")
    assert living.wait("one") == 0
    web = living.inspect("web")
    address = web["NetworkSettings"]["Networks"]["mine"]["IPAddress"]
    text = output(living, "one").decode()
    for part in (
        f"inet {address}/",
        f"\n{web['Config']['Hostname']}\n",
        "nameserver 127.0.0.11",
        f"{address}\t",
        "rights",
    ):
        assert part in text
    one = living.inspect("one")
    assert one["HostConfig"]["NetworkMode"] == f"container:{web['Id']}"
    assert one["NetworkSettings"]["Networks"] == {}
    with pytest.raises(ConflictError, match="container sharing network namespace with another container or host"):
        living.connect("mine", "one")
    create(living, "two", "sh", "-c", "cat /proc/self/uid_map; exec sleep 1000", host=joined)
    living.start("two")
    eventually(lambda: output(living, "two").endswith(b"\n"))

    def namespaces(name: str) -> dict[str, str]:
        pid = living.inspect(name)["State"]["Pid"]
        return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("net", "user", "pid", "mnt", "ipc", "uts")}

    ours, theirs = namespaces("two"), namespaces("web")
    assert {kind for kind in ours if ours[kind] == theirs[kind]} == {"net", "user"}
    with living.keepers.connect(web["Id"]) as keeper:
        first = keeper.ask("root")[0]["range"]
    assert f"{first}" in output(living, "two").decode()
    living.stop("web", timeout_s=0)
    living.start("web")  # in another network namespace, of another range or not
    living.restart("two", timeout_s=0)
    ours, theirs = namespaces("two"), namespaces("web")
    assert {kind for kind in ours if ours[kind] == theirs[kind]} == {"net", "user"}
    for name in ("one", "two", "web"):
        living.remove(name, force=True)
    living.remove_network("mine")


def test_a_range_of_ids_is_nobody_else_s_as_long_as_a_container_has_it(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    first = ranges.take(run)
    if not any(first.first):
        return
    shared = ranges.share(run, first.first)
    first.close()
    lock = os.open(tmp_path / "ids", os.O_RDWR)
    block = shared.first[0] // idmap.SIZE
    assert not ofdlocks.try_lock(lock, block)
    shared.close()
    assert ofdlocks.try_lock(lock, block)
    os.close(lock)
    with pytest.raises(NamespaceError, match="is not its own any more"):
        ranges.share(run, shared.first)


def test_the_host_s_network_is_for_the_host_s_root(living: Engine) -> None:
    host = {"NetworkMode": "host", "PortBindings": {"80/tcp": [{"HostPort": "80"}]}}
    created = living.create(
        "one", {"Image": "bb", "Cmd": ["sh", "-c", "readlink /proc/self/ns/net; hostname"], "HostConfig": host}
    )
    assert created.warnings == ["Published ports are discarded when using host network mode"]
    living.start("one")
    assert living.wait("one") == 0
    assert output(living, "one").decode().splitlines() == [os.readlink("/proc/self/ns/net"), os.uname().nodename]
    assert set(living.inspect("one")["NetworkSettings"]["Networks"]) == {"host"}
    create(living, "two", "readlink", "/proc/self/ns/net", host={"NetworkMode": "container:one"})
    with pytest.raises(ConflictError, match="non running"):
        living.start("two")
    with pytest.raises(InvalidRequestError, match="--network host is for the host's root"):
        making.refuse_host_network(Caller(1000, 1000, ()))
    for name in ("one", "two"):
        living.remove(name)
