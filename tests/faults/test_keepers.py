"""Keepers and the nursery under faults: killed at any moment, many at once, a full disk, another release, long use."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from containers.errors import ContainerError
from containers.keeper import nursery_client
from tests.containers.conftest import busybox_layer as busybox_layer
from tests.containers.keeper.conftest import home as home
from tests.containers.keeper.home import Box, Home, wait_until_unlocked
from tests.toolkit.bounds import eventually, stretched

_CHECKOUT = Path(__file__).resolve().parents[2]


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("seed", range(10))
def test_a_keeper_that_is_killed_at_any_moment_leaves_what_the_next_start_can_use(home: Home, seed: int) -> None:
    box = home.create("sleep", "1000")
    nursery = home.status()["pid"]
    before = set(_children(nursery))
    chance = random.Random(seed)

    def start() -> None:
        try:
            box.start()
        except (ContainerError, TimeoutError):
            return

    starting = threading.Thread(target=start)
    starting.start()
    time.sleep(chance.uniform(0, 0.06))
    for pid in _children(nursery):
        if pid not in before or chance.random() < 0.5:
            os.kill(pid, signal.SIGKILL)
    starting.join(stretched(120))
    assert not starting.is_alive()
    if box.is_kept():  # it was another one that was killed
        box.stop(timeout_s=0)
    eventually(lambda: not box.is_kept())
    eventually(lambda: box.state()["status"] in ("created", "exited"), why=str(box.state()))
    box.start()
    assert box.execute("echo", "fine") == (0, b"fine\n")
    box.stop(timeout_s=0)


@pytest.mark.parametrize("seed", range(10))
def test_a_nursery_that_is_killed_at_any_moment_is_made_again(home: Home, seed: int) -> None:
    running, box = home.create("sleep", "1000"), home.create("sleep", "1000")
    running.start()
    nursery = home.status()["pid"]
    starting = threading.Thread(target=lambda: _start_somehow(box))
    starting.start()
    time.sleep(random.Random(seed).uniform(0, 0.06))
    os.kill(nursery, signal.SIGKILL)
    starting.join(stretched(120))
    assert not starting.is_alive()
    box.until("running")
    assert running.state()["status"] == "running"
    assert running.execute("echo", "fine") == (0, b"fine\n")


def _start_somehow(box: Box) -> None:
    """As a user would: once more when the first try was cut off."""
    for _ in range(3):
        try:
            box.start()
        except ContainerError:
            if box.state()["status"] == "running":
                return
        else:
            return


def test_many_start_and_stop_at_once(home: Home) -> None:
    boxes = [home.create("sleep", "1000") for _ in range(30)]
    with ThreadPoolExecutor(30) as pool:
        list(pool.map(Box.start, boxes))
        assert {box.state()["status"] for box in boxes} == {"running"}
        assert len({box.state()["range"] for box in boxes}) == 30
        list(pool.map(lambda box: box.stop(timeout_s=0), boxes))
    assert {box.state()["status"] for box in boxes} == {"exited"}
    assert not any(box.is_kept() for box in boxes)


def test_a_hundred_cycles_leave_nothing_behind(home: Home) -> None:
    boxes = [home.create("true") for _ in range(4)]
    for box in boxes:
        box.run()
    nursery = home.status()["pid"]
    eventually(lambda: home.status()["spares"] == 2)
    before = _traces(home, nursery)
    for number in range(100):
        assert boxes[number % 4].run() == 0
    eventually(lambda: _traces(home, nursery) <= before, why=f"{before} {_traces(home, nursery)}")


def _traces(home: Home, nursery: int) -> set[tuple[str, str]]:
    """What could grow: descriptors, processes, mounts, files in RUN."""
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(home.root) in line]
    files = sorted(str(path) for path in home.run.rglob("*") if path.parent.name != "events")
    counted = {"descriptor": len(os.listdir(f"/proc/{nursery}/fd")), "process": len(_children(nursery))}
    numbered = {(kind, str(number)) for kind, count in counted.items() for number in range(count)}
    return numbered | {("mount", line) for line in mounts} | {("file", file) for file in files}


def test_a_keeper_does_not_grow_by_what_it_is_asked(home: Home) -> None:
    box = home.create("sleep", "1000")
    box.start()
    first = box.state()["pid"]
    keeper = _parent(first)

    def use(times: int) -> None:
        for _ in range(times):
            assert box.execute("true")[0] == 0
            box.ask("stats")
        # Who waits ahead for the next exec goes after some seconds. Until then it costs descriptors, and shares memory.
        eventually(lambda: _children(keeper) == [first], why="the keeper has nobody but the container")

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{keeper}/fd"))

    use(30)
    before, memory = descriptors(), _private_bytes(keeper)
    use(150)
    eventually(lambda: descriptors() <= before, why=f"no more descriptors than {before}")
    assert _private_bytes(keeper) - memory < 400 << 10


def _private_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_"))


@pytest.fixture
def full_disk(home: Home) -> Iterator[Home]:
    """The containers' directories are on a file system of 6 MB."""
    place = home.root / "containers"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=700", "none", place], check=True)
    yield home
    home.end()
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_full_disk_costs_log_lines_and_not_the_container(full_disk: Home) -> None:
    script = (
        "echo first; sleep 1; dd if=/dev/zero of=/big bs=1M count=100 2>/dev/null; seq 1 100000; rm /big; sleep 1000"
    )
    box = full_disk.create("sh", "-c", script)
    box.start()
    eventually(lambda: box.execute("sh", "-c", "test ! -e /big && ps | grep -c 'sleep 1000'")[0] == 0)
    assert box.execute("dd", "if=/dev/zero", "of=/big", "bs=1M", "count=100")[0] != 0
    box.stop(timeout_s=0)
    assert (box.state()["status"], box.state()["exit_code"]) == ("exited", 137)
    assert box.lines()[0]["log"] == "first\n"


def test_keepers_of_another_release_whose_files_are_gone_do_as_they_are_asked(
    privileged: None, home: Home, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    for room in ("containers", "core"):
        shutil.copytree(_CHECKOUT / room, old / room, ignore=shutil.ignore_patterns("__pycache__"))
    release = old / "core" / "release.py"
    release.write_text(release.read_text().replace('VERSION = "', 'VERSION = "0.0.1-'))
    box = home.create("sh", "-c", "trap 'echo told; exit 7' TERM; while :; do sleep 0.05; done")
    start = (
        "import sys; sys.path.insert(0, sys.argv[1]); from containers.keeper import nursery_client\n"
        "with nursery_client.keeper(*sys.argv[2:], finish=[]) as keeper: keeper.ask('start')"
    )
    command = [sys.executable, "-I", "-S", "-c", start, *map(str, (old, home.root, home.run)), box.identity]
    subprocess.run(command, check=True)
    shutil.rmtree(old)
    with nursery_client.living(str(home.run), box.identity) as keeper:
        assert keeper.release.startswith("0.0.1-")
        assert keeper.ask("stats")[0]["pids"] >= 1
        with pytest.raises(ContainerError, match="does not know"):
            keeper.ask("a-verb-of-tomorrow")
    assert box.execute("sh", "-c", "cat; exit 3", stdin=b"typed") == (3, b"typed")
    box.stop()
    assert box.state()["exit_code"] == 7
    wait_until_unlocked(box)
    other = home.create("sleep", "1000")
    other.start()  # the old nursery sees that it is outdated, and ends
    with nursery_client.living(str(home.run), other.identity) as keeper:
        assert not keeper.release.startswith("0.0.1-")
