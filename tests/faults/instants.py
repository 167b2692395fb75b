"""SIGKILL at random instants of create, start, rm and connect.

``python -m tests.faults.instants --rounds 50 --seed 1`` does fifty of each; the suite does one. Whatever is killed (the
command, the container's keeper, the nursery), the next commands find a state that they finish or undo: what exists is
whole and can be removed; names, addresses and ports of what is not there are free; nothing stays.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from containers.errors import KeeperError
from core.errors import ShiplapError
from engine.engine import Engine
from engine.places import Places
from images.store import Store
from tests.faults.cycles import engine_on, make_root
from tests.toolkit.bounds import eventually

_ADDRESS: Final = "10.99.0.9"
_LONGEST_S: Final = 0.4
"""Of what is done, on a quiet machine: instants are drawn from this span."""


def _create(engine: Engine) -> None:
    ports = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18765"}]}
    body = {
        "Image": "bb", "Cmd": ["sleep", "1000"], "Volumes": {"/data": {}},
        "HostConfig": {"NetworkMode": "one", "PortBindings": ports},
        "NetworkingConfig": {"EndpointsConfig": {"one": {"IPAMConfig": {"IPv4Address": _ADDRESS}}}},
    }  # fmt: skip
    engine.create("victim", body)


def _start(engine: Engine) -> None:
    engine.start("victim")


def _remove(engine: Engine) -> None:
    engine.remove("victim", force=True, volumes=True)


def _connect(engine: Engine) -> None:
    engine.connect("two", "victim", {})


STEPS: Final[dict[str, Callable[[Engine], None]]] = {
    "create": _create, "start": _start, "connect": _connect, "rm": _remove,
}  # fmt: skip
_BEFORE: Final = {"create": [], "start": ["create"], "connect": ["create", "start"], "rm": ["create", "start"]}
KILLED: Final = ("command", "command", "keeper", "nursery")


def kill_once(places: Places, step: str, whom: str, after_s: float) -> None:
    """Do a step in a child, kill somebody after so long, and see what the next commands make of it."""
    with Engine(places) as engine:
        for before in _BEFORE[step]:
            STEPS[before](engine)
    pid = os.fork()
    if pid == 0:
        try:
            with Engine(places) as engine, suppress(ShiplapError):
                STEPS[step](engine)
        finally:
            os._exit(0)
    time.sleep(after_s)
    with suppress(ProcessLookupError):
        target = {"keeper": _keeper, "nursery": _nursery}.get(whom, lambda _places: pid)(places)
        if target:
            os.kill(target, signal.SIGKILL)
    os.waitpid(pid, 0)
    with Engine(places) as engine:
        _see(engine)


def _see(engine: Engine) -> None:
    """What there is, is whole; what is removed leaves everything free."""
    for found in engine.containers(every=True):
        shown = engine.inspect(found["Id"])
        assert shown["State"]["Status"] in ("created", "running", "exited", "restarting"), shown["State"]
        engine.remove(found["Id"], force=True, volumes=True)
    for step in ("create", "start", "connect", "rm"):
        STEPS[step](engine)
    assert engine.containers(every=True) == []
    eventually(lambda: list(engine.places.containers.iterdir()) == [], why="directories go")
    assert engine.volumes.listed()["Volumes"] == []
    with Store.open(engine.places.root) as store:
        assert store.pinned.holders() == []


def _keeper(places: Places) -> int:
    with Engine(places) as engine, suppress(ShiplapError, IndexError, FileNotFoundError):
        pid = engine.inspect("victim")["State"]["Pid"]
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) if pid else 0
    return 0


def _nursery(places: Places) -> int:
    with Engine(places) as engine, suppress(KeeperError):
        if (places.run / "nursery.sock").exists():
            with engine.keepers.nursery() as nursery:
                return int(nursery.ask("status")[0]["pid"])
    return 0


def networks(engine: Engine) -> None:
    """What the steps need."""
    engine.networks.create({"Name": "one", "IPAM": {"Config": [{"Subnet": "10.99.0.0/24"}]}})
    engine.networks.create({"Name": "two"})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50, help="of each step")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--busybox", type=Path, required=True, help="a tar of a root file system with busybox")
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    print(f"--seed {asked.seed}")
    with tempfile.TemporaryDirectory() as folder:
        root, run = Path(folder, "root"), Path(folder, "run")
        make_root(root, asked.busybox)
        with engine_on(root, run) as engine:
            networks(engine)
            for number in range(asked.rounds * len(STEPS)):
                step, whom, after_s = list(STEPS)[number % 4], chance.choice(KILLED), chance.uniform(0, _LONGEST_S)
                print(f"{number}: {step}, {whom} after {after_s:.3f} s", flush=True)
                kill_once(engine.places, step, whom, after_s)
    print("all whole")


if __name__ == "__main__":
    main()
