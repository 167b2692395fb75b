"""What is decided without touching the system: users, ID ranges, subnets, filters, mounts, control groups."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from pathlib import Path

import pytest

from containers import addresses, cgroups, hubrules, idmap, mounts, programs, resolvers, subnets, users
from containers.errors import NamespaceError, NetworkError, UserError
from containers.hierarchies import PARENT, Hierarchy, hierarchies, own_hierarchies
from containers.launcher import Launcher
from core.openfiles import hint_if_out_of_files, how_to_allow_more

PASSWD = [
    "root:x:0:0:root:/root:/bin/sh",
    "broken",
    "app:x:1000:1001::/home/app:",
    "far:x:70000:1::/:",
    ":::",
    "7:x:8:9::/seven:",
]
GROUP = ["root:x:0:", "app:x:1001:", "audio:x:29:app,root", "nolist:x:5", "bad:x:y:", "8:x:30:"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, 0, (29,), "/root")),
        ("app", (1000, 1001, (29,), "/home/app")),
        ("1000", (1000, 1001, (29,), "/home/app")),
        ("app:audio", (1000, 29, (), "/home/app")),
        ("app:29", (1000, 29, (), "/home/app")),
        ("app:4", (1000, 4, (), "/home/app")),
        ("4000", (4000, 0, (), "/")),
        ("4000:audio", (4000, 29, (), "/")),
        ("app:", (1000, 1001, (29,), "/home/app")),
        (":audio", (0, 29, (), "/root")),
        ("7", (7, 0, (), "/")),  # an account of that name has another number: a number is an ID
    ],
)
def test_user_resolution(text: str, expected: tuple[int, int, tuple[int, ...], str]) -> None:
    user = users.resolve(text, PASSWD, GROUP)
    assert (user.uid, user.gid, user.groups, user.home) == expected


@pytest.mark.parametrize("text", ["nobody", "app:nogroup", "far", "99999", "app:99999", "-1"])
def test_users_that_cannot_be(text: str) -> None:
    with pytest.raises(UserError):
        users.resolve(text, PASSWD, GROUP)


def test_no_files_is_root_in_slash() -> None:
    user = users.resolve("", [], [])
    assert (user.uid, user.gid, user.groups, user.home) == (0, 0, (), "/")


def test_id_range_is_roots_entry_in_subuid() -> None:
    assert idmap.choose_start("app:100000:65536\nroot:300000:65536\n", "") == 300000


def test_id_range_falls_back_to_an_unused_block() -> None:
    assert idmap.choose_start("root:300000:1000\napp:100000:65536\nroot:x:y\n", "root:x:0:0::/:") == idmap.FALLBACK
    assert idmap.choose_start("", f"joe:x:{idmap.FALLBACK + 5}:1::/:") == idmap.FALLBACK + idmap.SIZE


def test_no_free_id_range_is_an_error_with_a_remedy() -> None:
    everybody = "\n".join(f"u:x:{start}:1" for start in range(idmap.FALLBACK, 1 << 31, idmap.SIZE))
    with pytest.raises(NamespaceError) as caught:
        idmap.choose_start("", everybody)
    assert "/etc/subuid" in str(caught.value.hint)


def _route(text: str) -> tuple[int, int]:
    address, _, prefix = text.partition("/")
    return subnets.parse_address(address) or 0, int(prefix)


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        ([], "198.18.0.0"),
        (["192.168.0.0/16", "10.0.0.0/8"], "198.18.0.0"),
        (["198.18.5.0/24"], "198.19.0.0"),
        (["198.18.0.0/15"], "10.213.0.0"),
        (["198.0.0.0/8", "10.0.0.0/8"], "172.29.0.0"),
    ],
)
def test_subnet_avoids_the_hosts_routes(routes: list[str], expected: str) -> None:
    assert subnets.format_address(subnets.choose_subnet([_route(route) for route in routes])) == expected


def test_no_free_subnet_is_an_error() -> None:
    with pytest.raises(NetworkError, match="no private IPv4 range"):
        subnets.choose_subnet([_route(f"{start}/1") for start in ("0.0.0.0", "128.0.0.0")])


def test_resolvers_on_the_host_are_reached_through_the_forwarder() -> None:
    own = addresses.pack("192.0.2.9")
    text = "# a comment\nsearch example.org\n"
    text += "nameserver 127.0.0.53\nnameserver 192.0.2.9\nnameserver 192.0.2.1\noptions edns0\n"
    assert resolvers.resolv_conf(text, {own}).splitlines() == [
        "# a comment",
        "search example.org",
        f"nameserver {resolvers.DNS_FORWARD}",
        "nameserver 192.0.2.1",
        "options edns0",
    ]


@pytest.mark.parametrize("text", ["", "1.2.3", "1.2.3.4.5", "1.2.3.256", "a.b.c.d", "::1", "1.2.3.4%eth0"])
def test_texts_that_are_no_ipv4_address(text: str) -> None:
    assert subnets.parse_address(text) is None


def test_filter_names_the_hosts_addresses() -> None:
    assert "elements = { 10.0.0.1, 192.0.2.2 }" in hubrules.rules({bytes([192, 0, 2, 2]), bytes([10, 0, 0, 1])})
    assert "set host { type ipv4_addr;  }" in hubrules.rules(set())


def test_no_state_of_a_connection_lets_a_packet_from_container_to_container() -> None:
    """Nor one that a container makes up: an ICMP error about another's connection is "related" to it."""
    forward = hubrules.rules(set()).partition("chain forward")[2]
    assert forward.index('iifname "v*" oifname "v*" reject') < forward.index("ct state established,related accept")


