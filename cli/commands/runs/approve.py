"""``shiplap runs approve``."""

from __future__ import annotations

import click

from cli.remote.gates import answer


@click.command("approve")
@click.argument("run", type=click.IntRange(1))
@click.argument("job")
@click.option("-m", "--comment", metavar="TEXT", default="", help="Why; it is kept with the answer.")
@click.pass_obj
def command(root: str | None, *, run: int, job: str, comment: str) -> None:
    """Let a gate of a run open, so that the jobs after it go on.

    JOB is the gate's name, or its number in the run; `shiplap runs jobs RUN`
    shows what it asks. Whoever maintains the project may answer, unless the
    pipeline's file names somebody, or somebody else than the run's author.
    """
    answer(root, run, job, "approve", comment)
