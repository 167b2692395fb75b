"""``shiplap stop``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.opening import as_it_was, for_all, opened


@container_command("stop")
@click.argument("names", metavar="CONTAINER...", nargs=-1, required=True)
@click.option(
    "-t", "--timeout", "--time", "timeout_s", type=int, metavar="SECONDS", help="Until SIGKILL; -1 for never."
)
@click.option("-s", "--signal", metavar="SIGNAL", help="What is sent first.  [default: its stop signal]")
@click.pass_obj
def command(root: str | None, *, names: Sequence[str], timeout_s: int | None, signal: str | None) -> int:
    """Stop containers: by their stop signal, then SIGKILL.

    A stopped container is not started again by its policy.
    """
    with opened(root) as engine:

        def stop(name: str) -> None:
            with as_it_was():
                engine.stop(name, timeout_s=timeout_s, signal=signal)

        return for_all(names, stop)
