"""All steps of a worker together: a control group around the containers of several launchers, and places for them."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.enclosure import Enclosure
from containers.errors import ContainerError
from containers.launcher import Launcher
from containers.limits import MEMORY_ABOVE
from containers.reclaim import reclaim
from containers.spec import ExitStatus
from core.cancellation import asking
from core.rootfs import DirectoryLayer
from tests.containers.running import Runner, eventually
from tests.toolkit.bounds import stretched

BOUND = 64 << 20
EATS_ALL = "tail /dev/zero"


def runner(folder: Path, layer: DirectoryLayer, name: str, **options: object) -> Runner:
    place = folder / name
    (place / "state").mkdir(parents=True)
    return Runner(Launcher(place / "state", **options), place, layer, itertools.count())  # type: ignore[arg-type]


def folders(name: str) -> list[Path]:
    return [*Path("/sys/fs/cgroup").glob(f"*/shiplap/{name}"), *Path("/sys/fs/cgroup").glob(f"shiplap/{name}")]


@pytest.fixture
def enclosure(privileged: None) -> Iterator[Enclosure]:
    with Enclosure(BOUND) as made:
        assert made.name
        yield made


def test_steps_of_all_launchers_share_one_bound(
    tmp_path: Path, busybox_layer: DirectoryLayer, enclosure: Enclosure
) -> None:
    runs = [runner(tmp_path, busybox_layer, name, group=enclosure.name) for name in ("a", "b")]
    held = runs[0].start("sh", "-c", "dd if=/dev/zero of=/dev/shm/f bs=1M count=48; sleep 300", shm_bytes=BOUND)
    files = [path / name for path in folders(enclosure.name) for name in ("memory.current", "memory.usage_in_bytes")]
    (now,) = (path for path in files if path.exists())
    assert eventually(lambda: int(now.read_text()) > 48 << 20)
    status, _ = runs[1].status("sh", "-c", "x=$(head -c 30000000 /dev/zero | tr '\\0' x); echo well")
    assert status != ExitStatus(0), "48 and 30 are more than 64 MiB"
    held.kill()
    held.wait(stretched(30))
    assert runs[1]("x=$(head -c 1000000 /dev/zero | tr '\\0' x); echo well") == "well\n"
    held.close()
    for run in runs:
        run.launcher.close()


def test_step_that_eats_all_memory_ends_alone(
    tmp_path: Path, busybox_layer: DirectoryLayer, enclosure: Enclosure
) -> None:
    run = runner(tmp_path, busybox_layer, "a", group=enclosure.name)
    for _ in range(5):
        status, _ = run.status("sh", "-c", f"exec {EATS_ALL}")
        assert status.signal == 9
        assert status.exceeded == (MEMORY_ABOVE,), "it has no limit of its own"
        assert run("echo well") == "well\n"
    run.launcher.close()


def test_nothing_of_it_stays(tmp_path: Path, busybox_layer: DirectoryLayer) -> None:
    with Enclosure(BOUND) as enclosure:
        run = runner(tmp_path, busybox_layer, "a", group=enclosure.name)
        run("true")
        reclaim()
        assert folders(enclosure.name), "whoever clears away leaves what is in use"
        assert run("echo well") == "well\n"
        run.launcher.close()
        assert folders(enclosure.name), "it outlives its launchers"
        assert run.launcher is not None
    assert folders(enclosure.name) == []


_HOLDS = """
import sys
from containers.enclosure import Enclosure
with Enclosure(1 << 26) as enclosure:
    print(enclosure.name, flush=True)
    sys.stdin.read()
"""


def test_enclosure_of_a_killed_process_is_removed_by_the_next_launcher(
    tmp_path: Path, busybox_layer: DirectoryLayer
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout is not None
    assert process.stdin is not None
    with process.stdout, process.stdin:
        name = process.stdout.readline().strip()
        assert folders(name)
        process.kill()
        process.wait(stretched(30))
    run = runner(tmp_path, busybox_layer, "a")
    run("true")
    assert eventually(lambda: folders(name) == [])
    run.launcher.close()


def test_containers_are_not_made_outside_of_an_enclosure_that_has_gone(
    tmp_path: Path, busybox_layer: DirectoryLayer, privileged: None
) -> None:
    run = runner(tmp_path, busybox_layer, "a", group="all-gone")
    others = runner(tmp_path, busybox_layer, "b")
    others("true")  # so that the directory above is there
    with pytest.raises(ContainerError, match="all-gone"):
        run("true")
    run.launcher.close()
    others.launcher.close()


def test_containers_wait_for_a_place(tmp_path: Path, busybox_layer: DirectoryLayer, privileged: None) -> None:
    run = runner(tmp_path, busybox_layer, "a", at_once=1)
    first = run.start("sleep", "300")
    ended: list[ExitStatus] = []
    second = threading.Thread(target=lambda: ended.append(run.status("true")[0]))
    second.start()
    second.join(0.5)
    assert not ended
    assert second.is_alive(), "the first one has the only place"
    first.kill()
    first.wait(stretched(30))
    second.join(stretched(30))
    assert ended == [ExitStatus(0)]
    for _ in range(3):  # a failure gives its place back, and a container that is dropped
        with pytest.raises(ContainerError):
            run("true", user="nobody-here")
        run.start("sleep", "300").close()
    assert run("echo well") == "well\n"
    run.launcher.close()


def test_waiting_for_a_place_can_be_cancelled(tmp_path: Path, busybox_layer: DirectoryLayer, privileged: None) -> None:
    class CancelledError(Exception):
        pass

    def question() -> None:
        raise CancelledError

    run = runner(tmp_path, busybox_layer, "a", at_once=1)
    first = run.start("sleep", "300")
    with asking(question), pytest.raises(CancelledError):
        run("true")
    first.kill()
    first.wait(stretched(30))
    assert run("echo well") == "well\n"
    run.launcher.close()
