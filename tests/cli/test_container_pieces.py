"""What commands on containers are made of: rows, times, counters, devices, mounts, networks, ports, places."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.containers import copying, devices, networks, ports, rows, statistics, times, volumes
from cli.containers.filters import read_filters
from cli.containers.inspecting import inspected, template_of
from cli.containers.opening import NoMatterError, for_all
from cli.errors import CommandError
from cli.gotemplate import TemplateRunError
from cli.table import age, rfc3339, table
from core.errors import ShiplapError


def refused(call: Callable[..., object], *arguments: Any, **named: Any) -> str:
    with pytest.raises(CommandError) as error:
        call(*arguments, **named)
    return error.value.message


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("10m", 400 * SECOND), ("0", 0), ("-0", 0), ("17", 17 * SECOND), ("-3", -3 * SECOND),
        ("17.5", 17 * SECOND + SECOND // 2), ("17.1234567891", 17 * SECOND + 123456789),
        ("1970-01-01T00:00:01Z", SECOND), ("1970-01-01T00:00:01.5Z", SECOND + SECOND // 2),
        ("1970-01-01T01:00:00+01:00", 0), ("1970-01-02", 86400 * SECOND), ("1970-01-01T01", 3600 * SECOND),
        ("1970-01-01T00:01", 60 * SECOND), ("1970-01-01T00:00:02", 2 * SECOND),
        ("1970-01-01T00:00:00.0000000019Z", 1),
    ],
)  # fmt: skip
def test_moments_as_docker_takes_them(text: str, moment: int) -> None:
    assert times.moment_ns(text, "--since", now_ns=1000 * SECOND) == moment


def test_time_without_a_zone_is_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-2")
    time.tzset()
    assert times.moment_ns("1970-01-02T02:00:00", "--since") == 86400 * SECOND
    assert times.local(0) == "1970-01-01 02:00:00 +0200 UTC"
    assert times.fixed_time(0, is_local=True) == "1970-01-01T02:00:00.000000000+02:00"


def test_what_is_no_moment() -> None:
    assert refused(times.moment_ns, "soon", "--since") == ('--since: failed to parse value as time or duration: "soon"')
    assert refused(times.moment_ns, "1970-13-01", "--until").startswith("--until '1970-13-01': ")


def test_times_as_docker_shows_them() -> None:
    assert times.local(0.9) == "1970-01-01 00:00:00 +0000 UTC"
    assert times.fixed_time(SECOND + 7) == "1970-01-01T00:00:01.000000007Z"
    assert times.fixed_time(SECOND + 7, is_local=True) == "1970-01-01T00:00:01.000000007Z"
    assert times.epoch_s("1970-01-01T00:00:01.5Z") == 1.5
    assert times.epoch_s("0001-01-01T00:00:00Z") == 0.0
    assert times.epoch_s("never") == 0.0
    assert times.duration_ns("1m30s", "-t") == 90 * SECOND
    assert refused(times.duration_ns, "x", "-t") == ('invalid argument "x" for "-t" flag: time: invalid duration "x"')


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second ago"), (0.9, "Less than a second ago"), (1, "1 second ago"), (2, "2 seconds ago"),
        (59.9, "59 seconds ago"), (60, "About a minute ago"), (119, "About a minute ago"), (120, "2 minutes ago"),
        (3599, "59 minutes ago"), (3600, "About an hour ago"), (7199, "About an hour ago"), (7200, "2 hours ago"),
        (48 * 3600 - 1, "47 hours ago"), (48 * 3600, "2 days ago"), (14 * 86400 - 1, "13 days ago"),
        (14 * 86400, "2 weeks ago"), (60 * 86400 - 1, "8 weeks ago"), (60 * 86400, "2 months ago"),
        (730 * 86400 - 1, "24 months ago"), (730 * 86400, "2 years ago"),
    ],
)  # fmt: skip
def test_ages(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_tables_and_moments() -> None:
    assert table(["A", "BB"], [["xxx", "y"], ["", "zz"]]) == "A     BB\nxxx   y\n      zz"
    assert table(["A"], [["日本"]], gap=1) == "A\n日本"
    assert table(["A", "B"], [["日", "x"]], gap=1) == "A  B\n日 x"
    assert rfc3339(0) == "1970-01-01T00:00:00Z"
    assert rfc3339(0.5) == "1970-01-01T00:00:00.500000Z"


def port(private: int, public: int | None = None, address: str = "", kind: str = "tcp") -> dict[str, Any]:
    found: dict[str, Any] = {"PrivatePort": private, "Type": kind}
    return found | ({"IP": address, "PublicPort": public} if public is not None else {})


HERE = "127.0.0.1"


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ([port(80)], "80/tcp"),
        ([port(81), port(80), port(83)], "80-81/tcp, 83/tcp"),
        ([port(80), port(81, kind="udp")], "80/tcp, 81/udp"),
        ([port(80, 8080, HERE)], "127.0.0.1:8080->80/tcp"),
        ([port(80, 80, HERE), port(81, 81, HERE)], "127.0.0.1:80-81->80-81/tcp"),
        ([port(80, 80, HERE), port(82, 82, HERE)], "127.0.0.1:80->80/tcp, 127.0.0.1:82->82/tcp"),
        (
            [port(80, 8081, HERE), port(80, 8080, HERE), port(79)],
            "79/tcp, 127.0.0.1:8080->80/tcp, 127.0.0.1:8081->80/tcp",
        ),
        ([port(80, 8080, "::"), port(80, 8080, HERE)], "127.0.0.1:8080->80/tcp, :::8080->80/tcp"),
        ([port(80, 0, HERE)], "127.0.0.1:0->80/tcp"),
    ],
)  # fmt: skip
def test_ports_in_a_column(found: list[dict[str, Any]], text: str) -> None:
    assert rows.ports_text(found) == text


def document(**changes: Any) -> dict[str, Any]:
    return {
        "Id": "0123456789abcdef", "Names": ["/one", "/other/alias"], "Image": "app", "ImageID": "sha256:" + "e" * 64,
        "Command": "a command that is longer", "Created": 0, "Ports": [], "Labels": {"b": "2", "a": "1"},
        "State": "running", "Status": "Up", "Mounts": [], **changes,
    }  # fmt: skip


def test_row_of_a_container() -> None:
    mounts = [
        {"Name": "a-volume-with-a-name", "Driver": "local"},
        {"Source": "/srv"},
        {"Source": "/x", "Driver": "nfs"},
    ]
    short = rows.container_row(document(Mounts=mounts, NetworkSettings={"Networks": {"n": {}, "m": {}}}), now=7200.0)
    assert (short["ID"], short["Names"], short["Command"]) == ("0123456789ab", "one", '"a command that is l…"')
    assert (short["RunningFor"], short["CreatedAt"]) == ("2 hours ago", "1970-01-01 00:00:00 +0000 UTC")
    assert (short["Labels"], short["LocalVolumes"], short["Networks"]) == ("a=1,b=2", "1", "n,m")
    assert short["Mounts"] == "a-volume-with-…,/srv,/x"
    assert short["Label"]("b") == "2"
    assert short["Label"]("c") == ""
    whole = rows.container_row(document(Mounts=mounts), no_trunc=True, now=-5.0)
    assert (whole["ID"], whole["Names"]) == ("0123456789abcdef", "one,other/alias")
    assert whole["Command"] == '"a command that is longer"'
    assert whole["Mounts"] == "a-volume-with-a-name,/srv,/x"
    assert whole["RunningFor"] == "Less than a second ago"  # a clock that went back
    assert rows.container_row(document(Labels=None, Mounts=None))["Labels"] == ""


def test_image_of_a_row() -> None:
    digest = "sha256:" + "e" * 64
    assert rows.container_row(document(Image=""))["Image"] == "<no image>"
    assert rows.container_row(document(Image=digest))["Image"] == "e" * 12
    assert rows.container_row(document(Image=digest), no_trunc=True)["Image"] == digest
    assert rows.container_row(document(Image=digest, ImageID="sha256:other"))["Image"] == digest
    assert rows.container_row(document(Image="app", ImageID="app"))["Image"] == "app"


def test_size_of_a_row() -> None:
    assert rows.container_size({}) == "0B"
    assert rows.container_size({"SizeRw": 1000}) == "1kB"
    assert rows.container_size({"SizeRw": 0, "SizeRootFs": 1}) == "0B (virtual 1B)"


def test_row_of_a_network_and_of_a_volume() -> None:
    network = {
        "Id": "0123456789abcdef", "Name": "n", "Driver": "bridge", "Scope": "local", "EnableIPv6": False,
        "Internal": True, "Labels": {"b": "2", "a": "1"}, "Created": "now",
    }  # fmt: skip
    found = rows.network_row(network)
    assert (found["ID"], found["IPv6"], found["Internal"], found["Labels"]) == (
        "0123456789ab",
        "false",
        "true",
        "a=1,b=2",
    )
    assert rows.network_row(network, no_trunc=True)["ID"] == "0123456789abcdef"
    assert found["Label"]("a") == "1"
    volume = {"Name": "v", "Driver": "local", "Scope": "local", "Mountpoint": "/m", "Labels": None}
    assert (rows.volume_row(volume)["Links"], rows.volume_row(volume)["Size"]) == ("N/A", "N/A")
    used = rows.volume_row({**volume, "UsageData": {"RefCount": 2, "Size": 1500}})
    assert (used["Links"], used["Size"], used["Labels"]) == ("2", "1.5kB", "")


def stats(**changes: Any) -> dict[str, Any]:
    return {
        "id": "0123456789abcdef", "name": "/one",
        "cpu_stats": {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 2000, "online_cpus": 4},
        "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
        "memory_stats": {"usage": 3 << 20, "stats": {"inactive_file": 1 << 20}, "limit": 8 << 20},
        "networks": {"a": {"rx_bytes": 1000, "tx_bytes": 1}, "b": {"rx_bytes": 500, "tx_bytes": 2}},
        "blkio_stats": {
            "io_service_bytes_recursive": [
                {"op": "Read", "value": 1000}, {"op": "read", "value": 1}, {"op": "write", "value": 7},
            ]
        },
        "pids_stats": {"current": 5}, **changes,
    }  # fmt: skip


def test_row_of_what_a_container_uses() -> None:
    found = statistics.statistics_row("asked", stats())
    assert found == {
        "ID": "0123456789ab", "Container": "asked", "Name": "one", "CPUPerc": "80.00%", "MemUsage": "2MiB / 8MiB",
        "MemPerc": "25.00%", "NetIO": "1.5kB / 3B", "BlockIO": "1kB / 7B", "PIDs": "5",
    }  # fmt: skip
    assert statistics.statistics_row("asked", stats(), no_trunc=True)["ID"] == "0123456789abcdef"


def test_row_of_a_container_that_does_not_run() -> None:
    nothing = {"cpu_usage": {"total_usage": 0}}
    bare = {"id": "i", "name": "/n", "cpu_stats": nothing, "precpu_stats": nothing}
    found = statistics.statistics_row("i", bare)
    assert [found[name] for name in ("CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")] == [
        "0.00%", "0B / 0B", "0.00%", "0B / 0B", "0B / 0B", "0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("now", "before"),
    [
        ((100, 2000), (100, 1000)),  # nothing used
        ((50, 2000), (100, 1000)),  # counted anew
        ((300, 1000), (100, 1000)),  # no time has passed
        ((300, 2000), (0, None)),  # the first sample
    ],
)
def test_processors_of_what_cannot_be_reckoned(now: tuple[int, int], before: tuple[int, int | None]) -> None:
    def sample(used: int, whole: int | None) -> dict[str, Any]:
        return {"cpu_usage": {"total_usage": used}} | ({} if whole is None else {"system_cpu_usage": whole})

    found = statistics.statistics_row("x", stats(cpu_stats=sample(*now), precpu_stats=sample(*before)))
    assert found["CPUPerc"] == "0.00%"
    one = statistics.statistics_row("x", stats(cpu_stats=sample(200, 2000), precpu_stats=sample(100, 1000)))
    assert one["CPUPerc"] == "10.00%"  # one processor where their number is not known


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1023, "1023B"), (1024, "1KiB"), (1536, "1.5KiB"), (1 << 20, "1MiB"), (1 << 30, "1GiB"),
     (1 << 40, "1TiB"), (1 << 50, "1024TiB")],
)  # fmt: skip
def test_memory_in_units_of_1024(size: int, text: str) -> None:
    assert statistics._binary(size) == text


@pytest.mark.parametrize(
    ("text", "inside", "permissions"),
    [
        ("/dev/a", "/dev/a", "rwm"), ("/dev/a:/dev/b", "/dev/b", "rwm"), ("/dev/a:r", "/dev/a", "r"),
        ("/dev/a:/dev/b:rw", "/dev/b", "rw"), ("/dev/a:mrw", "/dev/a", "mrw"),
    ],
)  # fmt: skip
def test_devices(text: str, inside: str, permissions: str) -> None:
    assert devices.device(text) == {
        "PathOnHost": "/dev/a", "PathInContainer": inside, "CgroupPermissions": permissions,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dev", "bad format for path"), ("/a:/b:r:w", "bad format for path"), ("/a:/b:x", "bad mode specified: x"),
        ("/a:b:r", "bad mode"), ("/a:", "bad mode"), ("/a:/b:", "bad mode"),
    ],
)  # fmt: skip
def test_devices_that_are_none(text: str, words: str) -> None:
    assert words in refused(devices.device, text)


def test_rates_and_weights_of_devices() -> None:
    assert devices.rate("/dev/a:1mb", "--o", in_bytes=True) == {"Path": "/dev/a", "Rate": 1 << 20}
    assert devices.rate("/dev/a:10", "--o", in_bytes=False) == {"Path": "/dev/a", "Rate": 10}
    for text in ("/dev/a", "/x:1", "x"):
        assert "bad format for device path" in refused(devices.rate, text, "--o", in_bytes=False)
    assert "'1k' is no number" in refused(devices.rate, "/dev/a:1k", "--o", in_bytes=False)
    for number in (0, 10, 1000):
        assert devices.weight(f"/dev/a:{number}") == {"Path": "/dev/a", "Weight": number}
    for number in (1, 9, 1001):
        assert "invalid weight for device" in refused(devices.weight, f"/dev/a:{number}")
    for text in ("/dev/a", "/x:10"):
        assert "bad format" in refused(devices.weight, text)


def test_graphic_processors() -> None:
    plain = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}
    assert devices.gpus("all") == {**plain, "Count": -1}
    assert devices.gpus("2") == {**plain, "Count": 2}
    assert devices.gpus("count=3,driver=d") == {**plain, "Count": 3, "Driver": "d"}
    assert devices.gpus("device=a,device=b") == {**plain, "DeviceIDs": ["a", "b"]}
    assert "unexpected key 'x'" in refused(devices.gpus, "x=1")
    assert "'-1' is no number" in refused(devices.gpus, "-1")


def test_security_options_are_passed_on(tmp_path: Path) -> None:
    assert devices.security_options([]) == {}
    assert devices.security_options(["no-new-privileges", "seccomp=unconfined", "label:disable"]) == {
        "SecurityOpt": ["no-new-privileges", "seccomp=unconfined", "label:disable"]
    }
    assert devices.security_options(["systempaths=unconfined"]) == {"MaskedPaths": [], "ReadonlyPaths": []}
    (tmp_path / "p.json").write_text('{ "a": 1 }')
    assert devices.security_options([f"seccomp={tmp_path}/p.json", "seccomp=builtin"]) == {
        "SecurityOpt": ['seccomp={"a":1}', "seccomp=builtin"]
    }
    assert "Invalid --security-opt: 'x'" in refused(devices.security_options, ["x"])
    assert "opening seccomp profile" in refused(devices.security_options, [f"seccomp={tmp_path}/none"])


def test_binds_and_volumes_without_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    found = volumes.binds(["/a:/b:ro", "name:/c", "/d", "./e:/f", ".:/g", "~/h:/i"])
    assert found == (
        ["/a:/b:ro", "name:/c", f"{tmp_path}/e:/f", f"{tmp_path}:/g", "/home/me/h:/i"], {"/d": {}},
    )  # fmt: skip
    assert refused(volumes.binds, [""]) == "invalid empty volume spec"
    assert refused(volumes.binds, [":/a"]) == "invalid spec: :/a: empty section between colons"
    assert volumes.tmpfs(["/a", "/b:size=1,mode=7"]) == {"/a": "", "/b": "size=1,mode=7"}


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("target=/a", {"Type": "volume", "Target": "/a"}),
        ("type=BIND,src=/s,dst=/a,readonly", {"Type": "bind", "Source": "/s", "Target": "/a", "ReadOnly": True}),
        ("destination=/a,ro=false", {"Type": "volume", "Target": "/a", "ReadOnly": False}),
        (
            "type=tmpfs,target=/a,tmpfs-size=1k,tmpfs-mode=700",
            {"Type": "tmpfs", "Target": "/a", "TmpfsOptions": {"SizeBytes": 1024, "Mode": 0o700}},
        ),
        (
            "target=/a,volume-nocopy,volume-label=a=b,volume-label=c,volume-driver=d,volume-opt=o=x=y",
            {
                "Type": "volume", "Target": "/a",
                "VolumeOptions": {
                    "NoCopy": True, "Labels": {"a": "b", "c": ""},
                    "DriverConfig": {"Name": "d", "Options": {"o": "x=y"}},
                },
            },
        ),
        (
            "type=bind,source=/s,target=/a,bind-propagation=rslave,bind-nonrecursive,bind-create-src",
            {
                "Type": "bind", "Source": "/s", "Target": "/a",
                "BindOptions": {"Propagation": "rslave", "NonRecursive": True, "CreateMountpoint": True},
            },
        ),
        ('"target=/a,b"', {"Type": "volume", "Target": "/a,b"}),
    ],
)  # fmt: skip
def test_mounts(text: str, mount: dict[str, Any]) -> None:
    assert volumes.mount(text) == mount


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("type=bind", "target is required"), ("target=/a,x=1", "unexpected key 'x' in 'x=1'"),
        ("target=/a,source", "invalid field 'source' must be a key=value pair"),
        ("target=/a,ro=maybe", "invalid value for ro: maybe"),
        ("type=tmpfs,target=/a,tmpfs-mode=9", "invalid value for tmpfs-mode: 9"),
        ("type=bind,target=/a,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
        ("target=/a,bind-propagation=slave", "cannot mix 'bind-*' options with mount type 'volume'"),
        ("target=/a,tmpfs-size=1", "cannot mix 'tmpfs-*' options with mount type 'volume'"),
        ('target=/a,"x', "--mount"),
    ],
)  # fmt: skip
def test_mounts_that_are_none(text: str, words: str) -> None:
    assert words in refused(volumes.mount, text)


def asked(*network: str, **options: Any) -> tuple[str, dict[str, Any]]:
    plain: dict[str, Any] = {
        "network_alias": (), "link": (), "link_local_ip": (), "ip": None, "ip6": None, "mac_address": None,
    }  # fmt: skip
    return networks.networking({"network": network, **plain, **options})


def test_networks() -> None:
    assert asked() == ("default", {})
    assert asked("none") == ("none", {})
    assert asked("front") == ("front", {})
    assert asked("front", "back") == ("front", {"front": {}, "back": {}})
    assert asked("front", "back", network_alias=("a",), ip="1.2.3.4", mac_address="m", link=("l",)) == (
        "front",
        {
            "front": {"Aliases": ["a"], "Links": ["l"], "MacAddress": "m", "IPAMConfig": {"IPv4Address": "1.2.3.4"}},
            "back": {},
        },
    )
    long = "name=front,alias=a,alias=b,ip6=::1,driver-opt=x=y,driver-opt=z,link-local-ip=fe80::1"
    assert asked(long) == (
        "front",
        {
            "front": {
                "Aliases": ["a", "b"], "DriverOpts": {"x": "y", "z": ""},
                "IPAMConfig": {"LinkLocalIPs": ["fe80::1"], "IPv6Address": "::1"},
            }
        },
    )  # fmt: skip
    assert asked("bridge", ip="1.2.3.4")[1] == {"bridge": {"IPAMConfig": {"IPv4Address": "1.2.3.4"}}}


def test_networks_that_cannot_be() -> None:
    assert "cannot attach both" in refused(asked, "front", "bridge")
    assert "cannot attach both" in refused(asked, "container:x", "front")
    assert 'network "front" is specified multiple times' in refused(asked, "front", "front")
    assert "network-scoped aliases are only supported" in refused(asked, "bridge", network_alias=("a",))
    assert "cannot specify both --ip and per-network ip" in refused(asked, "name=n,ip=1.2.3.4", ip="1.2.3.5")
    assert "names no network" in refused(asked, "alias=a")
    assert "invalid field key x" in refused(asked, "name=n,x=1")
    assert "invalid key/value pair format" in refused(asked, "name=n,x")
    assert networks.link_pairs(["a", "a:b"]) == ["a", "a:b"]
    for link in ("", ":a", "a:b:c"):
        assert "bad format for links" in refused(networks.link_pairs, [link])


def test_whether_more_is_asked_of_a_network() -> None:
    plain = dict.fromkeys(("network_alias", "link", "link_local_ip", "ip", "ip6", "mac_address"))
    assert not networks.addresses_asked(plain)
    for name in plain:
        assert networks.addresses_asked({**plain, name: "x"})


@pytest.mark.parametrize(
    ("value", "bindings"),
    [
        ("80", {"80/tcp": [{"HostIp": "", "HostPort": ""}]}),
        ("8080:80", {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}),
        ("127.0.0.1:8080:80/UDP", {"80/udp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}),
        ("[::1]:8080:80", {"80/tcp": [{"HostIp": "::1", "HostPort": "8080"}]}),
        ("127.0.0.1::80", {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}),
        (
            "8080-8081:80-81",
            {"80/tcp": [{"HostIp": "", "HostPort": "8080"}], "81/tcp": [{"HostIp": "", "HostPort": "8081"}]},
        ),
        ("8080-8090:80", {"80/tcp": [{"HostIp": "", "HostPort": "8080-8090"}]}),
        ("80-81", {"80/tcp": [{"HostIp": "", "HostPort": ""}], "81/tcp": [{"HostIp": "", "HostPort": ""}]}),
        ("target=80,published=8080,protocol=udp", {"80/udp": [{"HostIp": "", "HostPort": "8080"}]}),
        ("target=80", {"80/tcp": [{"HostIp": "", "HostPort": ""}]}),
        ("65535:65535", {"65535/tcp": [{"HostIp": "", "HostPort": "65535"}]}),
    ],
)
def test_ports_that_are_published(value: str, bindings: dict[str, Any]) -> None:
    exposed, found = ports.published([value])
    assert found == bindings
    assert exposed == {port: {} for port in bindings}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "No port specified"), ("80:", "No port specified"), ("80/icmp", "Invalid proto: icmp"),
        ("x", "Invalid containerPort: x"), ("81-80", "Invalid containerPort: 81-80"),
        ("65536", "Invalid containerPort: 65536"), ("x:80", "Invalid hostPort: x"),
        ("1-2:3-5", "Invalid ranges specified for container and host Ports: 3-5 and 1-2"),
        ("::1:80:80", "too many colons in address"), ("here:80:80", "Invalid ip address: here"),
        ("published=80", "has no target"), ("target=80,x=1", "invalid field 'x=1'"),
        ("target=80,x", "invalid field 'x'"),
    ],
)  # fmt: skip
def test_ports_that_cannot_be_published(value: str, words: str) -> None:
    assert words in refused(ports.published, [value])


def test_ports_that_are_exposed() -> None:
    assert ports.exposed(["80", "90-91/udp"]) == {"80/tcp": {}, "90/udp": {}, "91/udp": {}}
    assert "invalid port format for --expose: 1:2" in refused(ports.exposed, ["1:2"])
    assert "invalid range format for --expose: 2-1" in refused(ports.exposed, ["2-1"])
    assert "Invalid proto: x" in refused(ports.exposed, ["2/x"])


def test_filters() -> None:
    assert read_filters(["a=1", " A = 2 ", "b=x=y"]) == {"a": ["1", "2"], "b": ["x=y"]}


@pytest.mark.parametrize(
    ("text", "container", "path", "contents"),
    [
        ("one:/a", "one", "/a", False), ("one:", "one", "/", False), ("one:/a/.", "one", "/a/.", True),
        ("/a:b", "", "/a:b", False), ("./a:b", "", "./a:b", False), ("a/b:c", "", "a/b:c", False),
        ("-", "", "-", False), ("plain", "", "plain", False), (".", "", ".", True), ("one:a:b", "one", "a:b", False),
    ],
)  # fmt: skip
def test_sides_of_cp(text: str, container: str, path: str, contents: bool) -> None:
    place = copying.Place.read(text)
    assert (place.container, place.path, place.contents) == (container, path, contents)


DIRECTORY = 1 << 31
LINK = 1 << 27


class FakeFiles:
    """A container's files: their modes and links by path, and what was copied where."""

    def __init__(self, modes: dict[str, int], links: dict[str, str] | None = None) -> None:
        self.modes = modes
        self.links = links or {}
        self.taken: list[tuple[str, list[str], bool]] = []

    def stat(self, _container: str, path: str) -> dict[str, Any]:
        from engine.errors import PathNotFoundError

        mode = self.modes.get(path)
        if mode is None:
            raise PathNotFoundError(path)
        return {"mode": mode, "linkTarget": self.links.get(path, "")}

    def copy_in(self, _container: str, path: str, tar: io.BufferedIOBase, *, owners: bool) -> None:
        with tarfile.open(fileobj=tar, mode="r") as members:
            self.taken.append((path, [member.name for member in members], owners))


