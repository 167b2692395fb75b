"""``shiplap stats``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from cli.containers.command import container_command
from cli.containers.opening import opened
from cli.containers.statistics import STATISTICS, statistics_row
from cli.listing import Row, format_option

if TYPE_CHECKING:
    from engine.engine import Engine

_EACH_S: Final = 1.0
_ANEW: Final = "\033[H\033[2J"


@container_command("stats")
@click.argument("names", metavar="[CONTAINER...]", nargs=-1)
@click.option("-a", "--all", "every", is_flag=True, help="Not only those that run.")
@click.option("--no-stream", is_flag=True, help="Once, not again and again.")
@click.option("--no-trunc", is_flag=True, help="Cut nothing off.")
@format_option
@click.pass_obj
def command(root: str | None, *, names: Sequence[str], every: bool, no_stream: bool, no_trunc: bool, form: str) -> None:
    """Show what containers use: processors, memory, network, disk.

    Without names it is all that run, and a new table each second.
    """
    with opened(root) as engine:
        table = _Table(engine, names, every=every, no_trunc=no_trunc)
        table.rows()  # the first of two samples, between which processor time is counted
        while True:
            time.sleep(_EACH_S)
            rows = table.rows()
            is_live = not no_stream and sys.stdout.isatty()
            click.echo(_ANEW if is_live else "", nl=False, color=is_live)
            STATISTICS.print(rows, form, whole=no_trunc)
            if no_stream:
                return


class _Table:
    """Samples of containers, each beside the one before."""

    def __init__(self, engine: Engine, names: Sequence[str], *, every: bool, no_trunc: bool) -> None:
        self._engine = engine
        self._names = names
        self._every = every
        self._no_trunc = no_trunc
        self._before: dict[str, dict[str, Any] | None] = {}

    def rows(self) -> list[Row]:
        """Take a sample. Raises ContainerNotFoundError for a name that was asked for."""
        from engine.errors import ContainerNotFoundError

        found = []
        for name in self._names or [one["Id"] for one in self._engine.containers(every=self._every)]:
            try:
                document, self._before[name] = self._engine.stats(name, self._before.get(name))
            except ContainerNotFoundError:
                if self._names:
                    raise
                continue  # it has just been removed
            shown = name if self._names or self._no_trunc else name[:12]
            found.append(statistics_row(shown, document, no_trunc=self._no_trunc))
        return found
