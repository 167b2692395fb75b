"""Networks as rows: docker's documents, addresses, what is refused. Those of containers that run are further below."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import pytest

from engine import published, subnets
from engine.engine import Engine
from engine.errors import ConflictError, InvalidRequestError, NetworkNotFoundError, NotDoneError
from engine.fields import Fields
from tests.engine.test_life import create, output
from tests.toolkit.bounds import eventually

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


def test_network_with_ipv6_is_refused_as_long_as_no_container_would_get_an_address_of_it(engine: Engine) -> None:
    with pytest.raises(NotDoneError, match="networks with IPv6 are not done yet"):
        network(engine, "six", EnableIPv6=True)
    with pytest.raises(NetworkNotFoundError):
        engine.networks.inspect("six")


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
    bad: list[dict[str, Any]] = [
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
    from containers.errors import NetworkError

    with pytest.raises(NetworkError):
        living.start("second")
    living.stop("web", timeout_s=0)
    eventually(lambda: living.inspect("web")["NetworkSettings"]["Ports"] == {})
    for name in ("web", "client", "stranger", "second"):
        living.remove(name)
    living.networks.remove("mine")


def test_a_running_container_comes_into_a_network_and_leaves_it(living: Engine) -> None:
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
    for name in ("one", "two", "alone"):
        living.remove(name, force=True)
    living.remove_network("mine")
    assert living.prune_networks() == []
