"""Where dependencies go: ``python -m bench.dependencies``. What a run takes when three jobs need the same packages.

The packages are installed by each job, or by one job whose outputs the others get, or by the Dockerfile of the jobs'
image. Each way is timed when it is new, when a source file has changed, and when the list of packages has.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.figures import Figure, measure
from bench.tools import Shiplap, rootfs, run
from bench.workloads import BASE

_PACKAGES: Final = ("django==5.2.5", "plotly==5.24.1", "pytz==2025.2")
_MORE: Final = "six==1.17.0"
_JOBS: Final = ("lint", "test", "docs")
_WAYS: Final = {"each": "each job installs", "outputs": "outputs of one job", "image": "the jobs' image"}


@dataclass(frozen=True, slots=True)
class Work:
    """What is installed, into the directory ``$1``, from the list in the directory it runs in.

    base: the root filesystem that jobs run in. prepare: its Dockerfile's step, once and not timed.
    use: what a job does with the packages in ``$1``.
    """

    base: str
    prepare: str
    install: str
    use: str


REAL: Final = Work(
    "debian",
    "apt-get update && apt-get install -y --no-install-recommends python3-pip && rm -rf /var/lib/apt/lists/*"
    " && pip install --break-system-packages --no-cache-dir uv==0.8.11",
    "uv venv --quiet $1 && uv pip install --native-tls --quiet --no-cache --python $1/bin/python -r requirements.txt",
    "$1/bin/python app.py",
)
SHORT: Final = Work(
    "busybox", "true", 'mkdir -p $1 && while read name; do echo "$name" >$1/$name; done <requirements.txt', "cat $1/*",
)  # fmt: skip


class Repository:
    """A git repository with a list of packages and a source file, whose pipeline needs them in one of the ways."""

    def __init__(self, directory: Path, tools: Path, work: Work, way: str) -> None:
        directory.mkdir()
        self.shiplap = Shiplap(directory)
        self._path = directory / "repository"
        (self._path / "ci").mkdir(parents=True)
        self.shiplap.add_image(tools, "tools")
        self.write("requirements.txt", "\n".join(_PACKAGES))
        self.write("app.py", "import sys")
        self.write("ci/Dockerfile", f"FROM tools\nCOPY requirements.txt .\nRUN {_at('/opt/packages', work.install)}")
        self.write(".shiplap.yml", _pipeline(work, way))
        run(["git", "-C", self._path, "init", "-q", "-b", "main"])

    def write(self, name: str, text: str) -> None:
        (self._path / name).write_text(f"{text}\n")

    def run_s(self) -> float:
        """What a run takes, in seconds."""
        began = time.perf_counter()
        run(["env", "-C", self._path, *self.shiplap.words("ci", "run", "--progress", "plain")])
        took = time.perf_counter() - began
        print(f"{self._path.parent.name}: {took:.1f} s", file=sys.stderr, flush=True)
        return took

    def disk_mb(self) -> float:
        """What the store takes on the disk."""
        return int(run(["du", "-s", "--block-size=1", self.shiplap.root]).split()[0]) / 1e6


def _at(directory: str, script: str) -> str:
    return script.replace("$1", directory)


def _pipeline(work: Work, way: str) -> str:
    """A file whose jobs use the packages. No job has inputs, but for the one that installs for the others."""
    here = "/work/packages"
    if way == "image":
        job = f"    image: {{build: {{context: ., file: ci/Dockerfile}}}}\n    run: {_at('/opt/packages', work.use)}\n"
        return "jobs:\n" + "".join(f"  {name}:\n{job}" for name in _JOBS)
    install, use = _at(here, work.install), _at(here, work.use)
    if way == "each":
        job = f"    image: tools\n    run:\n      - |\n        {install}\n      - {use}\n"
        return "jobs:\n" + "".join(f"  {name}:\n{job}" for name in _JOBS)
    first = (
        f"  install:\n    image: tools\n    inputs: requirements.txt\n    outputs: packages\n"
        f"    run: |\n      {install}\n"
    )
    job = f"    needs: install\n    image: tools\n    run: {use}\n"
    return "jobs:\n" + first + "".join(f"  {name}:\n{job}" for name in _JOBS)


def main() -> int:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.dependencies", description="Time where dependencies go.")
    parser.add_argument("--runs", type=int, default=1, help="samples of each figure  [default: 1]")
    parser.add_argument("--short", action="store_true", help="a few files, to see that it works; proves nothing")
    parser.add_argument("--directory", type=Path, default="/var/tmp", help="where all data is kept")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    work = SHORT if options.short else REAL
    return measure(
        lambda directory: list(_measure(directory, work, options.runs)),
        below=options.directory, prefix="dependencies-", output=options.output,
    )  # fmt: skip


def _tools(directory: Path, work: Work) -> Path:
    """The root filesystem that jobs run in, as a tar."""
    directory.mkdir()
    (directory / "Dockerfile").write_text(f"FROM {BASE}\nRUN {work.prepare}\n")
    shiplap = Shiplap(directory)
    shiplap.start(rootfs(work.base))
    shiplap.flatten(directory, directory / "tools.tar")
    return directory / "tools.tar"


def _measure(directory: Path, work: Work, runs: int) -> Iterator[Figure]:
    """The ways take turns, so that each has the same share of what else the machine does."""
    tools = _tools(directory / "tools", work)
    samples: dict[tuple[str, str], list[float]] = {}
    for number in range(runs):
        repositories = {way: Repository(directory / f"{way}-{number}", tools, work, way) for way in _WAYS}
        before = {way: repository.disk_mb() for way, repository in repositories.items()}
        for what in ("new", "source", "packages"):
            for way, repository in repositories.items():
                if what == "source":
                    repository.write("app.py", "import sys, os")
                if what == "packages":
                    repository.write("requirements.txt", "\n".join((*_PACKAGES, _MORE)))
                samples.setdefault((way, what), []).append(repository.run_s())
                if what == "new":
                    samples.setdefault((way, "disk"), []).append(repository.disk_mb() - before[way])
    for way, title in _WAYS.items():
        yield _figure(f"{way}-new", f"{title}: new", samples[way, "new"], "s")
        yield _figure(f"{way}-source", f"{title}: a source file changed", samples[way, "source"], "s")
        yield _figure(f"{way}-packages", f"{title}: the packages changed", samples[way, "packages"], "s")
        yield _figure(f"{way}-disk", f"{title}: on disk, when new", samples[way, "disk"], "MB")


def _figure(key: str, title: str, samples: list[float], unit: str) -> Figure:
    print(f"{title}: {min(samples):.1f} {unit}", file=sys.stderr, flush=True)
    return Figure(key, title, min(samples), unit, samples)


if __name__ == "__main__":
    raise SystemExit(main())
