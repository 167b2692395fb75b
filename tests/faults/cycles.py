"""Containers come and go, and nothing grows: ``python -m tests.faults.cycles --cycles 10000``.

Each cycle is a ``run --rm`` with a network, a published port and an anonymous volume. What is counted before and after
is in ``traces``; something that has grown at the end is an error. The suite runs some twenty.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

from containers.hierarchies import own_hierarchies, rare_hierarchies
from containers.keeper import protocol
from containers.switch import remove_switch
from engine.engine import Engine
from engine.places import Places
from images.store import Store
from tests.engine.conftest import put_image
from tests.toolkit.bounds import eventually, stretched

_TELL_EACH: Final = 1000
_OF_THE_HOST: Final = ("host", "reachable", "resolvers")
"""Sets of the switch that follow the host's addresses, which others change, too."""


def traces(places: Places) -> Counter[str]:
    """What could grow: descriptors, processes, mounts, rules and interfaces, control groups, rows, files."""
    found: Counter[str] = Counter()
    with protocol.connect(str(places.run / "nursery.sock")) as nursery:
        status = nursery.ask("status")[0]
    pid = status["pid"]
    found["spares"] = status["spares"]
    found["descriptors"] = len(os.listdir(f"/proc/{pid}/fd"))
    found["processes"] = len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found["mounts"] = sum(str(places.root) in line or str(places.run) in line for line in mounts)
    inside = ["nsenter", f"--net={places.run}/switch/net"]
    listed = subprocess.run(
        [*inside, "nft", "-j", "list", "ruleset"], capture_output=True, check=True, timeout=stretched(60)
    )
    for entry in json.loads(listed.stdout)["nftables"]:
        for kind in ("set", "map", "rule"):
            of_host = entry.get(kind, {}).get("name", "").rstrip("6") in _OF_THE_HOST
            found[f"nft {kind}s"] += kind in entry
            found["nft elements"] += 0 if of_host else len(entry.get(kind, {}).get("elem", ()))
    links = subprocess.run([*inside, "ip", "-o", "link"], capture_output=True, check=True, timeout=stretched(60))
    found["links"] = len(links.stdout.splitlines())
    found["groups"] = sum(
        _is_left(path) for each in (*own_hierarchies(), *rare_hierarchies()) for path in _in(each.top)
    )
    for name in ("root/containers", "root/volumes", "run/k", "run/due", "run/switch", "run/work"):
        place = places.root / name[5:] if name.startswith("root") else places.run / name[4:]
        found[name] = len(_in(place))
    with closing(sqlite3.connect(places.database)) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            found[f"rows of {table}"] = database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    with Store.open(places.root) as store:
        found["pins"] = len(store.pinned.holders())
    return found


def _in(folder: Path | str) -> list[Path]:
    try:
        return list(Path(folder).iterdir())
    except FileNotFoundError:
        return []


def _is_left(path: Path) -> bool:
    """Whether a session's control group is there without the session: its flock is free."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def nursery_kib(places: Places) -> int:
    """What the nursery has of memory for itself. It settles after some hundred cycles."""
    with protocol.connect(str(places.run / "nursery.sock")) as nursery:
        pid = nursery.ask("status")[0]["pid"]
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def cycle(engine: Engine) -> None:
    """One ``run --rm``."""
    ports = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
    host = {"AutoRemove": True, "PortBindings": ports}
    body = {"Image": "bb", "Cmd": ["true"], "HostConfig": host, "Volumes": {"/data": {}}}
    made = engine.create(None, body)
    engine.start(made.id)
    engine.wait(made.id, "removed")


def settled(places: Places, before: Counter[str]) -> Counter[str]:
    """What has grown, once everything had its time to go."""

    def grown() -> Counter[str]:
        return traces(places) - before

    eventually(lambda: not grown(), why="nothing grows")
    return grown()


@contextmanager
def engine_on(root: Path, run: Path) -> Iterator[Engine]:
    """An engine of its own, which ends with all of it."""
    with Engine(Places(root, run)) as engine:
        try:
            yield engine
        finally:
            for container in engine.containers(every=True):
                engine.remove(container["Id"], force=True, volumes=True)
            with engine.keepers.nursery() as nursery:
                nursery.ask("end")
            if (run / "switch").exists():
                remove_switch(str(run))


def make_root(root: Path, busybox: Path) -> None:
    """A store with the image ``bb``, of a busybox's tar."""
    with Store.open(root) as store:
        with store.layers.writer() as blob:
            blob.write(busybox.read_bytes())
            layer = blob.commit()
        put_image(store, "bb", [layer], env=("PATH=/bin",), cmd=("sh",))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cycles", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--busybox", type=Path, required=True, help="a tar of a root file system with busybox")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, run = Path(folder, "root"), Path(folder, "run")
        make_root(root, asked.busybox)
        with ExitStack() as stack:
            engine = stack.enter_context(engine_on(root, run))
            pool = ThreadPoolExecutor(asked.at_once)
            stack.callback(pool.shutdown, cancel_futures=True)  # Ctrl-C does not wait for thousands
            for _ in range(3):
                cycle(engine)
            time.sleep(1)
            before = traces(engine.places)
            began = time.monotonic()
            for number, _ in enumerate(pool.map(lambda _: cycle(engine), range(asked.cycles)), 1):
                if number % _TELL_EACH == 0 or number == asked.cycles:
                    grown, took_s = dict(traces(engine.places) - before), time.monotonic() - began
                    memory = nursery_kib(engine.places)
                    print(f"{number} cycles, {took_s:.0f} s; nursery {memory} KiB; more: {grown}", flush=True)
            print(f"grown: {dict(settled(engine.places, before))}")


if __name__ == "__main__":
    main()
