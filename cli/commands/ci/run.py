"""``shiplap ci run``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from cli.declared import Option, declared
from cli.jobs.asked import EVENT_OPTIONS, About, RunArguments
from cli.jobs.here import run_here
from cli.progress.choose import MODES
from cli.registry import INSECURE

_MOST: Final = 256
_OPTIONS: Final = (
    *EVENT_OPTIONS,
    Option(("--no-reuse",), "Run every job, whatever is known of its result.", flag=True),
    Option(("--shell-on-failure",), "Open a shell in a job that failed, with its workspace.", flag=True),
    Option(("--yes",), "Answer the questions of gates with yes.", flag=True),
    Option(("--parallel",), "How many jobs run at once.  [default: one for each processor]", between=(1, _MOST)),
    Option(("--outputs",), "Write outputs that have a name to DIR/JOB/NAME.", metavar="DIR", default=""),
    Option(("--progress",), "How to show progress.  [default: auto]", default="auto", choices=MODES),
    INSECURE,
)


@click.command("run")
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@declared(_OPTIONS)
@click.pass_obj
def command(
    root: str | None,
    /,
    jobs: tuple[str, ...],
    no_reuse: bool,
    shell_on_failure: bool,
    yes: bool,
    parallel: int | None,
    outputs: str,
    progress: str,
    insecure: tuple[str, ...],
    **about: Any,
) -> int:
    """Run the repository's jobs here, from the working tree.

    JOB runs with all that it needs; without JOB every job runs. What is not committed counts, what .gitignore names
    does not. Gates ask on the terminal, when nothing runs. Ctrl-C ends the jobs, then those run that clean up; the
    second Ctrl-C kills.

    The exit code is 1 when a job failed, 2 when the file or the command line is wrong, 130 after Ctrl-C.

    \b
    shiplap ci run
    shiplap ci run test
    shiplap ci run --event push --branch main --secret DEPLOY_KEY=key.txt
    """
    place = Path(outputs) if outputs else None
    return run_here(
        RunArguments(root, jobs, About(**about), no_reuse, shell_on_failure, yes, parallel, progress, insecure, place)
    )
