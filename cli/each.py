"""Commands that take several names go on after one of them failed, as docker's do."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click

from cli.errors import describe
from core.errors import ShiplapError


def for_each(names: Iterable[str], act: Callable[[str], None]) -> int:
    """Call ``act`` with each name; errors are printed. Returns the exit code: 1 when any failed."""
    code = 0
    for name in names:
        try:
            act(name)
        except ShiplapError as error:
            click.echo(describe(error), err=True)
            code = 1
    return code
