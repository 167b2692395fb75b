"""What is built for each row of the table: a scenario yields the timings of one round, and prepares between them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from bench import workloads
from bench.tools import PlainContainer, Tool
from bench.workloads import Sizes


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. budget: the most that Shiplap may take, as a multiple of the peer's time."""

    key: str
    title: str
    budget: float
    peer: str = "buildkit"


@dataclass(frozen=True, slots=True)
class Timing:
    """Something that every tool does once, on the clock.

    plain: what of it no tool can save, done without one in the same round; its median is taken off every tool's time.
    """

    row: Row
    work: Callable[[Tool], None]
    plain: Callable[[], None] | None = None


Scenario: TypeAlias = Callable[[Path, Sizes, int], Iterator[Timing]]
"""(a directory of its own, sizes, number of the round) to timings, in order."""

RUN_COLD = Row("run", "{steps} RUN steps, no cache", 0.1)
RUN_CACHED = Row("run-cached", "the same, all cached", 0.5)
COPY_COLD = Row("copy", "COPY of {files} files ({megabytes} MB), then RUN", 0.2)
COPY_CHANGED = Row("copy-changed", "the same, one file changed", 0.2)
COPY_CACHED = Row("copy-cached", "the same, nothing changed", 0.5)
STAGES = Row("stages", "{stages} independent stages of 1 s each", 1.0)
INSTALL = Row("install", "apt-get install of {package}, beyond the command's own time", 0.25)
SAVE = Row("save", "COPY of one file of {big} MB, then save", 0.3)
MANY_CACHED = Row("many-cached", "COPY of {many} files, nothing changed", 0.5)
LINES = Row("lines", "{lines} lines printed by one RUN (docker leaves out what is beyond 2 MiB)", 0.8)
HUGE_CHANGED = Row("huge-changed", "COPY of {huge} files, one changed", 0.12)
FROM_STAGE = Row("from-stage", "COPY --from of one file of {big} MB", 0.5)
FROM_STAGE_AS_IS = Row("from-stage-as-is", "the same to the place that it had, all of its layer", 0.5)
WRITE_BIG = Row("write-big", "RUN that writes {big} MB", 0.6)
FILES_MADE = Row("files-made", "RUN that makes {made} files", 0.4)
FILES_REMOVED = Row("files-removed", "RUN that removes them", 0.4)
APP = Row("app", "Python app of {modules} modules, one edited: pip's packages cached, COPY, compileall", 0.3)
LONG_COLD = Row("long", "Dockerfile of {instructions} instructions, {runs} of them RUN true, no cache", 0.2)
LONG_CACHED = Row("long-cached", "the same, all cached", 0.2)


def _build(context: Path, *, cache: bool) -> Callable[[Tool], None]:
    return lambda tool: tool.build(context, cache=cache)


def run_steps(directory: Path, sizes: Sizes, number: int) -> Iterator[Timing]:
    """RUN after RUN, and again from the cache."""
    del number
    context = workloads.run_steps(directory / "run", sizes)
    yield Timing(RUN_COLD, _build(context, cache=False))
    yield Timing(RUN_CACHED, _build(context, cache=True))


def copies(directory: Path, sizes: Sizes, number: int) -> Iterator[Timing]:
    """A tree that nobody has seen, then with one file changed, then as it was."""
    context = workloads.copy_then_run(directory / "copy", sizes, seed=number)
    yield Timing(COPY_COLD, _build(context, cache=False))
    workloads.change_one_file(context, salt=f"round {number}")
    yield Timing(COPY_CHANGED, _build(context, cache=True))
    yield Timing(COPY_CACHED, _build(context, cache=True))


def stages(directory: Path, sizes: Sizes, number: int) -> Iterator[Timing]:
    """Stages that do not need each other, and wait for most of their time."""
    del number
    yield Timing(STAGES, _build(workloads.independent_stages(directory / "stages", sizes), cache=False))


class Installing:
    """A command that writes much, in a RUN. tar: the root filesystem that is also the image ``PACKAGES``."""

    def __init__(self, tar: Path, directory: Path, sizes: Sizes) -> None:
        self._plain = PlainContainer(tar, directory)
        self._plain.run(workloads.install_command(sizes))  # so that the files are in memory, as they will be

    def __call__(self, directory: Path, sizes: Sizes, number: int) -> Iterator[Timing]:
        del number
        context = workloads.install_package(directory / "install", sizes)
        plain = partial(self._plain.run, workloads.install_command(sizes))
        yield Timing(INSTALL, _build(context, cache=False), plain)


def python_app(directory: Path, sizes: Sizes, number: int) -> Iterator[Timing]:
    """An app whose packages came by pip, from a cache mount; then somebody edits one of its modules."""
    context = workloads.python_app(directory / "app", sizes)
    yield Timing(OFF_THE_CLOCK, _build(context, cache=True))
    workloads.edit_a_module(context, salt=f"round {number}")
    yield Timing(APP, _build(context, cache=True))