def test_system_trees_hide_and_protect_what_docker_does() -> None:
    plan = mounts.plan_system_trees(own_network=True)
    for path in mounts.MASKED_PATHS:
        assert mounts.Mask(path, null="/dev/null", empty="empty") in plan
    for path in mounts.READONLY_PATHS:
        assert mounts.ReadOnly(path) in plan
    assert not [operation for operation in plan if isinstance(operation, mounts.BindMount) and operation.recursive]


def test_host_network_gets_the_hosts_sys_readonly() -> None:
    plan = mounts.plan_system_trees(own_network=False)
    bind = plan.index(mounts.BindMount("/sys", "sys", recursive=True))
    assert plan[bind + 1] == mounts.ReadOnly("sys")
    assert mounts.Filesystem("sysfs", "sys", 15) not in plan
    assert isinstance(plan[bind + 2], mounts.FirstOf), "its control groups are its own"


def test_stubs_are_planned_once_with_their_parents() -> None:
    plan = mounts.plan_stubs(["/etc", "/a//b/./c", "/a/b"], ["/etc/hosts", "/a/b", "/new/file"])
    assert plan == [
        mounts.Directory("stubs"),
        mounts.Directory("stubs/etc"),
        mounts.Directory("stubs/a"),
        mounts.Directory("stubs/a/b"),
        mounts.Directory("stubs/a/b/c"),
        mounts.File("stubs/etc/hosts"),
        mounts.Directory("stubs/new"),
        mounts.File("stubs/new/file"),
    ]


MIXED = """\
24 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw
25 24 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:5 - cgroup cgroup rw,cpu,cpuacct
26 24 0:24 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio
27 24 0:25 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
28 24 0:26 / /sys/fs/cgroup/my\\040pids rw - cgroup cgroup rw,pids
29 24 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
30 24 0:26 / /elsewhere/pids rw - cgroup cgroup rw,pids
31 1 8:1 / / rw - ext4 /dev/vda rw
"""


def test_cgroup_hierarchies_of_a_mixed_host() -> None:
    found = [(item.path, item.version, item.controllers) for item in hierarchies(MIXED, "0::/\n")]
    assert found == [
        ("/sys/fs/cgroup/cpu,cpuacct", 1, ("cpu",)),
        ("/sys/fs/cgroup/my pids", 1, ("pids",)),
        ("/sys/fs/cgroup/unified", 2, ()),
    ]


