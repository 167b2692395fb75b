"""The command line: ``python -m bench --help``."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

from bench import report, rounds, workloads
from bench.scenarios import APP, INSTALL, ROWS, Installing, scenarios
from bench.tools import PEERS, Shiplap, Tool, ToolError, rootfs
from bench.workloads import SHORT, Sizes

_CHECKOUT = Path(__file__).resolve().parents[1]


def main() -> int:
    options = _parse_options()
    if os.geteuid() != 0:
        print("bench: run it as root: dockerd and buildah need it to be measured at their best", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that dockerd is stopped then, too
    sizes = SHORT if options.short else Sizes()
    runs = options.runs or (1 if options.short else 5)
    try:
        result, names = _measure(options, sizes, runs)
    except ToolError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print()
    for name, version in result["versions"].items():
        print(f"{name}: {version}")
    print(" · ".join(f"{key}: {value}" for key, value in result["machine"].items()), end="\n\n")
    print(report.table(result["rows"], names))
    output = options.output or _CHECKOUT / "bench" / "results" / f"{result['finished_at'].replace(':', '')}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nmedians of {runs}; every sample is in {output}")
    return 0


def _measure(options: argparse.Namespace, sizes: Sizes, runs: int) -> tuple[dict[str, Any], list[str]]:
    base_tar = rootfs("busybox")
    with contextlib.ExitStack() as stack:
        # Not below /tmp, which may be memory: all tools are to pay for the same disk.
        directory = Path(tempfile.mkdtemp(prefix="shiplap-bench-", dir=options.directory))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        peers: list[Tool] = [PEERS[name](directory) for name in options.peers]
        tools: list[Tool] = [Shiplap(directory), *peers]
        versions = {}
        for tool in tools:
            stack.callback(tool.stop)
            tool.start(base_tar)
            versions[tool.name] = tool.version()
        installing = None
        if INSTALL.key in options.rows:
            download = partial(workloads.package_download, sizes=sizes)
            tar = _debian_with(directory, download) if sizes.package else base_tar
            installing = Installing(tar, directory / "plain", sizes)
            for tool in tools:
                tool.add_image(tar, workloads.PACKAGES)
        with_python = APP.key in options.rows
        if with_python:
            tar = _debian_with(directory, workloads.python_install) if sizes.package else base_tar
            for tool in tools:
                tool.add_image(tar, workloads.PYTHON)
        samples = rounds.measure(
            tools,
            scenarios(installing, with_python=with_python),
            directory=directory,
            sizes=sizes,
            runs=runs,
            rows=options.rows,
            progress=_show_sample,
        )
    finished_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    document = report.document(samples, sizes=sizes, runs=runs, versions=versions, finished_at=finished_at)
    return document, [tool.name for tool in tools]


def _debian_with(directory: Path, context: Callable[[Path], Path]) -> Path:
    """The root filesystem of Debian with what the context's Dockerfile adds, as a tar. Needs the network."""
    with tempfile.TemporaryDirectory(prefix="maker-", dir=directory) as made:
        maker, tar = Shiplap(Path(made)), directory / f"{Path(made).name}.tar"
        maker.start(rootfs("debian"))
        maker.flatten(context(Path(made) / "context"), tar)
    return tar


def _show_sample(sample: rounds.Sample) -> None:
    print(f"round {sample.round + 1}  {sample.row:<13} {sample.tool:<9} {sample.seconds:8.3f} s", flush=True)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Time Shiplap, BuildKit and buildah.")
    parser.add_argument("--runs", type=int, help="rounds; default 5, with --short 1")
    parser.add_argument(
        "--rows", type=_names([row.key for row in ROWS]), default=[row.key for row in ROWS],
        help="comma-separated: " + ", ".join(row.key for row in ROWS),
    )  # fmt: skip
    parser.add_argument("--peers", type=_names(PEERS), default=list(PEERS), help="comma-separated, or none")
    parser.add_argument("--short", action="store_true", help="small sizes, to see that it works; proves nothing")
    parser.add_argument("--directory", type=Path, default="/var/tmp", help="where all tools keep their data")
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
