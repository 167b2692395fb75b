"""``shiplap restore``."""

from __future__ import annotations

from pathlib import Path

import click

from core.settings import ServiceSettings


@click.command("restore")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def command(root: str | None, *, file: Path) -> None:
    """Make a service what it was when FILE was saved.

    Everything that it knows is replaced. It may be running; runs that ran when the backup was made run again. A
    repository of ROOT/git that has other branches or tags now is moved aside, and it is told where to.
    """
    from pipelines.backup import restore

    for moved in restore(ServiceSettings.from_environ(root=root), file):
        click.echo(f"what was pushed since the backup is in {moved}")
