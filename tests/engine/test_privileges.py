"""Limits and privileges of containers that run: what docker's options do, seen from within and from the host."""

from __future__ import annotations

import json
import os
import signal
import stat
from pathlib import Path
from typing import Any, Final

import pytest

from containers import finelimits
from containers.errors import ContainerError, LimitError
from containers.hierarchies import PARENT, Hierarchy, own_hierarchies, rare_hierarchies
from engine import spec
from engine.engine import Engine
from engine.errors import NotDoneError
from tests.toolkit.bounds import eventually

_KEPT: Final = ["sh", "-c", "echo ready; exec sleep 1000"]


def run(engine: Engine, *command: str, host: dict[str, Any] | None = None, **body: Any) -> tuple[int, str]:
    """Run a container to its end: its exit code, and what it wrote."""
    asked = {"NetworkMode": "none", **(host or {})}
    made = engine.create(None, {"Image": "bb", "Cmd": list(command), "HostConfig": asked, **body})
    engine.start(made.id)
    code = engine.wait(made.id)
    return code, b"".join(entry.data for entry in engine.logs(made.id)).decode()


def started(engine: Engine, host: dict[str, Any], **body: Any) -> str:
    asked = {"NetworkMode": "none", **host}
    made = engine.create("one", {"Image": "bb", "Cmd": _KEPT, "HostConfig": asked, **body})
    engine.start(made.id)
    return made.id


def group_file(engine: Engine, identity: str, controller: str, name: str) -> str:
    """A file of a container's control group of version 1, read on the host."""
    pid = engine.inspect(identity)["State"]["Pid"]
    found = next(each for each in (*own_hierarchies(), *rare_hierarchies()) if controller in each.controllers)
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(",") or (found.version == 2 and not controllers):
            return Path(f"{found.path}{path}/{name}").read_text()
    raise AssertionError(f"{controller}: the container is in no group of it")


def test_a_container_is_bound_to_processors_and_memory_nodes_also_what_joins_it(living: Engine) -> None:
    status = ["sh", "-c", "grep _allowed_list /proc/self/status; cat /proc/self/cgroup | grep -c cpuset"]
    bound = {"CpusetCpus": "1", "CpusetMems": "0"}
    identity = started(living, bound)
    assert "Cpus_allowed_list:\t1\n" in Path(f"/proc/{living.inspect(identity)['State']['Pid']}/status").read_text()
    code, text = run(living, *status, host=bound)
    assert (code, text.split()[:4]) == (0, ["Cpus_allowed_list:", "1", "Mems_allowed_list:", "0"])
    living.update("one", {"CpusetCpus": "0"})
    pid = living.inspect(identity)["State"]["Pid"]
    eventually(lambda: "Cpus_allowed_list:\t0\n" in Path(f"/proc/{pid}/status").read_text())


def test_an_update_binds_what_runs_already_and_what_it_started(living: Engine) -> None:
    identity = started(living, {}, Cmd=["sh", "-c", "sleep 1000 & exec sleep 1000"])
    living.update("one", {"CpusetCpus": "1"})
    pid = living.inspect(identity)["State"]["Pid"]
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for each in (pid, child):
        assert "Cpus_allowed_list:\t1\n" in Path(f"/proc/{each}/status").read_text()


def test_memory_that_is_kept_and_swappiness_are_the_groups(living: Engine) -> None:
    identity = started(living, {"Memory": 64 << 20, "MemoryReservation": 32 << 20, "MemorySwappiness": 10})
    assert int(group_file(living, identity, "memory", "memory.soft_limit_in_bytes")) == 32 << 20
    assert int(group_file(living, identity, "memory", "memory.swappiness")) == 10


def test_rates_of_block_devices_are_the_groups(living: Engine) -> None:
    device = next(path for path in sorted(Path("/dev").iterdir()) if path.is_block_device())
    rates = [{"Path": str(device), "Rate": 1 << 20}]
    identity = started(living, {"BlkioDeviceReadBps": rates, "BlkioDeviceWriteIOps": rates})
    for name in ("blkio.throttle.read_bps_device", "blkio.throttle.write_iops_device"):
        assert group_file(living, identity, "blkio", name).split()[1] == str(1 << 20)