@pytest.mark.parametrize(
    ("origin", "target", "into", "names"),
    [
        ("f", "/dir", "/dir", ["f"]),
        ("f", "/file", "/", ["file"]),
        ("f", "/dir/new", "/dir", ["new"]),
        ("d", "/dir", "/dir", ["d", "d/x"]),
        ("d/.", "/dir", "/dir", [".", "./x"]),
        ("d", "/new", "/", ["new", "new/x"]),
        ("d/.", "/new", "/", ["new", "new/x"]),
        ("d/", "/dir", "/dir", ["d", "d/x"]),
        ("f", "/to-dir", "/to-dir", ["f"]),
    ],
)
def test_what_is_copied_into_a_container_has_dockers_place(
    tmp_path: Path, origin: str, target: str, into: str, names: list[str]
) -> None:
    (tmp_path / "f").write_text("f")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_text("x")
    modes = {"/": DIRECTORY, "/dir": DIRECTORY, "/file": 0, "/to-dir": LINK}
    files: Any = FakeFiles(modes, {"/to-dir": "dir"})
    place = copying.Place("", f"{tmp_path}/{origin}")
    if target == "/to-dir":
        files.modes["/to-dir"] = LINK
    copying.copy_in(files, place, copying.Place("one", target), keeps_owners=False, follows=False, source=io.BytesIO())
    assert files.taken == [(into, names, False)]


