"""What a step may use: memory, processes, processor time, shared memory, descriptors; and what is said at the limit."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from containers import limits
from containers.errors import LimitError
from containers.hierarchies import Hierarchy
from containers.resources import Limits, ResourceLimit
from containers.spec import LimitGroup
from tests.security.conftest import DebianRunner
from tests.toolkit.bounds import eventually, stretched

V2 = Hierarchy("/sys/fs/cgroup", 2, ("cpu", "io", "memory", "pids"))
V1 = Hierarchy("/sys/fs/cgroup/all", 1, ("cpu", "memory", "pids"))
MIB = 1 << 20


@pytest.mark.parametrize(
    ("wanted", "version_2", "version_1"),
    [
        (Limits(), [], []),
        (
            Limits(memory_bytes=100),
            [("memory.max", "100"), ("memory.swap.max", "100")],
            [("memory.limit_in_bytes", "100"), ("memory.memsw.limit_in_bytes", "200")],
        ),
        (
            Limits(memory_bytes=100, memory_swap_bytes=100),
            [("memory.max", "100"), ("memory.swap.max", "0")],
            [("memory.limit_in_bytes", "100"), ("memory.memsw.limit_in_bytes", "100")],
        ),
        (
            Limits(memory_bytes=100, memory_swap_bytes=-1),
            [("memory.max", "100"), ("memory.swap.max", "max")],
            [("memory.limit_in_bytes", "100"), ("memory.memsw.limit_in_bytes", "-1")],
        ),
        (
            Limits(cpus=1.5),
            [("cpu.max", "150000 100000")],
            [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "150000")],
        ),
        (Limits(cpu_shares=1024), [("cpu.weight", "39")], [("cpu.shares", "1024")]),
        (Limits(cpu_shares=1), [("cpu.weight", "1")], [("cpu.shares", "2")]),
        (Limits(pids=7), [("pids.max", "7")], [("pids.max", "7")]),
    ],
)
def test_limits_become_files_of_both_versions(
    wanted: Limits, version_2: list[tuple[str, str]], version_1: list[tuple[str, str]]
) -> None:
    assert limits.settings(wanted._asdict(), V2) == version_2
    assert limits.settings(wanted._asdict(), V1) == version_1


def test_limit_without_a_controller_is_missed() -> None:
    only_pids = Hierarchy("/sys/fs/cgroup/pids", 1, ("pids",))
    assert limits.missing(Limits(pids=5)._asdict(), [only_pids]) is None
    assert limits.missing(Limits(pids=5, memory_bytes=9)._asdict(), [only_pids]) == "memory"
    assert limits.missing(Limits(cpu_shares=5)._asdict(), [only_pids]) == "cpu"
    assert limits.missing(Limits(cpu_shares=5, optional=("cpu",))._asdict(), [only_pids]) is None


def _used(limit: int, most: int, kind: str = "") -> dict[str, str]:
    return {f"memory.{kind}limit_in_bytes": f"{limit}\n", f"memory.{kind}max_usage_in_bytes": f"{most}\n"}


V1_KILLED = {"memory.oom_control": "under_oom 0\noom_kill 1\n"}


@pytest.mark.parametrize(
    ("hierarchy", "files", "expected"),
    [
        (V2, {"memory.events": "oom 1\noom_kill 1\n", "pids.events": "max 0\n"}, ["memory"]),
        (V2, {"memory.events": "max 9\noom 0\noom_kill 2\n"}, [limits.MEMORY_ABOVE]),
        (V2, {"memory.events": "oom 3\noom_kill 0\n", "pids.events": "max 2\n"}, ["pids"]),
        (V1, V1_KILLED | _used(100 << 20, 100 << 20), ["memory"]),
        (V1, V1_KILLED | _used(100 << 20, 90 << 20) | _used(110 << 20, 110 << 20, "memsw."), ["memory"]),
        (V1, V1_KILLED | _used(100 << 20, 90 << 20), [limits.MEMORY_ABOVE]),
        (V1, V1_KILLED | _used(9223372036854771712, 90 << 20), [limits.MEMORY_ABOVE]),
        (V1, {}, []),
    ],
)
def test_whose_memory_ran_out_is_told(
    tmp_path: Path, hierarchy: Hierarchy, files: dict[str, str], expected: list[str]
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert limits.exceeded(str(tmp_path), hierarchy) == expected


def test_limits_of_a_group_hold_for_all_of_it_together(debian: DebianRunner) -> None:
    """Each has room enough for itself. With the last of them the group is gone."""
    name = f"t{uuid.uuid4().hex}"
    group = LimitGroup(name, Limits(memory_bytes=96 * MIB, memory_swap_bytes=96 * MIB))
    own: dict[str, Any] = {"limits": group.limits, "group": group}
    read, write = os.pipe()
    script = "$x = 'a' x (20 << 20); $| = 1; print 'has it'; sleep 1000"
    first = debian.start("perl", "-e", script, stdout=write, **own)
    os.close(write)
    assert os.read(read, 100) == b"has it"
    os.close(read)
    places = [path for path in Path("/sys/fs/cgroup").glob(f"**/{name}") if path.is_dir()]
    assert places
    status, _ = debian.status("perl", "-e", "$x = 'a' x (80 << 20); sleep 1000", **own)
    assert status.exceeded == (limits.MEMORY_TOGETHER,)
    assert debian.status("true", **own)[0].code == 0, "and others of it go on"
    first.kill()
    first.wait()
    eventually(lambda: not any(path.exists() for path in places), why="it is gone")


def test_memory_bomb_is_killed_and_told(debian: DebianRunner) -> None:
    status, _ = debian.status("perl", "-e", '$x = "a" x (200 << 20)', limits=Limits(memory_bytes=64 * MIB))
    assert (status.code, status.signal, status.exceeded) == (137, 9, ("memory",))


def test_memory_in_shared_memory_and_files_counts_too(debian: DebianRunner) -> None:
    status, _ = debian.status(
        "dd",
        "if=/dev/zero",
        "of=/dev/shm/x",
        "bs=1M",
        "count=200",
        limits=Limits(32 * MIB, 32 * MIB),
        shm_bytes=1 << 30,
    )
    assert status.exceeded == ("memory",)


def test_child_killed_for_memory_is_told_though_the_shell_goes_on(debian: DebianRunner) -> None:
    script = "perl -e '$x = \"a\" x (200 << 20)'; exit 3"
    status, _ = debian.status("sh", "-c", script, limits=Limits(memory_bytes=64 * MIB))
    assert (status.code, status.exceeded) == (3, ("memory",))


def test_fork_bomb_stops_at_the_limit_and_is_gone(debian: DebianRunner) -> None:
    bomb = 'while (1) { my $pid = fork; die "no more: $!" unless defined $pid; }'
    status, said = debian.status("perl", "-e", bomb, limits=Limits(pids=50))
    assert status.exceeded == ("pids",)
    assert "Resource temporarily unavailable" in said
    assert debian("echo still here", limits=Limits(pids=50)) == "still here\n"


def test_processor_time_is_shared_out(debian: DebianRunner) -> None:
    """A tenth of a processor: 0.3 s of processor time take some 3 s. (Other load only makes it longer.)"""
    program = (
        "sub now { open(my $f, '<', '/proc/uptime'); (split ' ', <$f>)[0] } "
        "$t = now; while ((times)[0] < 0.3) {} print now() - $t > 1.5 ? 'slow' : 'fast'"
    )
    assert debian.perl(program, limits=Limits(cpus=0.1)) == "slow"


def test_shared_memory_has_its_size(debian: DebianRunner) -> None:
    assert debian("df -k --output=size /dev/shm | tail -1").strip() == "65536"
    assert debian("df -k --output=size /dev/shm | tail -1", shm_bytes=MIB).strip() == "1024"


def test_ulimits_hold_for_each_process(debian: DebianRunner) -> None:
    wanted = (ResourceLimit("nofile", 20, 30), ResourceLimit("core", 0, 0))
    assert debian("ulimit -Sn; ulimit -Hn; sh -c 'ulimit -c'", ulimits=wanted) == "20\n30\n0\n"


def test_descriptor_bomb_stops_at_the_limit(debian: DebianRunner) -> None:
    program = 'while (1) { open(my $f, "<", "/dev/null") or do { print "$!"; exit }; push @f, $f }'
    assert debian.perl(program, ulimits=(ResourceLimit("nofile", 64, 64),)) == "Too many open files"


def test_ulimit_above_the_hosts_is_said(debian: DebianRunner) -> None:
    with pytest.raises(LimitError, match="nofile") as error:
        debian("true", ulimits=(ResourceLimit("nofile", 1 << 30, 1 << 30),))
    assert "this host allows" in str(error.value.hint)


_HOARD = """
$| = 1;
my $watches = 0; $watches++ while syscall(294, 0) >= 0;             # inotify_init1
my $event = pack('QiiQ', 0, 10, 0, 0) . "\\0" x 40; my $id = pack('Q', 0); my $timers = 0;
$timers++ while $timers < 200000 && syscall(222, 1, $event, $id) == 0;  # timer_create
print "$watches\\n"; sleep 60;
"""


def test_what_is_counted_for_each_user_is_not_the_hosts(debian: DebianRunner) -> None:
    """A container that takes all the inotify instances and timers it gets leaves the host and others theirs."""
    reader, writer = os.pipe()
    hoarder = debian.start("perl", "-e", _HOARD, stdout=writer)
    os.close(writer)
    with open(reader, "rb") as output:
        taken = int(output.readline())
        code = "import ctypes; print(ctypes.CDLL(None).inotify_init1(0) >= 0)"
        assert (
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"
        )
        assert int(debian.perl(_HOARD.replace("sleep 60", ""))) == taken
    hoarder.kill()
    hoarder.wait(stretched(20))