def save(directory: Path, sizes: Sizes, number: int) -> Iterator[Timing]:
    """From a big file to an archive that others load."""
    context = workloads.one_big_file(directory / "big", sizes, seed=number)

    def build_and_save(tool: Tool) -> None:
        archive = directory / "image.tar"
        tool.build(context, cache=False)
        tool.save(archive)
        archive.unlink()

    yield Timing(SAVE, build_and_save)


def many_files(directory: Path, sizes: Sizes, number: int) -> Iterator[Timing]:
    """A large tree again. Its first build is off the clock: nothing is measured that other rows measure."""
    context = workloads.copy_then_run(directory / "many", sizes.of_many_files(), seed=1_000_000 + number)
    yield Timing(OFF_THE_CLOCK, _build(context, cache=True))
    yield Timing(MANY_CACHED, _build(context, cache=True))


def huge_tree(directory: Path, sizes: Sizes, number: int) -> Iterator[Timing]:
    """A very large tree, of which an editor has changed one file. Its first build is off the clock."""
    context = workloads.copy_then_run(directory / "huge", sizes.of_a_huge_tree(), seed=2_000_000 + number)
    yield Timing(OFF_THE_CLOCK, _build(context, cache=True))
    workloads.change_one_file(context, salt=f"round {number}")
    yield Timing(HUGE_CHANGED, _build(context, cache=True))


def from_stages(directory: Path, sizes: Sizes, number: int) -> Iterator[Timing]:
    """A big file from another stage, which is cached, to another place and to the same one."""
    context = workloads.big_file_of_a_stage(directory / "from", sizes, seed=3_000_000 + number)
    yield Timing(OFF_THE_CLOCK, _build(context, cache=True))
    workloads.copy_from_the_stage(context, "/copied")
    yield Timing(FROM_STAGE, _build(context, cache=True))
    workloads.copy_from_the_stage(context, "/big")
    yield Timing(FROM_STAGE_AS_IS, _build(context, cache=True))


def big_layer(directory: Path, sizes: Sizes, number: int) -> Iterator[Timing]:
    """A command that writes one big file."""
    del number
    yield Timing(WRITE_BIG, _build(workloads.write_one_big_file(directory / "write", sizes), cache=False))


def many_made(directory: Path, sizes: Sizes, number: int) -> Iterator[Timing]:
    """Commands that make many small files, and remove them."""
    context = workloads.make_files(directory / "made", sizes, number)
    yield Timing(FILES_MADE, _build(context, cache=True))
    workloads.remove_files(context)
    yield Timing(FILES_REMOVED, _build(context, cache=True))


def many_lines(directory: Path, sizes: Sizes, number: int) -> Iterator[Timing]:
    """A step that prints much, all of which is shown."""
    del number
    yield Timing(LINES, _build(workloads.many_lines(directory / "lines", sizes), cache=False))


def long_file(directory: Path, sizes: Sizes, number: int) -> Iterator[Timing]:
    """Many instructions. (More than some hundred layers is more than dockerd's storage takes.)"""
    del number
    context = workloads.long_dockerfile(directory / "long", sizes)
    yield Timing(LONG_COLD, _build(context, cache=False))
    yield Timing(LONG_CACHED, _build(context, cache=True))


OFF_THE_CLOCK = Row("", "", 0.0)
"""The row of work that has to be done and is not reported."""

_SCENARIOS: dict[Scenario, tuple[Row, ...]] = {
    run_steps: (RUN_COLD, RUN_CACHED),
    copies: (COPY_COLD, COPY_CHANGED, COPY_CACHED),
    stages: (STAGES,),
    save: (SAVE,),
    many_files: (MANY_CACHED,),
    huge_tree: (HUGE_CHANGED,),
    from_stages: (FROM_STAGE, FROM_STAGE_AS_IS),
    big_layer: (WRITE_BIG,),
    many_made: (FILES_MADE, FILES_REMOVED),
    many_lines: (LINES,),
    long_file: (LONG_COLD, LONG_CACHED),
}
ROWS = (*(row for rows in _SCENARIOS.values() for row in rows), APP, INSTALL)


def scenarios(installing: Installing | None, *, with_python: bool = False) -> dict[Scenario, tuple[Row, ...]]:
    """What there is to measure. installing, with_python: only where they are wanted, because they take preparation."""
    chosen = dict(_SCENARIOS)
    if with_python:
        chosen[python_app] = (APP,)
    return chosen if installing is None else {**chosen, installing: (INSTALL,)}


def emptied(directory: Path) -> Path:
    """The directory, with nothing in it."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory
