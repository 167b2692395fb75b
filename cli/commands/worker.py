"""``shiplap worker``."""

from __future__ import annotations

import click

from cli.service.processes import become


@click.command("worker")
@click.option("--concurrency", type=click.IntRange(1, 64), default=2, help="Runs at the same time.  [default: 2]")
@click.option("--name", metavar="NAME", help="What the worker is called.  [default: the host's name]")
@click.option("--labels", metavar="A,B", help="What runs may ask of a worker.  [default: $SHIPLAP_WORKER_LABELS]")
@click.pass_obj
def command(root: str | None, *, concurrency: int, name: str | None, labels: str | None) -> None:
    """Build what is queued, without serving anything.

    SIGTERM drains: what is being built is finished, and nothing more is begun.
    """
    arguments = ["--concurrency", str(concurrency)]
    for option, value in (("--name", name), ("--labels", labels)):
        if value:
            arguments += [option, value]
    become("worker", root, arguments)
