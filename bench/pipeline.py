"""Pipelines: ``python -m bench.pipeline``. What a run of jobs takes, in seconds and on disk.

Jobs are run by ``shiplap ci run``, but for the rows of a push: those begin with ``git push`` to a service that runs.

The file is read and planned in this process as well, as a service does that has been running for long. The first
source of a large repository is timed beside ``git checkout`` of the same commit, and a job's outputs beside GNU tar of
the same files: one right after the other, in each round. What outputs take is all the time from the end of the job's
commands to the first line of the job that gets them: they are packed, indexed and mounted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from bench.figures import Figure, figure, measure
from bench.service import serving, shiplap
from bench.tools import Shiplap, ToolError, rootfs, run
from bench.workloads import BASE, Sizes, copy_then_run
from ci.conditions import Event
from ci.parsing import parse_pipeline
from ci.planning import plan
from core.trust import protected
from images.generations import CacheName, Generations

Result = TypeVar("Result")

_SMALL: Final = 100
_FILE_BYTES: Final = 8_000
_CHANGED: Final = 10
_OUTPUT_BYTES: Final = 1024
_PER_DIRECTORY: Final = 1000
_LINES: Final = 500
_MOST_JOBS: Final = 256
_FIRST: Final = "the job has begun"
_MEGABYTE: Final = 1_000_000


PARTS: Final = ("reading", "small", "push", "large", "push-large", "sources", "outputs", "caches")


@dataclass(frozen=True, slots=True)
class Work:
    """How big the work is.

    outputs: files that a job leaves.
    jobs: of `true`.
    pushes: one after the other.
    cached, kept: megabytes of a cache, and of what each run changes of it.
    cache_runs: runs that change it.
    """

    files: int = 20_000
    outputs: int = 200_000
    jobs: int = 100
    pushes: int = 50
    cached: int = 5000
    kept: int = 10
    cache_runs: int = 100


SHORT: Final = Work(files=300, outputs=200, jobs=4, pushes=2, cached=20, kept=2, cache_runs=3)


class Repository:
    """A git repository with so many files, and the store of the ``shiplap`` that runs its pipeline."""

    def __init__(self, directory: Path, files: int, pipeline: str) -> None:
        directory.mkdir()
        self.path = directory / "repository"
        copy_then_run(self.path, Sizes(files=files, total_bytes=files * _FILE_BYTES), files)
        self.shiplap = Shiplap(directory)
        self.shiplap.start(rootfs("busybox"))
        self._changes = 0
        self.git("init", "-q", "-b", "main")
        self.pipeline(pipeline)

    def git(self, *words: str) -> str:
        who = ("-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0")
        return run(["git", "-C", self.path, *who, *words])

    def pipeline(self, text: str) -> None:
        """Commit another pipeline file."""
        (self.path / ".shiplap.yml").write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "bench")

    def change(self, count: int) -> None:
        """Commit other content of so many files."""
        self._changes += 1
        for file in sorted((self.path / "tree" / "d0000").iterdir())[:count]:
            file.write_text(f"{self._changes} {file.name}\n")
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "bench")

    def run(self, *words: str) -> str:
        """``shiplap ci run``; returns what it printed."""
        return run(["env", "-C", self.path, *self._command(*words)])

    def reused_s(self, job: str) -> float:
        """What a job that is reused takes in a run, as the run says."""
        lines = run(["env", "-C", self.path, *self._command(job, "--progress", "json")]).splitlines()
        end: dict[str, Any] = json.loads(lines[-1])["jobs"][job]
        if end["state"] != "reused":
            raise ToolError(f"{job} {end['state']}, though its inputs had not changed")
        return float(end["duration_s"])

    def first_line_s(self) -> float:
        """From the start of the command to the first line that the job itself prints."""
        began = time.perf_counter()
        return self.seen_at(f"| {_FIRST}")[0] - began

    def handed_over_s(self) -> float:
        """From the end of the commands of the job ``one`` to the first line that the job after it prints."""
        ended, begun = self.seen_at("one | => DONE ", f"| {_FIRST}")
        return begun - ended

    def seen_at(self, *wanted: str) -> list[float]:
        """Run the pipeline; when each of these was printed first, in this order, by ``time.perf_counter``."""
        return seen_at(self._command("--progress", "plain"), self.path, wanted)

    def disk_bytes(self) -> int:
        """What the store takes on the disk."""
        return int(run(["du", "-s", "--block-size=1", self.shiplap.root]).split()[0])

    def _command(self, *words: str) -> list[str | Path]:
        command = Path(sys.executable).with_name("shiplap")
        return [command, "--root", self.shiplap.root, "ci", "run", *words]


def seen_at(
    command: Sequence[str | Path], directory: Path, wanted: Sequence[str], environment: Mapping[str, str] | None = None
) -> list[float]:
    """Run a command to its end; when it printed each of these first, in this order, by ``time.perf_counter``."""
    process = subprocess.Popen(
        list(map(str, command)),
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as lines:
        shown = [(time.perf_counter(), line) for line in lines]
    found = times_of(shown, wanted)
    if process.wait() != 0 or len(found) < len(wanted):
        text = "".join(line for _, line in shown)
        raise ToolError(f"{' '.join(map(str, command))} exited {process.returncode}:\n{text[-4000:]}")
    return found


def main() -> int:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.pipeline", description="Time pipelines of jobs.")
    parser.add_argument("--runs", type=int, help="samples of each figure  [default: 5, with --short 1]")
    parser.add_argument("--short", action="store_true", help="small sizes, to see that it works; proves nothing")
    parser.add_argument("--directory", type=Path, default="/var/tmp", help="where all data is kept")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[], help="these alone  [default: all]")
    options = parser.parse_args()
    work = SHORT if options.short else Work()
    runs = options.runs or (1 if options.short else 5)
    return measure(
        lambda directory: list(_measure(directory, work, runs, options.parts)),
        below=options.directory, prefix="ci-", output=options.output,
    )  # fmt: skip


def _measure(directory: Path, work: Work, runs: int, parts: Sequence[str]) -> Iterator[Figure]:
    measured: dict[str, Callable[[], Iterator[Figure]]] = {
        "reading": lambda: _reading(directory, runs),
        "small": lambda: _small(directory / "small", work, runs),
        "push": lambda: _pushes(directory / "p", _SMALL, 1, "push-first-line", runs, 0.3),
        "large": lambda: _large(directory / "large", work, runs),
        "push-large": lambda: _pushes(directory / "q", work.files, _CHANGED, "push-first-line-large", runs, 0.6),
        "sources": lambda: _sources(directory, work, runs),
        "outputs": lambda: _outputs(directory / "outputs", work, runs),
        "caches": lambda: _caches(directory / "caches", work),
    }
    for part in PARTS:
        if not parts or part in parts:
            yield from measured[part]()


def _job(name: str, more: str, command: str = f"echo {_FIRST}") -> str:
    return f"  {name}: {{image: {BASE}, {more}run: {command}}}\n"


def _reading(directory: Path, runs: int) -> Iterator[Figure]:
    """Lint and planning, of a file as long as any."""
    lines = ["jobs:"]
    while len(lines) < _LINES:
        lines += [
            f"  job{len(lines)}:",
            f"    image: {BASE}",
            '    inputs: ["src/**", "!src/**/*.md"]',
            "    env: {NAME: value, BRANCH: '${SHIPLAP_BRANCH}'}",
            "    run: [make, make check]",
        ]
    long = "\n".join(lines) + "\n"
    many = "jobs:\n" + "".join(_job(f"job{n}", f"needs: [job{n - 1}], " if n else "") for n in range(_MOST_JOBS))
    parsed = parse_pipeline(many.encode(), "many.yml")
    event = Event("push", branch="main")
    path = directory / "long.yml"
    path.write_text(long)
    command: list[str | Path] = [Path(sys.executable).with_name("shiplap"), "ci", "lint", path]
    yield _timed("lint", f"lint of {_LINES} lines, warm", runs, lambda: parse_pipeline(long.encode(), "long.yml"), 0.06)
    yield _timed("lint-command", "the same as a command", runs, lambda: run(command), 0.2)
    yield _timed("plan", f"planning of {_MOST_JOBS} jobs", runs, lambda: plan(parsed, event), 0.05)


def _small(directory: Path, work: Work, runs: int) -> Iterator[Figure]:
    """Of a repository of a hundred files: the first line, what each job costs, and many of them."""
    repository = Repository(directory, _SMALL, "jobs:\n" + _job("one", ""))
    repository.run()
    first = [_after(lambda: repository.change(1), repository.first_line_s) for _ in range(runs)]
    yield figure("first-line", f"{_SMALL} files, one changed: to a job's first line", first, 0.3)
    chain = "".join(_job(f"job{n}", f"needs: [job{n - 1}], " if n else "", "'true'") for n in range(work.jobs))
    repository.pipeline("jobs:\n" + chain)
    one = [_seconds(lambda: repository.run("job0")) for _ in range(runs)]
    all_of_them = [_seconds(repository.run) for _ in range(runs)]
    own = [(whole - single) / (work.jobs - 1) for whole, single in zip(all_of_them, one, strict=True)]
    yield figure("own", "a job's own cost, one after the other", own, 0.05)
    repository.pipeline("jobs:\n" + "".join(_job(f"job{n}", "", "'true'") for n in range(work.jobs)))
    beside = [_seconds(repository.run) for _ in range(runs)]
    yield figure("jobs", f"{work.jobs} jobs of true", beside, 8.0)


def _large(directory: Path, work: Work, runs: int) -> Iterator[Figure]:
    """Of a repository of many files: what a few changes and many jobs take, in seconds and on disk."""
    repository = Repository(directory, work.files, "jobs:\n" + _job("one", ""))
    repository.run()
    first = [_after(lambda: repository.change(_CHANGED), repository.first_line_s) for _ in range(runs)]
    title = f"{work.files:,} files, {_CHANGED} changed: to a job's first line"
    yield figure("first-line-large", title, first, 0.6)
    repository.pipeline(f"jobs:\n  one: {{image: {BASE}, inputs: ['tree/**'], outputs: [left], run: echo x > left}}\n")
    repository.run()
    yield figure("reused", "a job that is reused", [repository.reused_s("one") for _ in range(runs)], 0.1)
    jobs = [f"  job{n}: {{image: {BASE}, outputs: [left{n}], run: echo {n} > left{n}}}\n" for n in range(work.jobs)]
    repository.pipeline("jobs:\n" + "".join(jobs))
    repository.run("job0")
    before = repository.disk_bytes()
    repository.run()
    grown = [(repository.disk_bytes() - before) / _MEGABYTE]
    yield figure("disk-jobs", f"{work.jobs} jobs with a small output each, on disk", grown, None, "MB")
    before = repository.disk_bytes()
    repository.pipeline("jobs:\n" + _job("one", ""))
    for _ in range(work.pushes):
        repository.change(_CHANGED)
        repository.run()
    grown = [(repository.disk_bytes() - before) / _MEGABYTE]
    yield figure("disk-pushes", f"{work.pushes} commits that change {_CHANGED} files each, on disk", grown, 10.0, "MB")


def _pushes(directory: Path, files: int, changed: int, key: str, runs: int, budget: float) -> Iterator[Figure]:
    """A ``git push`` to a service, until whoever pushes sees the first line of the job."""
    directory.mkdir()
    repository = Repository(directory / "clone", files, "jobs:\n" + _job("one", ""))
    with serving(directory / "r", concurrency=2) as service:
        made = run([*shiplap(service.root), "--host", service.url, "project", "add", "bench", "--bare"])
        bare = service.root / "git" / "bench.git"
        if not bare.is_dir():
            raise ToolError(f"project add made no {bare}:\n{made}")
        command: list[str | Path] = ["git", "push", "-q", "-o", "follow", bare, "HEAD:main"]
        # As on a user's machine: not by the python3 of a version manager, which starts a shell before each hook.
        environment = {**os.environ, "PATH": f"/usr/bin:/bin:{os.environ.get('PATH', '')}"}

        def first_line_s() -> float:
            repository.change(changed)
            began = time.perf_counter()
            return seen_at(command, repository.path, [f"| {_FIRST}"], environment)[0] - began

        first_line_s()  # the mirror is made with the first push, and read from now on
        samples = [first_line_s() for _ in range(runs)]
    yield figure(key, f"{files:,} files, {changed} changed: from git push to a job's first line", samples, budget)


def _sources(directory: Path, work: Work, runs: int) -> Iterator[Figure]:
    """The first source of a large repository, beside a checkout of it."""
    ours, theirs = [], []
    pipeline = "jobs:\n" + _job("one", "", "'true'")
    for number in range(runs):
        repository = Repository(directory / f"source{number}", work.files, pipeline)
        empty = Repository(directory / f"empty{number}", 1, pipeline)
        checkout = directory / f"checkout{number}"
        run(["git", "clone", "-q", "--shared", "--no-checkout", repository.path, checkout])
        theirs.append(_seconds(partial(run, ["git", "-C", checkout, "checkout", "-q", "main"])))
        ours.append(_seconds(repository.run) - _seconds(empty.run))
    yield figure("source", f"the first source of {work.files:,} files", ours, None)
    yield figure("checkout", "git checkout of the same", theirs, None)
    yield figure("source-ratio", "the former by the latter", _ratios(ours, theirs), 1.3, "")


def _outputs(directory: Path, work: Work, runs: int) -> Iterator[Figure]:
    """Outputs of many small files, beside GNU tar of them."""
    directories = range(-(-work.outputs // _PER_DIRECTORY))
    places = " ".join(f"out/{number}" for number in directories)
    script = f"""