def test_what_cannot_be_copied_into_a_container(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    files: Any = FakeFiles({"/": DIRECTORY, "/file": 0, "/loop": LINK}, {"/loop": "loop"})

    def into(path: str, origin: str = "d") -> str:
        place = copying.Place("", f"{tmp_path}/{origin}")
        return refused(
            copying.copy_in, files, place, copying.Place("one", path), keeps_owners=False, follows=False,
            source=io.BytesIO(),
        )  # fmt: skip

    assert into("/file") == "cannot copy directory"
    assert into("/loop") == "/loop: too many links"
    assert into("/x", "none") == f"lstat {tmp_path}/none: no such file or directory"
    assert files.taken == []


@pytest.mark.parametrize(
    ("path", "is_directory", "contents", "placed"),
    [
        ("dir", False, False, ("dir", "name")), ("dir", True, False, ("dir", "name")), ("dir", True, True, ("dir", "")),
        ("dir", False, True, ("dir", "name")), ("file", False, False, ("", "file")),
        ("dir/new", True, False, ("dir", "new")), ("new", False, False, ("", "new")),
        ("new/", True, False, ("", "new")),
    ],
)  # fmt: skip
def test_what_is_copied_here_has_dockers_place(
    tmp_path: Path, path: str, is_directory: bool, contents: bool, placed: tuple[str, str]
) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").touch()
    folder, name = copying._placed(f"{tmp_path}/{path}", "name", is_directory=is_directory, contents=contents)
    assert (folder.removeprefix(str(tmp_path)).strip("/"), name) == placed


def test_what_cannot_be_copied_here(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    def placed(path: str, *, is_directory: bool) -> str:
        return refused(
            copying._placed, f"{tmp_path}/{path}", "name", is_directory=is_directory, contents=False
        )  # fmt: skip

    assert placed("file", is_directory=True) == "cannot copy directory"
    assert "does not exist" in placed("new/", is_directory=False)
    assert "does not exist" in placed("none/new", is_directory=False)


def renamed(members: list[tuple[str, str, str]], name: str) -> list[tuple[str, str]]:
    """members: name, kind, target."""
    source, sink = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=source, mode="w") as tar:
        for path, kind, target in members:
            member = tarfile.TarInfo(path)
            member.type = {"d": tarfile.DIRTYPE, "l": tarfile.LNKTYPE, "s": tarfile.SYMTYPE, "f": tarfile.REGTYPE}[kind]
            member.linkname = target
            member.size = 2 if kind == "f" else 0
            tar.addfile(member, io.BytesIO(b"hi"))
    source.seek(0)
    copying._renamed(source, sink, name)
    sink.seek(0)
    with tarfile.open(fileobj=sink, mode="r") as tar:
        for found in tar:
            if found.isreg():
                content = tar.extractfile(found)
                assert content is not None
                assert content.read() == b"hi"
        return [(found.name, found.linkname) for found in tar.getmembers()]


def test_what_comes_out_has_its_new_name_at_the_top() -> None:
    members = [("top", "d", ""), ("top/a", "f", ""), ("top/b", "l", "top/a"), ("top/c", "s", "top/a")]
    assert renamed(members, "new") == [("new", ""), ("new/a", ""), ("new/b", "new/a"), ("new/c", "top/a")]
    assert renamed(members, "") == [("a", ""), ("b", "a"), ("c", "top/a")]
    with pytest.raises(CommandError, match="cannot be copied"):
        renamed([("top", "d", ""), ("top/.wh.a", "f", "")], "new")


def test_templates_over_documents() -> None:
    assert inspected("{{.ID}}", {"Id": "x"}) == "x"
    assert inspected("{{.Labels.nothing}}", {"Labels": {"a": "b"}}) == "<no value>"
    assert inspected("{{.x}}", {}) == "<no value>"
    with pytest.raises(TemplateRunError, match='map has no entry for key "Nope"'):
        inspected("{{.Nope}}", {"Id": "x"})
    with pytest.raises(TemplateRunError):
        inspected("{{.ID}}", {"Id": "x", "iD": "y"})  # two are alike
    assert template_of("") is None
    whole = template_of("json")
    assert whole is not None
    assert whole.run({"a": [1]}) == '{"a":[1]}'


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"]])
def test_one_that_fails_fails_the_command_and_not_the_others(
    names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    def act(name: str) -> None:
        if name == "a":
            raise ShiplapError("no a")

    assert for_all(names, act) == 1
    out, err = capsys.readouterr()
    assert out.split() == names[1:]
    assert "no a" in err


def test_what_is_no_matter_is_said_and_fails_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    def act(_name: str) -> None:
        raise NoMatterError(ShiplapError("not there"))

    assert for_all(["a", "b"], act) == 0
    out, err = capsys.readouterr()
    assert (out, err.count("not there")) == ("", 2)
    assert for_all(["a", "b"], lambda _name: None) == 0
    assert capsys.readouterr().out == "a\nb\n"
