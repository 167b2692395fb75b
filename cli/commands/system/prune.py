"""``shiplap system prune``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.filters import prune_filter_option, read_filters
from cli.containers.opening import confirm, opened
from cli.progress.text import size_text
from cli.store import open_store


@container_command("prune")
@click.option("-a", "--all", "every", is_flag=True, help="Images with a name, too, that no container uses.")
@click.option("--volumes", is_flag=True, help="Anonymous volumes, too.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@prune_filter_option
@click.pass_obj
def command(root: str | None, *, every: bool, volumes: bool, force: bool, filters: Sequence[str]) -> None:
    """Remove what nothing uses: containers, images, cache.

    Containers that do not run, images without a name, and the build cache. Filters (until, label) are for containers
    and volumes. What is left in memory of your other roots that are gone is ended, too.
    """
    from engine.abandoned import end_all

    wanted = read_filters(filters)
    confirm(_warning(every=every, volumes=volumes), force=force)
    with open_store(root) as store, opened(root, store=store) as engine:
        removed, freed = engine.prune_containers(wanted)
        if removed:
            click.echo("\n".join(["Deleted Containers:", *removed, ""]))
        if volumes:
            names, bytes_of_volumes = engine.volumes.prune(wanted)
            freed += bytes_of_volumes
            if names:
                click.echo("\n".join(["Deleted Volumes:", *names, ""]))
        report = store.images.prune(all_unused=every, cache=True)
        if report.lines:
            click.echo("\n".join(["Deleted Images:", *report.lines, ""]))
        roots = end_all(engine.places)
        if roots:
            click.echo("\n".join(["Ended, of roots that are gone:", *roots, ""]))
    click.echo(f"Total reclaimed space: {size_text(freed + report.freed_bytes)}")


def _warning(*, every: bool, volumes: bool) -> str:
    lines = [
        "This will remove:",
        "  - all stopped containers",
        *(["  - all anonymous volumes not used by at least one container"] if volumes else []),
        "  - all images without at least one container associated to them" if every else "  - all dangling images",
        "  - the build cache",
        "  - the networks' namespaces of other roots that are gone",
        "",
    ]
    return "\n".join(lines)