mkdir -p {places}
text=$(printf '%0{_OUTPUT_BYTES - 1}d' 0)
for place in {places}; do
  n=0; while [ $n -lt {work.outputs // len(directories)} ]; do echo "$text" > $place/$n; n=$((n+1)); done
done
"""
    command = "    run: |\n" + "".join(f"      {line}\n" for line in script.strip().splitlines())
    one = f"  one:\n    image: {BASE}\n{command}    outputs: [out]\n"
    repository = Repository(directory, 1, "jobs:\n" + one + _job("end", "needs: one, "))
    tree = directory / "tree"
    tree.mkdir()
    run(["env", "-C", tree, "sh", "-ec", script])
    ours, theirs = [], []
    for _ in range(runs):
        ours.append(repository.handed_over_s())
        theirs.append(_seconds(partial(run, ["tar", "-C", tree, "-cf", directory / "out.tar", "out"])))
    yield figure("outputs", f"outputs of {work.outputs:,} files of 1 KiB", ours, None)
    yield figure("tar", "GNU tar of the same", theirs, None)
    yield figure("outputs-ratio", "the former by the latter", _ratios(ours, theirs), 2.0, "")


def _caches(directory: Path, work: Work) -> Iterator[Figure]:
    """A cache that many runs change a little: what each waits for it, and what all of them take on the disk.

    Half of what a run writes replaces what was there, half of it is new.
    """
    directory.mkdir()
    generations, name, domain = Generations(directory), CacheName("bench", "cache"), protected("bench")
    waited = []
    for number in range(work.cache_runs + 1):
        upper = directory / f"upper{number}"
        (upper / "fs").mkdir(parents=True)
        (upper / "work").mkdir()
        opened = _seconds_of(lambda: generations.open(name, domain))
        count = work.kept if number else work.cached
        for file in range(count):
            place = upper / "fs" / f"d{file % 10}" / (f"f{file}" if file < count // 2 else f"f{file}-{number}")
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(os.urandom(_MEGABYTE))
        generation, before = opened
        _, after = _seconds_of(
            partial(generations.keep, generation, str(upper), domain, is_private=False, run=str(number))
        )
        if number:
            waited.append(before + after)
        generations.settle()
    title = f"a run that changes {work.kept} of {work.cached} MB of its cache waits for it"
    yield figure("cache-run", title, waited, 0.3)
    size = int(run(["du", "-s", "--block-size=1", directory / "caches"]).split()[0]) / _MEGABYTE
    most = 1.3 * work.cached
    yield figure("cache-disk", f"the cache on disk after {work.cache_runs} such runs", [size], most, "MB")


def _seconds_of(work: Callable[[], Result]) -> tuple[Result, float]:
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def times_of(shown: Sequence[tuple[float, str]], wanted: Sequence[str]) -> list[float]:
    """When each text was first part of a line, none before the one in front of it; fewer where one never was.

    shown: lines, each with when it came.
    """
    rest, found = iter(shown), []
    for text in wanted:
        at = next((at for at, line in rest if text in line), None)
        if at is None:
            break
        found.append(at)
    return found


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def _after(prepare: Callable[[], object], measure: Callable[[], float]) -> float:
    prepare()
    return measure()


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _timed(key: str, title: str, runs: int, work: Callable[[], object], budget: float) -> Figure:
    work()
    return figure(key, title, [_seconds(work) for _ in range(runs)], budget)


if __name__ == "__main__":
    raise SystemExit(main())