def test_abandoned_sessions_are_told_from_living_ones_by_their_lock(privileged: None) -> None:
    found = own_hierarchies()
    alive, lost = f"test-living-{os.urandom(4).hex()}", f"test-dead-{os.urandom(4).hex()}"
    living, dead = cgroups.Session(alive, found), cgroups.Session(lost, found)
    _into, joins = dead.create("1")
    for fd in (_into, *joins, *dead._locks):  # as if its process had been killed
        if fd >= 0:
            os.close(fd)
    cgroups.abandoned(found)  # another test's launcher may have been before it
    assert not any(Path(item.parent, lost).exists() for item in found)
    assert all(Path(item.parent, alive).is_dir() for item in found)
    living.close()
    assert not any(Path(item.parent, alive).exists() for item in found)


def test_a_process_that_is_not_in_its_groups_yet_is_bound_to_processors_all_the_same(privileged: None) -> None:
    """A container's first process enters its groups itself, and may be slower than who tells it what to become."""
    session = cgroups.Session(f"test-slow-{os.urandom(4).hex()}", own_hierarchies())
    slow = subprocess.Popen(["sleep", "1000"])
    try:
        _into, joins = session.create("1")
        for fd in (_into, *joins):
            if fd >= 0:
                os.close(fd)
        wanted = {**dict.fromkeys(("memory_bytes", "memory_swap_bytes", "cpus", "cpu_shares", "pids"), 0)}
        session.limit("1", {**wanted, "optional": (), "fine": {"cpuset_cpus": "0"}}, slow.pid)
        assert "Cpus_allowed_list:\t0\n" in Path(f"/proc/{slow.pid}/status").read_text()
    finally:
        slow.kill()
        slow.wait()
        assert session.close()


def test_groups_of_ended_containers_do_not_pile_up_while_nobody_sweeps(tmp_path: Path) -> None:
    session = cgroups.Session("busy", [Hierarchy(str(tmp_path), 1, ("pids",))])
    groups = tmp_path / PARENT / "busy"
    for number in range(1000):
        (groups / str(number)).mkdir()
        session.doom(str(number))
        assert len(list(groups.iterdir())) <= 201
    session.close()
    assert list(tmp_path.iterdir()) == []


def test_unused_launcher_starts_nothing(tmp_path: Path) -> None:
    with Launcher(tmp_path) as launcher:
        assert launcher.pid == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "said", "expected"),
    [
        ("nft", "", "apt-get install nftables"),
        ("pasta", "", "apt-get install passt"),
        ("pasta", "Failed to open() /dev/net/tun: Permission denied", "as root: chmod 666 /dev/net/tun"),
        ("pasta", "Failed to open() /dev/net/tun: No such file or directory", "modprobe tun"),
        ("pasta", "Failed to open() /dev/net/tun: Permission denied\nToo many open files", "allow more open files"),
        ("nft", "Error: Could not process rule: No such file or directory", "modprobe -a nf_tables"),
        ("pasta", "No external routable interface", "`shiplap doctor`"),
    ],
)
def test_remedy_is_for_what_a_program_of_the_network_said(
    name: str, said: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "exists", lambda path: "No such" not in said)
    found = programs.remedy(name, said)
    assert expected in found
    assert found.endswith("; or run without a network: --network=none")


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((64, 20000), "allow more open files than 64: ulimit -n 4096"),
        ((64, 2000), "allow more open files than 64: ulimit -n 2000"),
        ((64, 64), "allow more open files than 64: LimitNOFILE="),
        ((8192, resource.RLIM_INFINITY), "allow more open files than 8192: ulimit -n 16384"),
        ((8192, 8192), "allow more open files than 8192: LimitNOFILE="),
    ],
)
def test_more_open_files_come_from_whoever_limits_them(
    limits: tuple[int, int], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits)
    assert how_to_allow_more().startswith(expected)
    assert hint_if_out_of_files(OSError(errno.EMFILE, "")) == how_to_allow_more()
    assert hint_if_out_of_files(OSError(errno.EPIPE, "")) is None
