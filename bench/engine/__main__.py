"""The command line: ``python -m bench.engine --help``."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Collection
from pathlib import Path

from bench.engine import builds, dockers, image, life, logs, network
from bench.engine.engines import BUSYBOX, PEERS, TRAFFIC, Api, Docker, Engine, Resident, Shiplap
from bench.figures import Figure, measure
from bench.tools import rootfs
from bench.workloads import SHORT, Sizes

_PARTS = ("commands", "many", "memory", "outward", "published", "logs", "listing", "docker", "followers", "builds")


def main() -> int:
    """Measure, print a table, write JSON."""
    options = _parsed()
    if os.geteuid() != 0:
        print("bench: run it as root: dockerd needs it", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends then, too
    return measure(
        lambda directory: _measure(directory, options), below=options.directory, prefix="eng-", output=options.output
    )


def _measure(directory: Path, options: argparse.Namespace) -> list[Figure]:
    short = options.short
    runs = options.runs or (1 if short else 5)
    seconds = 1 if short else 3
    traffic = directory / "traffic.tar"
    parts: dict[str, Callable[[], list[Figure]]] = {
        "commands": lambda: life.commands(engines, 1 if short else 2 * runs),
        "many": lambda: life.many(neighbours, 3 if short else 100, 1 if short else 3),
        "memory": lambda: life.memory(apart, 2 if short else 20, 1.0 if short else 15.0),
        "outward": lambda: network.outward(neighbours, pasta, seconds, runs),
        "published": lambda: network.published(neighbours, seconds, runs, 20 if short else 5000),
        "logs": lambda: logs.lines(neighbours, seconds),
        "listing": lambda: life.listing(ours, 20 if short else 1000, 2 * runs),
        "docker": lambda: dockers.commands(
            [*apis, *(each for each in engines if each.name == Docker.name)], 2 * runs, 20 if short else 1000
        ),
        "builds": lambda: builds.builds(
            [*apis, *(each for each in engines if each.name == Docker.name)],
            directory / "builds",
            SHORT if short else Sizes(),
            runs,
        ),
        "followers": lambda: dockers.followers(apis[0], 10 if short else 200),
    }
    figures: list[Figure] = []
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(contextlib.closing(Shiplap(directory / "s")))
        engines: list[Engine] = [ours]
        engines += [stack.enter_context(contextlib.closing(PEERS[name](directory / name))) for name in options.peers]
        apart = [engine for engine in engines if engine.name != Resident.name]  # it shortens commands
        neighbours = [engine for engine in apart if engine.name != "podman"]  # ports are held against docker's DNAT
        pasta = None
        if "outward" in options.parts:
            pasta = stack.enter_context(contextlib.closing(Shiplap(directory / "p", uplink="pasta")))
        apis = []
        if {"docker", "followers", "builds"} & set(options.parts):
            apis.append(stack.enter_context(contextlib.closing(Api(directory / "a"))))
        image.make(traffic)
        for engine in (*engines, *apis, *([pasta] if pasta else [])):
            print(f"bench: {engine.version()}", flush=True)
            engine.add_image(rootfs("busybox"), BUSYBOX)
            engine.add_image(traffic, TRAFFIC)
        for part in options.parts:
            for figure in parts[part]():
                print(f"{figure.key:<24} {figure.value:12.3f} {figure.unit}", flush=True)
                figures.append(figure)
    return figures


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description="Time Shiplap's engine and others.")
    parser.add_argument("--runs", type=int, help="rounds; default 5, with --short 1")
    parser.add_argument("--parts", type=_names(_PARTS), default=list(_PARTS), help=f"of {', '.join(_PARTS)}")
    parser.add_argument("--peers", type=_names(PEERS), default=list(PEERS), help="comma-separated, or none")
    parser.add_argument("--short", action="store_true", help="small sizes, to see that it works; proves nothing")
    parser.add_argument("--directory", type=Path, default="/var/tmp", help="where all engines keep their data")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser.parse_args()


def _names(known: Collection[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = [] if text == "none" else text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return parse


if __name__ == "__main__":
    raise SystemExit(main())
