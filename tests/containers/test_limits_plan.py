"""Limits as what is written to control groups of both versions; what exceeded means; maps of IDs; specs on the wire."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from containers import extras, finelimits, idmap, limits, netlink, users, wire
from containers import spec as specs
from containers.errors import LimitError, NamespaceError, UserError
from containers.hierarchies import Hierarchy
from containers.resources import Limits, ResourceLimit
from containers.spec import Bind, ContainerSpec, File, Tmpfs, Tree
from core.rootfs import DirectoryLayer, ErofsLayer

EVERY = ("cpu", "memory", "pids")
V1 = Hierarchy("/x", 1, EVERY)
V2 = Hierarchy("/x", 2, EVERY)


def settings(hierarchy: Hierarchy, **changes: Any) -> list[tuple[str, str]]:
    return limits.settings(Limits(**changes)._asdict(), hierarchy)


def test_no_limits_are_no_writes() -> None:
    assert settings(V1) == settings(V2) == []


@pytest.mark.parametrize(
    ("swap", "v1", "v2"),
    [(0, "200", "100"), (-1, "-1", "max"), (100, "100", "0"), (150, "150", "50")],
)
def test_memory(swap: int, v1: str, v2: str) -> None:
    assert settings(V1, memory_bytes=100, memory_swap_bytes=swap) == [
        ("memory.limit_in_bytes", "100"), ("memory.memsw.limit_in_bytes", v1),
    ]  # fmt: skip
    assert settings(V2, memory_bytes=100, memory_swap_bytes=swap) == [("memory.max", "100"), ("memory.swap.max", v2)]


@pytest.mark.parametrize(("cpus", "quota"), [(1.5, 150_000), (0.5, 50_000), (0.001, 1000), (0.01, 1000)])
def test_processors(cpus: float, quota: int) -> None:
    assert settings(V1, cpus=cpus) == [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", str(quota))]
    assert settings(V2, cpus=cpus) == [("cpu.max", f"{quota} 100000")]


@pytest.mark.parametrize(
    ("shares", "v1", "v2"),
    [(1, 2, 1), (2, 2, 1), (1024, 1024, 39), (262144, 262144, 10000), (300000, 262144, 10000)],
)
def test_shares(shares: int, v1: int, v2: int) -> None:
    assert settings(V1, cpu_shares=shares) == [("cpu.shares", str(v1))]
    assert settings(V2, cpu_shares=shares) == [("cpu.weight", str(v2))]


def test_each_hierarchy_is_told_what_it_has() -> None:
    everything = {"memory_bytes": 100, "cpus": 1.0, "cpu_shares": 2, "pids": 3}
    assert settings(Hierarchy("/x", 1, ("pids",)), **everything) == [("pids.max", "3")]
    assert settings(Hierarchy("/x", 1, ("freezer",)), **everything) == []
    assert [name for name, _ in settings(V2, **everything)] == [
        "memory.max", "memory.swap.max", "cpu.max", "cpu.weight", "pids.max",
    ]  # fmt: skip


def test_limit_that_no_hierarchy_has_is_named() -> None:
    def missing(*controllers: str, **changes: Any) -> str | None:
        return limits.missing(Limits(**changes)._asdict(), [Hierarchy("/x", 1, controllers)])

    assert missing() is None
    assert missing(memory_bytes=1) == "memory"
    assert missing("memory", memory_bytes=1) is None
    assert missing("memory", memory_bytes=1, cpus=1.0) == "cpu"
    assert missing(cpu_shares=1) == "cpu"
    assert missing(pids=1) == "pids"
    assert missing(pids=1, memory_bytes=1, optional=("pids", "memory")) is None


def test_limits_are_written_to_the_group(tmp_path: Path) -> None:
    for name in ("memory.limit_in_bytes", "pids.max"):
        (tmp_path / name).touch()
    wanted = Limits(memory_bytes=100, pids=3)._asdict()
    limits.apply(wanted, str(tmp_path), V1)  # no swap is accounted for: there is none to be limited
    assert (tmp_path / "memory.limit_in_bytes").read_text() == "100"
    assert (tmp_path / "pids.max").read_text() == "3"
    (tmp_path / "pids.max").unlink()
    with pytest.raises(LimitError, match="this host's cgroups have no pids"):
        limits.apply(wanted, str(tmp_path), V1)
    (tmp_path / "pids.max").mkdir()
    with pytest.raises(LimitError, match="to 3: Is a directory"):
        limits.apply(wanted, str(tmp_path), V1)


@pytest.mark.parametrize(
    ("version", "files", "found"),
    [
        (2, {"memory.events": "oom 0\noom_kill 0\n", "pids.events": "max 0\n"}, []),
        (2, {"memory.events": "oom 1\noom_kill 1\n"}, ["memory"]),
        (2, {"memory.events": "oom 0\noom_kill 1\n"}, ["memory above"]),
        (2, {"pids.events": "max 2\n"}, ["pids"]),
        (2, {}, []),
        (1, {"memory.oom_control": "oom_kill 1\n", "memory.limit_in_bytes": "100\n"}, ["memory"]),
        (1, {"memory.oom_control": "oom_kill 1\n", "memory.limit_in_bytes": f"{1 << 62}\n"}, ["memory above"]),
        (1, {"memory.oom_control": "oom_kill 0\n", "pids.events": "max 1\n"}, ["pids"]),
    ],
)
def test_what_was_too_little(tmp_path: Path, version: int, files: dict[str, str], found: list[str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert limits.exceeded(str(tmp_path), Hierarchy("/x", version, EVERY)) == found
    assert limits.exceeded(str(tmp_path), Hierarchy("/x", version, ("cpu",))) == []


def fine(**members: Any) -> dict[str, Any]:
    return {**Limits()._asdict(), "fine": members}


def test_finer_limits_need_their_controllers() -> None:
    assert finelimits.controllers(Limits()._asdict(), io=True) == ()
    assert finelimits.controllers(fine(cpuset_cpus="0"), io=True) == ("cpuset",)
    assert finelimits.controllers(fine(cpuset_mems="0"), io=True) == ("cpuset",)
    assert finelimits.controllers(fine(reservation_bytes=1, swappiness=0), io=True) == ()
    for name in ("blkio_weight", "blkio_weights", "throttles"):
        assert finelimits.controllers(fine(**{name: 1}), io=True) == ("io",)
        assert finelimits.controllers(fine(**{name: 1}), io=False) == ("blkio",)


def test_finer_limits_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finelimits, "_number", lambda path: f"8:{len(path)}")
    wanted = fine(
        cpuset_cpus="0-1", cpuset_mems="0", reservation_bytes=5, blkio_weight=10, blkio_weights=[["/a", 1000]],
        throttles=[["rbps", "/ab", 7], ["wiops", "/a", 8]],
    )  # fmt: skip
    v2 = Hierarchy("/x", 2, ("cpuset", "memory", "io"))
    assert limits.settings(wanted, v2) == [
        ("cpuset.cpus", "0-1"), ("cpuset.mems", "0"), ("memory.low", "5"), ("io.weight", "default 1"),
        ("io.weight", "8:2 10000"), ("io.max", "8:3 rbps=7"), ("io.max", "8:2 wiops=8"),
    ]  # fmt: skip
    v1 = Hierarchy("/x", 1, ("cpuset", "memory", "blkio"))
    assert limits.settings({**wanted, "fine": {**wanted["fine"], "swappiness": 0}}, v1) == [
        ("cpuset.cpus", "0-1"), ("cpuset.mems", "0"), ("memory.soft_limit_in_bytes", "5"), ("memory.swappiness", "0"),
        ("blkio.bfq.weight", "10"), ("blkio.bfq.weight_device", "8:2 1000"),
        ("blkio.throttle.read_bps_device", "8:3 7"), ("blkio.throttle.write_iops_device", "8:2 8"),
    ]  # fmt: skip
    with pytest.raises(LimitError, match="version 2 of control groups has no such setting"):
        limits.settings(fine(swappiness=60), v2)
    assert limits.settings(fine(swappiness=60), Hierarchy("/x", 2, ("cpuset",))) == []


def test_finer_limits_are_of_block_devices(tmp_path: Path) -> None:
    v2 = Hierarchy("/x", 2, ("io",))
    with pytest.raises(LimitError, match="it is no block device"):
        limits.settings(fine(blkio_weights=[["/dev/null", 10]]), v2)
    with pytest.raises(LimitError, match="No such file"):
        limits.settings(fine(blkio_weights=[[f"{tmp_path}/none", 10]]), v2)


def test_names_of_sysctls() -> None:
    assert extras.sysctl_path("net.ipv4.ip_forward") == "net/ipv4/ip_forward"
    assert extras.sysctl_path("net/ipv4/conf/eth0.1/forwarding") == "net/ipv4/conf/eth0.1/forwarding"


def test_ranges_of_ids() -> None:
    passwd = "root:x:0:0::/root:/bin/sh\nbroken\nx:y\n"
    assert idmap.choose_start("other:1:65536\nroot:100000:65535\nroot:200000:65536\n", passwd) == 200000
    assert idmap.choose_start("0:300000:70000\n", passwd) == 300000
    assert idmap.choose_start("root:x:65536\nroot:1:\n", passwd) == 0x70000000
    assert idmap.choose_start("", f"{passwd}a:x:{0x70000000 + 65535}:1::/:\n") == 0x70010000
    every = "".join(f"u:x:{block * 65536}:0::/:\n" for block in range(0x7000, 0x7FFE))
    with pytest.raises(NamespaceError):
        idmap.choose_start("", every)
    assert idmap.choose_start("", every.rsplit("u:", 1)[0]) == idmap.LAST_START


def test_blocks_that_no_container_has() -> None:
    assert idmap.taken_blocks(("a:x:70000:0::/:\n", "g:x:65535:\n"), (131072, 200000)) == {0x7000, 1, 0, 2, 3, 4}
    assert idmap.taken_blocks(("",), (65536, 65536)) == {0x7000, 1}
    assert idmap.owner((100000, 5), 0) == 100001
    assert idmap.owner((100000, 5), 65534) == 165535
    assert idmap.owner((100000, 5), 65535) == 100001


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (0, b"0 1000 65536\n"),
        (1, b"0 1001 1\n1 1000 1\n2 1002 65534\n"),
        (7, b"0 1007 1\n1 1001 6\n7 1000 1\n8 1008 65528\n"),
        (65535, b"0 66535 1\n1 1001 65534\n65535 1000 1\n"),
    ],
)
def test_maps_of_ids(other: int, text: bytes) -> None:
    assert idmap._lines("uid", 1000, other) == text
    assert sum(int(line.split()[2]) for line in text.splitlines()) == 65536


PASSWD = ["root:x:0:0:root:/root:/bin/sh\n", "broken:x:a:0\n", "short:x\n", "app:x:10:11\n", "bare:x:12:13:::\n"]
GROUP = ["root:x:0:\n", "audio:x:29:app,bare\n", "none\n", ":x:5:app\n", "bad:x:y:app\n", "few:x:30\n"]


def test_users_of_files_with_broken_lines() -> None:
    found = users.resolve("app", PASSWD, GROUP, ["few", "31"])
    assert (found.uid, found.gid, found.groups, found.home) == (10, 11, (29, 30, 31), "/")
    assert users.resolve("bare", PASSWD, GROUP).home == "/"
    for text in ("broken", "short"):
        with pytest.raises(UserError):
            users.resolve(text, PASSWD, GROUP)
    assert users.resolve("65535:65535", PASSWD, GROUP).uid == 65535
    for text, more in (("65536", ()), ("1:65536", ()), ("1", ("65536",)), ("1", ("nobody",))):
        with pytest.raises(UserError):
            users.resolve(text, PASSWD, GROUP, more)


def test_spec_on_the_wire() -> None:
    layers = (DirectoryLayer("/base"), ErofsLayer("/image", "/device"))
    spec = ContainerSpec(
        layers, "/up", ("a",), limits=Limits(pids=3), ulimits=(ResourceLimit("nofile", 1, 2),),
        mounts=(Bind("/s", "/b", readonly=True), Tmpfs("/t", 5, 0o700), File("/f", b"x"), Tree(layers, "/x")),
    )  # fmt: skip
    found = specs.to_wire(spec)
    assert found["layers"] == [("/base",), ("/image", "/device")]
    assert found["mounts"] == [
        ("bind", "/b", "/s", True, True, {}), ("tmpfs", "/t", 5, 0o700, None, ()), ("file", "/f", b"x", 0o400, 0, 0),
        ("tree", "/x", [("/base",), ("/image", "/device")], "/", None, (0, 0)),
    ]  # fmt: skip
    assert (found["ulimits"], found["limited"]) == ([("nofile", 1, 2)], True)
    assert (found["terminal"], found["filtered"], found["init"], found["durable"]) == (False, True, False, False)

    def pids(**changes: Any) -> Any:
        limited: Any = specs.to_wire(spec._replace(**changes))["limits"]
        return limited["pids"]

    assert (pids(), pids(init=True), pids(reaper=True), pids(init=True, limits=Limits())) == (3, 4, 4, 0)
    assert specs.to_wire(spec._replace(limits=Limits()))["limited"] is False


@pytest.mark.parametrize("changes", [{"args": ()}, {"cwd": "x"}, {"mounts": (Tmpfs("x"),)}])
def test_spec_that_no_kernel_could_do(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"command|absolute"):
        specs.to_wire(ContainerSpec((), None, ("a",))._replace(**changes))


def test_large_value_travels_in_memory() -> None:
    value = {"a": [1, 2.5, None, b"x" * (3 << 20)]}
    fd = wire.to_memfd(value)
    try:
        assert wire.from_memfd(fd) == value
        assert wire.from_memfd(fd) == value
    finally:
        os.close(fd)


def test_messages_of_the_launcher() -> None:
    ours, theirs = wire.socket_pair()
    try:
        wire.send(ours, ("x", 1), [0])
        received = wire.receive(theirs)
        assert received is not None
        assert received[0] == ("x", 1)
        os.close(received[1][0])
        ours.close()
        assert wire.receive(theirs) is None
    finally:
        theirs.close()


def test_kernels_interfaces_are_seen() -> None:
    kernel = netlink.Netlink()
    try:
        links = kernel.links()
        assert links["lo"] == socket.if_nametoindex("lo") == 1
        assert kernel.mtu("lo") == int(Path("/sys/class/net/lo/mtu").read_text())
        assert kernel.link("lo") == (1, kernel.mtu("lo"))
        assert (kernel.look_up("nothing-here"), kernel.link("nothing-here")) == (None, None)
        with pytest.raises(OSError, match="no such network interface"):
            kernel.mtu("nothing-here")
        assert int.from_bytes(socket.inet_aton("127.0.0.1"), "big") in kernel.addresses()
        assert int.from_bytes(socket.inet_aton("127.0.0.1"), "big") not in kernel.addresses(without=("lo",))
        assert socket.inet_aton("127.0.0.1") in kernel.all_addresses()
        ways = kernel.default_interfaces()
        assert kernel.has_default_route() is bool(ways)
        assert all(index in links.values() for index in ways)
        assert kernel.default_mtu() == (
            min(kernel.mtu(name) for name, at in links.items() if at in ways) if ways else 0
        )
        assert (0, 0) not in kernel.routes()
        with pytest.raises(OSError, match="rtnetlink"):
            kernel.change(netlink.link_up(1 << 20))
    finally:
        kernel.close()


def test_attributes_there_and_back() -> None:
    data = netlink.attribute(1, b"abc") + netlink.text_attribute(2, "xy") + netlink.attribute(1, b"")
    assert len(data) == 8 + 8 + 4
    assert netlink.attribute_list(data) == [(1, b"abc"), (2, b"xy\0"), (1, b"")]
    assert netlink.attributes_of(data) == {1: b"", 2: b"xy\0"}
    assert netlink.attribute_list(netlink.attribute(0x8000 | 3, b"z")) == [(3, b"z")]
    assert netlink.attribute_list(data + b"\0\0\0\0") == netlink.attribute_list(data)
    assert netlink.attribute_list(data + b"\5\0") == netlink.attribute_list(data)
