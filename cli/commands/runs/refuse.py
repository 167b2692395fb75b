"""``shiplap runs refuse``."""

from __future__ import annotations

import click

from cli.remote.gates import answer


@click.command("refuse")
@click.argument("run", type=click.IntRange(1))
@click.argument("job")
@click.option("-m", "--comment", metavar="TEXT", default="", help="Why; it is kept with the answer.")
@click.pass_obj
def command(root: str | None, *, run: int, job: str, comment: str) -> None:
    """Let a gate of a run fail, so that what needs it is skipped.

    JOB is the gate's name, or its number in the run.
    """
    answer(root, run, job, "refuse", comment)
