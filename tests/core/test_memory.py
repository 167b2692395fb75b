"""The memory that a process may use: the smallest limit of its control groups, and what follows for a worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import SettingsError
from core.memory import SERVICE_BYTES, MemoryLimit, memory_limit, planned, smallest_limit

MIB = 1 << 20
MACHINE = 8192 * MIB
NONE_V1 = "9223372036854771712"


def mount(point: Path, version: int, root: str = "/") -> str:
    place = str(point).replace(" ", "\\040")
    kind = "cgroup2 cgroup2 rw" if version == 2 else "cgroup cgroup rw,memory"
    return f"40 31 0:37 {root} {place} rw,relatime - {kind}\n"


def group(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")
    return folder


def test_version_2_counts_the_smallest_of_all_groups_above(tmp_path: Path) -> None:
    group(tmp_path / "a", memory__max=str(512 * MIB), memory__swap__max="max")
    group(tmp_path / "a/b", memory__max="max", memory__swap__max=str(64 * MIB))
    group(tmp_path / "a/b/c", memory__max=str(700 * MIB), memory__swap__max="max")
    found = smallest_limit(MACHINE, mount(tmp_path, 2), "0::/a/b/c\n")
    assert found == MemoryLimit(512 * MIB, str(tmp_path / "a"), 64 * MIB)
    assert str(found) == f"512 MiB, the limit of the control group {tmp_path / 'a'}"


def test_version_1_counts_the_smallest_of_all_groups_above(tmp_path: Path) -> None:
    group(tmp_path, memory__limit_in_bytes=NONE_V1, memory__memsw__limit_in_bytes=NONE_V1)
    group(tmp_path / "a", memory__limit_in_bytes=str(512 * MIB), memory__memsw__limit_in_bytes=str(600 * MIB))
    group(tmp_path / "a/b", memory__limit_in_bytes=NONE_V1, memory__memsw__limit_in_bytes=NONE_V1)
    cgroup = "9:name=systemd:/x\n4:cpu,memory:/a/b\n0::/\n"
    assert smallest_limit(MACHINE, mount(tmp_path, 1), cgroup) == MemoryLimit(512 * MIB, str(tmp_path / "a"), 88 * MIB)


def test_version_1_tells_of_groups_that_a_container_does_not_see(tmp_path: Path) -> None:
    group(
        tmp_path,
        memory__limit_in_bytes=NONE_V1,
        memory__stat=f"cache 5\nhierarchical_memory_limit {300 * MIB}\nhierarchical_memsw_limit {NONE_V1}",
    )
    found = smallest_limit(MACHINE, mount(tmp_path, 1, "/docker/abc"), "4:memory:/docker/abc\n")
    assert found == MemoryLimit(300 * MIB, str(tmp_path))


@pytest.mark.parametrize(
    ("root", "path", "where"),
    [
        ("/docker/abc", "/docker/abc", "."),
        ("/docker/abc", "/docker/abc/svc", "svc"),
        ("/", "/", "."),
        ("/", "/../other", "."),
        ("/docker/abc", "/docker/abcdef", "."),
        ("/docker/abc", "/elsewhere", "."),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_mount_that_begins_at_a_group(tmp_path: Path, root: str, path: str, where: str, version: int) -> None:
    name = "memory__max" if version == 2 else "memory__limit_in_bytes"
    group(tmp_path / "a b" / where, **{name: str(400 * MIB)})
    cgroup = f"0::{path}\n" if version == 2 else f"7:memory:{path}\n"
    found = smallest_limit(MACHINE, mount(tmp_path / "a b", version, root), cgroup)
    assert found == MemoryLimit(400 * MIB, str(tmp_path / "a b" / where))


def test_hybrid_host_counts_whichever_has_the_controller(tmp_path: Path) -> None:
    group(tmp_path / "unified/svc", cgroup__procs="")
    group(tmp_path / "memory/svc", memory__limit_in_bytes=str(256 * MIB))
    mounts = mount(tmp_path / "unified", 2) + mount(tmp_path / "memory", 1)
    found = smallest_limit(MACHINE, mounts, "4:memory:/svc\n0::/svc\n")
    assert found == MemoryLimit(256 * MIB, str(tmp_path / "memory/svc"))


@pytest.mark.parametrize("text", ["max", NONE_V1, "-1", "", "nonsense", str(MACHINE * 2)])
def test_no_limit_is_the_machines_memory(tmp_path: Path, text: str) -> None:
    group(tmp_path / "svc", memory__max=text, memory__limit_in_bytes=text)
    mounts = mount(tmp_path, 2) + mount(tmp_path, 1) + "broken line\n\n"
    assert smallest_limit(MACHINE, mounts, "4:memory:/svc\n0::/svc\n") == MemoryLimit(MACHINE)
    assert "this machine's memory" in str(MemoryLimit(MACHINE))


def test_this_process_has_some() -> None:
    assert 64 * MIB < memory_limit().memory_bytes < 1 << 50


def test_512_mib_is_one_step_at_a_time() -> None:
    for reserved, bound in ((SERVICE_BYTES, 128), (0, 320)):
        capacity = planned(MemoryLimit(512 * MIB), 2, reserved)
        assert (capacity.runs, capacity.steps) == (1, 1)
        assert capacity.bound_bytes == bound * MIB


@pytest.mark.parametrize("reserved", [0, SERVICE_BYTES])
def test_bound_of_all_steps_is_below_the_limit_and_leaves_room_for_shiplap(reserved: int) -> None:
    for limit in range(512, 65536, 64):
        for runs in (1, 2, 8, 64):
            capacity = planned(MemoryLimit(limit * MIB), runs, reserved)
            assert 1 <= capacity.runs <= runs
            assert capacity.bound_bytes + reserved + capacity.runs * 96 * MIB < limit * MIB
            assert capacity.bound_bytes >= capacity.runs * 96 * MIB


def test_much_memory_is_no_bound_on_what_is_done_at_once() -> None:
    capacity = planned(MemoryLimit(24 << 30), 2)
    assert (capacity.runs, capacity.steps) == (2, 0)
    assert capacity.bound_bytes > (24 << 30) * 3 // 4


def test_too_little_memory_is_refused_with_the_figures() -> None:
    with pytest.raises(SettingsError, match=r"256 MiB, the limit of the control group /g; it takes 480 MiB at least"):
        planned(MemoryLimit(256 * MIB, "/g"), 2, SERVICE_BYTES)
