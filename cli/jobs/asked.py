"""The command lines of ``shiplap ci run`` and ``shiplap ci why`` as objects, and the options that both have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from ci.model import EVENTS, EventName
from cli.declared import Option

EVENT_OPTIONS: Final = (
    Option(
        ("--event",),
        "What the run is of.  [default: local, for which no job runs that names other events, and nothing is pushed]",
        default="local",
        choices=EVENTS,
    ),
    Option(("--branch",), "The branch that is run.  [default: the one that is checked out]", metavar="NAME"),
    Option(("--target",), "The branch that a pull request is to go into.", metavar="NAME", default=""),
    Option(("--tag",), "The tag that is run.", metavar="NAME", default=""),
    Option(
        ("--secret",),
        "Give jobs that name it this file's content, or this variable's. Repeatable.",
        metavar="NAME[=FILE]",
        dest="secrets",
        multiple=True,
    ),
    Option(
        ("--param",),
        "Give a parameter of the pipeline a value. Repeatable.",
        metavar="NAME=VALUE",
        dest="params",
        multiple=True,
    ),
    Option(("-f", "--file"), "The pipeline file.  [default: .shiplap.yml]", metavar="FILE", default=""),
    Option(("--pipeline",), "The pipeline, where there are several in .shiplap/.", metavar="NAME", default=""),
)
"""Their values are the members of ``About``."""


class About(NamedTuple):
    """What is run, as it was asked for.

    branch: None: the one that is checked out.
    secrets, params: texts as they were given.
    file: empty: the repository's.
    """

    event: EventName
    branch: str | None
    target: str
    tag: str
    secrets: tuple[str, ...]
    params: tuple[str, ...]
    file: str
    pipeline: str

    @property
    def path(self) -> Path | None:
        """The pipeline file that was named."""
        return Path(self.file) if self.file else None


class RunArguments(NamedTuple):
    """The command line of ``shiplap ci run``.

    root: the value of ``--root``.
    jobs: names of jobs, or of all of a matrix; empty: every one.
    yes: gates are answered with yes.
    parallel: how many jobs at once; None: as many as there are processors.
    progress: the value of ``--progress``.
    insecure: registries that are asked without TLS.
    outputs: where outputs for people go; None: nowhere.
    """

    root: str | None
    jobs: tuple[str, ...]
    about: About
    no_reuse: bool
    shell_on_failure: bool
    yes: bool
    parallel: int | None
    progress: str
    insecure: tuple[str, ...]
    outputs: Path | None

    @property
    def at_once(self) -> int:
        """How many jobs may run at once."""
        return self.parallel or os.cpu_count() or 1