def test_version_2_of_control_groups_gets_the_same_in_its_own_words() -> None:
    block = str(next(path for path in sorted(Path("/dev").iterdir()) if path.is_block_device()))
    number = os.stat(block).st_rdev
    device = f"{os.major(number)}:{os.minor(number)}"
    fine = {
        "cpuset_cpus": "0-1", "reservation_bytes": 7, "blkio_weight": 1000, "blkio_weights": [[block, 10]],
        "throttles": [["rbps", block, 5], ["wiops", block, 6]],
    }  # fmt: skip
    group = Hierarchy("/x", 2, ("cpu", "memory", "io", "cpuset"))
    assert finelimits.settings({"fine": fine}, group) == [
        ("cpuset.cpus", "0-1"), ("memory.low", "7"), ("io.weight", "default 10000"), ("io.weight", f"{device} 1"),
        ("io.max", f"{device} rbps=5"), ("io.max", f"{device} wiops=6"),
    ]  # fmt: skip
    with pytest.raises(LimitError, match="version 2 of control groups has no such setting"):
        finelimits.settings({"fine": {"swappiness": 3}}, group)
    with pytest.raises(LimitError, match="cannot limit /dev/null: it is no block device"):
        finelimits.settings({"fine": {"blkio_weights": [["/dev/null", 10]]}}, group)


def test_nothing_of_rare_groups_stays(living: Engine) -> None:
    identity = started(living, {"CpusetCpus": "0"})
    pid = living.inspect(identity)["State"]["Pid"]
    place = next(each for each in rare_hierarchies() if "cpuset" in each.controllers)
    lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    group = next(path for _, controllers, path in lines if "cpuset" in controllers)
    assert group.startswith(f"/{PARENT}/")
    assert Path(f"{place.path}{group}").is_dir()
    living.remove("one", force=True)
    eventually(lambda: not Path(f"{place.path}{group}").parent.exists())


def test_sysctls_of_its_namespaces_are_set_and_no_others(living: Engine) -> None:
    sysctls = {"net.ipv4.ip_forward": "1", "kernel.shmmni": "77", "fs.mqueue.msg_max": "9", "net/core/somaxconn": "99"}
    places = [f"/proc/sys/{name.replace('.', '/')}" for name in sysctls]
    before = [Path(place).read_text() for place in places]
    assert run(living, "cat", *places, host={"Sysctls": sysctls}) == (0, "1\n77\n9\n99\n")
    assert [Path(place).read_text() for place in places] == before
    made = living.create(None, {"Image": "bb", "HostConfig": {"NetworkMode": "none", "Sysctls": {"net.no.such": "1"}}})
    with pytest.raises(ContainerError, match=r"cannot set the sysctl net\.no\.such to 1: No such file"):
        living.start(made.id)


def test_further_groups_by_number_and_name(living: Engine) -> None:
    groups = {"GroupAdd": ["77", "root"]}
    assert run(living, "grep", "Groups", "/proc/self/status", User="1000:5", host=groups) == (0, "Groups:\t0 5 77 \n")
    made = living.create(None, {"Image": "bb", "HostConfig": {"NetworkMode": "none", "GroupAdd": ["nobodys"]}})
    with pytest.raises(ContainerError, match="unable to find group nobodys"):
        living.start(made.id)


def test_domain_and_score(living: Engine) -> None:
    assert run(living, "cat", "/proc/sys/kernel/domainname", Domainname="example.org") == (0, "example.org\n")
    assert run(living, "cat", "/proc/self/oom_score_adj", host={"OomScoreAdj": 300}) == (0, "300\n")


def test_a_device_is_the_containers_roots_and_its_own_node(living: Engine) -> None:
    """Not the host's node: that would belong to nobody, and what the container does to it would be seen there."""
    owner = Path("/dev/full").stat()
    devices = [{"PathOnHost": "/dev/full", "PathInContainer": "/dev/deep/other"}]
    script = "stat -c '%u:%g %t:%T' /dev/deep/other; chown 7 /dev/deep/other; (echo x > /dev/deep/other) 2>&1"
    code, text = run(living, "sh", "-c", script, host={"Devices": devices})
    assert text.splitlines()[0] == "0:0 1:7"
    assert "No space left" in text
    assert code == 1
    assert (Path("/dev/full").stat().st_uid, Path("/dev/full").stat().st_mode) == (owner.st_uid, owner.st_mode)


def test_a_container_that_starts_again_and_again_has_one_node_of_a_device(living: Engine) -> None:
    devices = [{"PathOnHost": "/dev/full", "PathInContainer": "/dev/other"}]
    identity = started(living, {"Devices": devices, "RestartPolicy": {"Name": "always"}})
    first = living.inspect(identity)["State"]["Pid"]
    keeper = int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(first, signal.SIGKILL)
    eventually(lambda: bool(living.state(identity).restarts == 1 and living.state(identity).pid))
    (nodes,) = Path(f"/proc/{keeper}/root{living.places.run}/work").glob("layers*/dev")
    assert len(list(nodes.iterdir())) == 1


def test_a_device_that_has_gone_does_not_hinder_an_update(living: Engine, tmp_path: Path) -> None:
    node = tmp_path / "node"
    os.mknod(node, 0o600 | stat.S_IFCHR, os.makedev(1, 7))
    identity = started(living, {"Devices": [{"PathOnHost": str(node), "PathInContainer": "/dev/other"}]})
    node.unlink()
    before = living.inspect(identity)["HostConfig"]
    told = living.update(identity, {"Memory": 64 << 20, "Privileged": True, "CapAdd": ["SYS_ADMIN"]})
    assert told == [
        f"HostConfig.{name} is not changed by an update, and is passed over" for name in ("Privileged", "CapAdd")
    ]
    assert living.inspect(identity)["HostConfig"] == {**before, "Memory": 64 << 20}


def test_a_container_in_the_host_s_network_sees_its_own_control_groups(living: Engine) -> None:
    script = "grep ' /sys/fs/cgroup' /proc/mounts | tail -n 1 | cut -d' ' -f3"
    for host in ({"NetworkMode": "host"}, {"NetworkMode": "host", "Privileged": True}):
        assert run(living, "sh", "-c", script, host=host)[1] in ("cgroup2\n", "tmpfs\n")
    script = "mkdir /sys/fs/cgroup/below && echo $$ > /sys/fs/cgroup/below/cgroup.procs && echo grouped"
    assert run(living, "sh", "-c", script, host={"NetworkMode": "host", "Privileged": True}) == (0, "grouped\n")


def test_a_directory_of_devices_is_all_of_them(living: Engine) -> None:
    assert run(living, "ls", "-R", "/dev/net", host={"Devices": [{"PathOnHost": "/dev/net"}]}) == (
        0, "/dev/net:\ntun\n",
    )  # fmt: skip


def test_paths_of_the_system_are_open_when_that_is_asked_for(living: Engine) -> None:
    script = "head -c 1 /proc/interrupts | wc -c; (echo 1 > /proc/sys/net/ipv4/ip_forward) 2>&1"
    capable = {"CapAdd": ["NET_ADMIN"]}
    code, text = run(living, "sh", "-c", script, host=capable)
    assert (code, text[0], "Read-only" in text) == (1, "0", True)
    assert run(living, "sh", "-c", script, host={**capable, "MaskedPaths": [], "ReadonlyPaths": []}) == (0, "1\n")


