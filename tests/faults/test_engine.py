"""The engine under faults: a full disk, many at once while images are pruned, a keeper that is killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from core.errors import StorageFullError
from engine.engine import Engine
from engine.places import Places
from images.store import Store
from tests.engine.conftest import busybox_root as busybox_root
from tests.engine.conftest import living as living
from tests.engine.test_life import create
from tests.faults import cycles, instants
from tests.toolkit.bounds import eventually, stretched

_SMALL_BYTES = 64 << 20


@pytest.fixture
def small(privileged: None, busybox_root: Path, tmp_path: Path, short_path: Path) -> Iterator[Engine]:
    """An engine whose root is a file system of 64 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_SMALL_BYTES},mode=755", "tmpfs", str(place)]
    subprocess.run(mount, check=True, timeout=stretched(30))
    try:
        shutil.copytree(busybox_root, place / "root", symlinks=True)
        with Engine(Places(place / "root", short_path / "run")) as engine:
            yield engine
            if (engine.places.run / "nursery.sock").exists():
                with engine.keepers.nursery() as nursery:
                    nursery.ask("end")
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True, timeout=stretched(30))


def fill(path: Path, piece_bytes: int) -> None:
    """Write to a file until there is no room."""
    with suppress(OSError), open(path, "ab", buffering=0) as file:
        while file.write(bytes(piece_bytes)):
            continue


def test_on_a_full_disk_containers_are_stopped_and_removed(small: Engine) -> None:
    create(small, "one", "sh", "-c", "while :; do echo more; sleep 0.01; done")
    small.start("one")
    filler = small.places.root / "filler"
    fill(filler, 1 << 20)
    fill(filler, 512)
    assert small.inspect("one")["State"]["Running"]  # its log loses lines, it goes on
    with suppress(StorageFullError):  # or what the store had put by for this was enough
        create(small, "two", "true")
    small.stop("one", timeout_s=0)
    for found in small.containers(every=True):
        assert small.inspect(found["Id"])["Name"] in ("/one", "/two")  # what there is, is whole
        small.remove(found["Id"])
    assert small.containers(every=True) == []
    filler.unlink()
    create(small, "three", "true")
    small.start("three")
    assert small.wait("three") == 0
    small.remove("three")


def test_many_are_started_and_removed_at_once_while_images_are_pruned(living: Engine) -> None:
    names = [f"many{number}" for number in range(20)]
    pruning = True

    def prune() -> None:
        while pruning:
            with Store.open(living.places.root) as store:
                store.images.prune(cache=True)

    def live(name: str) -> int:
        create(living, name, "sh", "-c", "exit 3")
        living.start(name)
        code = living.wait(name)
        living.remove(name)
        return code

    with ThreadPoolExecutor(9) as pool:
        pruner = pool.submit(prune)
        try:
            codes = list(pool.map(live, names))
        finally:
            pruning = False
        pruner.result()
    assert codes == [3] * len(names)
    assert living.containers(every=True) == []
    assert list(living.places.containers.iterdir()) == []


def test_containers_that_come_and_go_leave_nothing_that_grows(living: Engine) -> None:
    """``python -m tests.faults.cycles`` does thousands."""
    for _ in range(2):
        cycles.cycle(living)
    before = cycles.traces(living.places)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: cycles.cycle(living), range(16)))
    assert not cycles.settled(living.places, before)


def test_a_kill_at_any_instant_is_finished_or_undone(living: Engine) -> None:
    """``python -m tests.faults.instants`` does hundreds."""
    instants.networks(living)
    chance = random.Random(17)
    for step in instants.STEPS:
        instants.kill_once(living.places, step, chance.choice(instants.KILLED), chance.uniform(0, 0.3))


def test_a_killed_keepers_container_is_started_again_by_its_policy(living: Engine) -> None:
    create(living, "one", "sh", "-c", "sleep 1000", host={"RestartPolicy": {"Name": "always"}})
    living.start("one")
    first = living.inspect("one")["State"]["Pid"]
    keeper = int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(keeper, signal.SIGKILL)

    def is_another() -> bool:
        state = living.inspect("one")["State"]
        return bool(state["Running"] and state["Pid"] != first)

    eventually(is_another)
    assert not Path(f"/proc/{first}").exists()


def test_a_killed_pasta_costs_the_way_out_for_a_moment_and_nothing_within(busybox_root: Path, living: Engine) -> None:
    """Published ports, networks and names go on; the nursery makes the way again."""
    with Engine(living.places, uplink="pasta") as engine:
        serve = "while :; do nc -l -p 80 -e cat; done"
        ports = {"80/tcp": [{"HostIp": "127.0.0.1"}]}
        create(engine, "web", "sh", "-c", serve, host={"NetworkMode": "bridge", "PortBindings": ports})
        engine.start("web")
        port = int(engine.inspect("web")["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"])
        switch = engine.places.run / "switch"
        assert (switch / "way").read_text() == "pasta"

        def opened() -> bool:
            with ExitStack() as stack, suppress(OSError):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                client.settimeout(stretched(2))
                if echoed(client, b"before"):
                    clients.append(client)
                    stack.pop_all()
            return bool(clients)

        clients: list[socket.socket] = []
        eventually(opened)
        first = int((switch / "pasta.pid").read_text())
        os.kill(first, signal.SIGKILL)
        eventually(lambda: (switch / "pasta.pid").read_text() not in ("", f"{first}\n"))
        with clients[0] as client:
            client.settimeout(stretched(2))
            assert echoed(client, b"after")
        pasta = int((switch / "pasta.pid").read_text())
        assert os.readlink(f"/proc/{pasta}/exe").rpartition("/")[2].startswith("pas")
        assert (switch / "way").read_text() == "pasta"  # the nursery knows what was wanted


def echoed(client: socket.socket, text: bytes) -> bool:
    """Whether the other side says what it is told."""
    client.sendall(text)
    return client.recv(100) == text
