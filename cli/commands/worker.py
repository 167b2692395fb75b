"""``shiplap worker``."""

from __future__ import annotations

import click

from cli.options import duration
from cli.service.processes import become


@click.command("worker")
@click.option("--concurrency", type=click.IntRange(1, 64), default=2, help="Runs at the same time.  [default: 2]")
@click.option("--name", metavar="NAME", help="What the worker is called.  [default: the host's name]")
@click.option("--labels", metavar="A,B", help="What runs may ask of a worker.  [default: $SHIPLAP_WORKER_LABELS]")
@click.option("--max-jobs", type=click.IntRange(1), metavar="N", help="End after so many jobs.")
@click.option("--until-idle", metavar="TIME", help="End when there was nothing to do for so long: 10m.")
@click.pass_obj
def command(
    root: str | None,
    *,
    concurrency: int,
    name: str | None,
    labels: str | None,
    max_jobs: int | None,
    until_idle: str | None,
) -> None:
    """Build what is queued, without serving anything.

    SIGTERM drains: what is being built is finished, and nothing more is begun.
    So does the end that --max-jobs and --until-idle bring, for machines that
    are made when jobs wait: /metrics says how many do, by labels.
    """
    arguments = ["--concurrency", str(concurrency)]
    if max_jobs is not None:
        arguments += ["--max-jobs", str(max_jobs)]
    if until_idle is not None:
        arguments += ["--until-idle", str(duration(until_idle, "--until-idle"))]
    for option, value in (("--name", name), ("--labels", labels)):
        if value:
            arguments += [option, value]
    become("worker", root, arguments)
