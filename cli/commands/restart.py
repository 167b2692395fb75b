"""``shiplap restart``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.opening import for_all, opened_to_start


@container_command("restart")
@click.argument("names", metavar="CONTAINER...", nargs=-1, required=True)
@click.option(
    "-t", "--timeout", "--time", "timeout_s", type=int, metavar="SECONDS", help="Until SIGKILL; -1 for never."
)
@click.option("-s", "--signal", metavar="SIGNAL", help="What is sent first.  [default: its stop signal]")
@click.pass_obj
def command(root: str | None, *, names: Sequence[str], timeout_s: int | None, signal: str | None) -> int:
    """Stop containers, and start them again."""
    with opened_to_start(root) as engine:
        return for_all(names, lambda name: engine.restart(name, timeout_s=timeout_s, signal=signal))
