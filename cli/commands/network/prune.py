"""``shiplap network prune``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.filters import prune_filter_option, read_filters
from cli.containers.opening import confirm, opened


@container_command("prune")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@prune_filter_option
@click.pass_obj
def command(root: str | None, *, force: bool, filters: Sequence[str]) -> None:
    """Remove all networks that no container is in.

    Filters are docker's: label, label!, until.
    """
    confirm("This will remove all custom networks not used by at least one container.", force=force)
    with opened(root) as engine:
        removed = engine.prune_networks(read_filters(filters))
    if removed:
        click.echo("\n".join(["Deleted Networks:", *removed, ""]))
