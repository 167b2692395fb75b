"""Docker's documents of a container: states in words, places in networks, ports, counters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine import documents, published, stats
from engine.errors import InvalidRequestError, NotDoneError
from engine.fields import Fields
from engine.records import EndpointRow, NetworkRow
from engine.state import State
from engine.times import NEVER, moment_of

STARTED = "2026-11-28T10:00:00Z"
FINISHED = "2026-11-28T11:00:00Z"
NOW = moment_of("2026-11-28T13:00:00Z")


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (State(), "Created"),
        (State("running", started=STARTED), "Up 3 hours"),
        (State("running", started=STARTED, health={"status": "starting"}), "Up 3 hours (health: starting)"),
        (State("running", started=STARTED, health={"status": "healthy"}), "Up 3 hours (healthy)"),
        (State("paused", started=STARTED), "Up 3 hours (Paused)"),
        (State("restarting", started=STARTED, finished=FINISHED, exit_code=3), "Restarting (3) 2 hours ago"),
        (State("removing", started=STARTED), "Removal In Progress"),
        (State("dead", started=STARTED), "Dead"),
        (State("exited", started=STARTED, finished=FINISHED, exit_code=137), "Exited (137) 2 hours ago"),
        (State("exited", started=STARTED), ""),
        (State("running", started="2026-11-28T13:00:05Z"), "Up Less than a second"),
    ],
)
def test_status_in_words(state: State, text: str) -> None:
    assert documents.status_text(state, NOW) == text


@pytest.mark.parametrize(
    ("state", "word", "flags"),
    [
        (State("starting"), "created", ""),
        (State("starting", started=STARTED), "exited", ""),
        (State("running", pid=5), "running", "Running"),
        (State("paused", pid=5), "paused", "Running Paused"),
        (State("restarting", pid=5), "restarting", "Running Restarting"),
        (State("exited", oom=True), "exited", "OOMKilled"),
        (State("dead"), "dead", "Dead"),
    ],
)
def test_state_as_inspect_shows_it(state: State, word: str, flags: str) -> None:
    found = documents.state_document(state)
    assert found["Status"] == word
    assert " ".join(name for name in ("Running", "Paused", "Restarting", "OOMKilled", "Dead") if found[name]) == flags
    assert found["Pid"] == (5 if word in ("running", "paused") else 0)
    assert "Health" not in found


def test_state_has_the_health_checks() -> None:
    check = {"start": "s", "end": "e", "exit_code": 1, "output": "o"}
    found = documents.state_document(State(health={"status": "unhealthy", "failing_streak": 3, "log": [check]}))
    assert found["Health"] == {
        "Status": "unhealthy", "FailingStreak": 3,
        "Log": [{"Start": "s", "End": "e", "ExitCode": 1, "Output": "o"}],
    }  # fmt: skip
    assert (found["StartedAt"], found["FinishedAt"], found["Error"]) == (NEVER, NEVER, "")


def test_what_a_list_shows_is_kept_in_the_row() -> None:
    config: dict[str, Any] = {
        "Entrypoint": ["sh", "-c"],
        "Cmd": ["a b", "c"],
        "Labels": None,
        "ExposedPorts": {"80/tcp": {}},
    }
    host = {"NetworkMode": "bridge", "AutoRemove": True}
    assert documents.summary(config, host, [], ["bridge"]) == {
        "command": "sh -c 'a b' c", "labels": {}, "network": "bridge", "networks": ["bridge"], "beside": [],
        "mounts": [], "exposed": ["80/tcp"], "auto_remove": True,
    }  # fmt: skip
    bare = documents.summary({"Entrypoint": None, "Cmd": ["a b"], "Labels": {"x": "y"}}, host, [], [])
    assert (bare["command"], bare["labels"], bare["exposed"]) == ("a b", {"x": "y"}, [])
    among = {**host, "PidMode": "container:p", "IpcMode": "container:i", "NetworkMode": "container:n"}
    assert documents.summary(config, among, [], [])["beside"] == ["i", "n", "p"]


def network(**changes: Any) -> NetworkRow:
    plain: dict[str, Any] = dict.fromkeys(NetworkRow._fields, "")
    return NetworkRow(
        **{
            **plain, "id": "n" * 64, "name": "front", "subnet": "172.18.0.0/16", "gateway": "172.18.0.1",
            "internal": False, **changes,
        }
    )  # fmt: skip


def place(**changes: Any) -> EndpointRow:
    plain: dict[str, Any] = dict.fromkeys(EndpointRow._fields, "")
    return EndpointRow(
        **{
            **plain, "container": "c" * 64, "network": "n" * 64, "ipv4": "172.18.0.2", "mac": "02:42:ac:12:00:02",
            "aliases": (), **changes,
        }
    )  # fmt: skip


def test_place_in_a_network_of_ones_own_has_names() -> None:
    up = State("running", pid=1)
    found = documents.endpoint(place(aliases=("db",)), network(), up, "one")
    assert found["Aliases"] == ["db"]
    assert found["DNSNames"] == ["one", "db", "c" * 12]
    assert (found["IPAddress"], found["IPPrefixLen"], found["Gateway"]) == ("172.18.0.2", 16, "172.18.0.1")
    assert found["EndpointID"] == "c" * 32 + "n" * 32
    assert documents.endpoint(place(), network(internal=True), up, "one")["Gateway"] == ""
    plain = documents.endpoint(place(), network(name="bridge"), up, "one")
    assert (plain["DNSNames"], plain["Aliases"]) == (None, None)


def test_who_does_not_run_has_no_address() -> None:
    found = documents.endpoint(place(), network(), State("exited"), "one")
    assert (found["IPAddress"], found["IPPrefixLen"], found["MacAddress"], found["EndpointID"]) == ("", 0, "", "")
    assert found["NetworkID"] == "n" * 64


BOUND = [
    {"address": "0.0.0.0", "protocol": "tcp", "port": 8080, "to_port": 80},
    {"address": "::", "protocol": "tcp", "port": 8080, "to_port": 80},
]


def test_ports_as_inspect_shows_them() -> None:
    assert published.as_map(["80/tcp", "53/udp", "90"], BOUND) == {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
        "53/udp": None,
        "90/tcp": None,
    }


def test_ports_as_a_list_shows_them() -> None:
    assert published.as_list(["80/tcp", "80/udp", "90-91"], BOUND[:1]) == [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"PrivatePort": 80, "Type": "udp"},
        {"PrivatePort": 90, "Type": "tcp"},
        {"PrivatePort": 91, "Type": "tcp"},
    ]


def wanted(exposed: tuple[str, ...] = (), **host: Any) -> list[tuple[list[str], str, int, int]]:
    found = published.wanted(Fields(host, "HostConfig"), exposed)
    return [(each["addresses"], each["protocol"], each["port"], each["to_port"]) for each in found]


EVERYWHERE = ["0.0.0.0", "::"]


def test_ports_that_are_to_be_published() -> None:
    assert wanted(PortBindings={"80/tcp": [{"HostPort": "8080"}]}) == [(EVERYWHERE, "tcp", 8080, 80)]
    assert wanted(PortBindings={"80/tcp": []}) == [(EVERYWHERE, "tcp", 0, 80)]
    assert wanted(PortBindings={"53/udp": [{"HostIp": "127.0.0.1", "HostPort": "65535"}]}) == [
        (["127.0.0.1"], "udp", 65535, 53)
    ]
    assert wanted(PortBindings={"80": [{"HostIp": "0.0.0.0"}, {"HostIp": "::1"}]}) == [
        (["0.0.0.0"], "tcp", 0, 80), (["::1"], "tcp", 0, 80),
    ]  # fmt: skip
    assert wanted(PortBindings={"80": [{"HostPort": "81-81"}]}) == [(EVERYWHERE, "tcp", 81, 80)]


def test_all_exposed_ports_are_published_but_those_that_are_already() -> None:
    found = wanted(("80/tcp", "80/udp", "90-91"), PublishAllPorts=True, PortBindings={"80/tcp": [{"HostPort": "1"}]})
    assert found == [
        (EVERYWHERE, "tcp", 1, 80), (EVERYWHERE, "udp", 0, 80), (EVERYWHERE, "tcp", 0, 90), (EVERYWHERE, "tcp", 0, 91),
    ]  # fmt: skip
    assert wanted(("80/tcp",)) == []


@pytest.mark.parametrize(
    ("port", "binding", "message"),
    [
        ("80-81", {}, "invalid port specification: '80-81'"),
        ("80", {"HostPort": "x"}, "invalid port specification: 'x'"),
        ("80", {"HostPort": "65536"}, "invalid port specification: '65536'"),
        ("80", {"HostPort": "9-8"}, "invalid port specification: '9-8'"),
        ("80", {"HostPort": "-1-2"}, "invalid port specification: '-1-2'"),
        ("80", {"HostPort": "0-5"}, "invalid port specification: '0-5'"),
        ("80", {"HostIp": "here"}, "invalid IP address: here"),
        ("0", {}, "invalid port: '0'"),
        ("65536", {}, "invalid port: '65536'"),
    ],
)
def test_ports_that_cannot_be_published(port: str, binding: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        wanted(PortBindings={port: [binding]})
    assert refused.value.message == message


def test_one_of_a_range_of_the_hosts_ports() -> None:
    found = published.wanted(Fields({"PortBindings": {"80": [{"HostPort": "8000-8001"}, {"HostPort": "9"}]}}, "x"), ())
    assert [(each["port"], each["last"]) for each in found] == [(8000, 8001), (9, 9)]


def test_ports_of_protocols_that_are_not_published() -> None:
    with pytest.raises(NotDoneError):
        wanted(PortBindings={"80/sctp": []})


COUNTED: dict[str, Any] = {
    "time_ns": moment_of(STARTED), "cpu_ns": 10, "cpu_user_ns": 6, "cpu_system_ns": 4, "memory_bytes": 100,
    "memory_limit_bytes": 500, "memory_inactive_file_bytes": 30, "pids": 3, "pids_limit": 0, "read_bytes": 7,
    "written_bytes": 0, "system_ns": 1000, "cores": 2, "networks": {},
}  # fmt: skip


def test_what_a_container_uses_as_dockers_clients_reckon_with_it() -> None:
    found = stats.document("id", "one", COUNTED, None)
    assert (found["name"], found["id"], found["read"], found["preread"]) == ("/one", "id", STARTED, NEVER)
    assert found["pids_stats"] == {"current": 3}
    assert found["blkio_stats"]["io_service_bytes_recursive"] == [{"major": 0, "minor": 0, "op": "read", "value": 7}]
    assert found["cpu_stats"]["cpu_usage"] == {
        "total_usage": 10, "usage_in_kernelmode": 4, "usage_in_usermode": 6,
    }  # fmt: skip
    assert (found["cpu_stats"]["system_cpu_usage"], found["cpu_stats"]["online_cpus"]) == (1000, 2)
    assert found["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    assert "system_cpu_usage" not in found["precpu_stats"]
    assert found["memory_stats"] == {
        "usage": 100, "stats": {"inactive_file": 30, "total_inactive_file": 30}, "limit": 500,
    }  # fmt: skip
    assert "networks" not in found


def test_limits_and_networks_that_are_counted_are_shown() -> None:
    now = {**COUNTED, "pids_limit": 9, "memory_limit_bytes": 0, "networks": {"eth0": {"rx_bytes": 1}}}
    found = stats.document("id", "one", now, COUNTED)
    assert found["pids_stats"] == {"current": 3, "limit": 9}
    assert found["memory_stats"]["limit"] > 1 << 20  # all that the machine has
    assert found["networks"] == {"eth0": {"rx_bytes": 1}}
    assert found["preread"] == STARTED
    assert found["precpu_stats"]["cpu_usage"]["total_usage"] == 10


def test_who_does_not_run_uses_nothing() -> None:
    found = stats.document("id", "one", None, None)
    assert (found["read"], found["pids_stats"], found["memory_stats"]) == (NEVER, {}, {})
    assert set(found["blkio_stats"].values()) == {None}
    assert len(found["blkio_stats"]) == 8


def test_files_of_a_container_are_named() -> None:
    found = documents._graph({"layers": [["/base"], ["/top"]]}, Path("/box"))
    assert found["Data"] == {"LowerDir": "/top:/base", "UpperDir": "/box/upper/fs", "WorkDir": "/box/upper/work"}
