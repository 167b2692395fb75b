"""``shiplap volume prune``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.filters import prune_filter_option, read_filters
from cli.containers.opening import confirm, opened
from cli.progress.text import size_text


@container_command("prune")
@click.option("-a", "--all", "every", is_flag=True, help="Those with a name, too.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@prune_filter_option
@click.pass_obj
def command(root: str | None, *, every: bool, force: bool, filters: Sequence[str]) -> None:
    """Remove the anonymous volumes that no container uses.

    Filters are docker's: label, label!.
    """
    wanted = read_filters(filters)
    if every:
        wanted["all"] = ["true"]
    which = "all volumes" if every else "anonymous local volumes"
    confirm(f"This will remove {which} not used by at least one container.", force=force)
    with opened(root) as engine:
        removed, freed = engine.volumes.prune(wanted)
    if removed:
        click.echo("\n".join(["Deleted Volumes:", *removed, ""]))
    click.echo(f"Total reclaimed space: {size_text(freed)}")