def test_a_profile_of_ones_own_filters_system_calls(living: Engine) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
            {
                "names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_SYS_ADMIN"]},
            },
            {
                "names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38,
                "args": [{"index": 1, "value": number, "op": "SCMP_CMP_EQ"} for number in (10, 12)],
            },
        ],
    }  # fmt: skip
    option = f"seccomp={json.dumps(profile)}"
    script = "mkdir /new; for each in 10 12 0; do kill -$each $$; done; grep Seccomp: /proc/self/status"
    code, text = run(living, "sh", "-c", f"({script}) 2>&1", host={"SecurityOpt": [option]})
    assert "can't create directory '/new': No space left on device" in text
    assert text.count("Function not implemented") == 2
    assert "Seccomp:\t2" in text
    assert code == 0
    identity = started(living, {"SecurityOpt": [option]})
    assert "Seccomp:\t2" in Path(f"/proc/{living.inspect(identity)['State']['Pid']}/status").read_text()


def test_a_profile_s_flags_are_what_it_is_loaded_with(living: Engine) -> None:
    """SPEC_ALLOW leaves speculation as it is, which the kernel else forbids to what is filtered, or could."""
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
    }
    made = engine_document(living, profile)
    assert made["extras"]["call_flags"] == 6
    assert run(living, "grep", "Seccomp:", "/proc/self/status", host=of_profile(profile)) == (0, "Seccomp:\t2\n")
    for flags in (["SECCOMP_FILTER_FLAG_NEW_LISTENER"], ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], ["x"]):
        with pytest.raises(NotDoneError, match="nobody listens to a filter here"):
            run(living, "true", host=of_profile({**profile, "flags": flags}))


def of_profile(profile: dict[str, Any]) -> dict[str, Any]:
    return {"SecurityOpt": [f"seccomp={json.dumps(profile)}"]}


def engine_document(engine: Engine, profile: dict[str, Any]) -> dict[str, Any]:
    """``spec.json`` of a container with a profile."""
    made = engine.create(None, {"Image": "bb", "HostConfig": of_profile(profile)})
    return spec.read(engine.places.container(made.id))


def test_dockers_own_profile_is_a_filter(living: Engine) -> None:
    """As docker has it, but for its length: conditions on capabilities, kernels and architectures."""
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}],
        "syscalls": [
            {"names": sorted(_calls()), "action": "SCMP_ACT_ALLOW"},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
            {
                "names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_BOOT"]},
                "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
            },
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        ],
    }  # fmt: skip
    option = f"seccomp={json.dumps(profile)}"
    script = "mkdir /there; mount -t tmpfs none /there 2>&1"
    capable = {"CapAdd": ["SYS_ADMIN"]}
    code, text = run(living, "sh", "-c", script, host={"SecurityOpt": [option], **capable})
    assert (code, text) == (0, "")
    assert run(living, "sh", "-c", f"{script}; true", host={"SecurityOpt": [option]}) == (
        0, "mount: permission denied (are you root?)\n",
    )  # fmt: skip


def _calls() -> frozenset[str]:
    from containers.seccomp import ALLOWED

    return ALLOWED


def test_privileged_is_everything_within_and_nobody_without(living: Engine) -> None:
    script = """
    grep -E 'Cap(Eff|Bnd)|Seccomp:' /proc/self/status
    mount -t tmpfs none /mnt && echo mounted
    mkdir /sys/fs/cgroup/below && echo $$ > /sys/fs/cgroup/below/cgroup.procs && echo grouped
    echo 1 > /proc/sys/net/ipv4/ip_forward && echo forwarded
    ls -l /dev/fuse | cut -c1
    echo 1 > /proc/sys/kernel/panic || echo refused
    mknod /tmp/sda b 8 0 || echo no nodes
    echo c > /proc/sysrq-trigger || echo refused
    """
    code, text = run(living, "sh", "-c", f"exec 2>/dev/null; mkdir -p /tmp /mnt; {script}", host={"Privileged": True})
    lines = text.splitlines()
    assert [line.split()[1] for line in lines[:3]] == ["000001ffffffffff", "000001ffffffffff", "0"]
    assert lines[3:] == ["mounted", "grouped", "forwarded", "c", "refused", "no nodes", "refused"]
    assert code == 0
    identity = started(living, {"Privileged": True})
    pid = living.inspect(identity)["State"]["Pid"]
    assert Path(f"/proc/{pid}").stat().st_uid >= 0x70000000
