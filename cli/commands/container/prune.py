"""``shiplap container prune``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.filters import prune_filter_option, read_filters
from cli.containers.opening import confirm, opened
from cli.progress.text import size_text


@container_command("prune")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@prune_filter_option
@click.pass_obj
def command(root: str | None, *, force: bool, filters: Sequence[str]) -> None:
    """Remove all containers that do not run.

    Filters are docker's: until, label, label!.
    """
    wanted = read_filters(filters)
    confirm("This will remove all stopped containers.", force=force)
    with opened(root) as engine:
        removed, freed = engine.prune_containers(wanted)
    if removed:
        click.echo("\n".join(["Deleted Containers:", *removed, ""]))
    click.echo(f"Total reclaimed space: {size_text(freed)}")
