"""``shiplap registry gc``."""

from __future__ import annotations

import click

from cli.commands.registry.admin import registry_settings
from cli.store import open_store


@click.command("gc")
@click.option("--config", metavar="FILE", help="Rules.  [default: ROOT/serve/registry.toml if it exists]")
@click.option(
    "--grace",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    help="How long unreferenced content waits for its manifest. 0 only when nobody is pushing.  [default: a day]",
)
@click.option("-q", "--quiet", is_flag=True, help="Print the sum only.")
@click.pass_obj
def command(root: str | None, *, config: str | None, grace: float | None, quiet: bool) -> None:
    """Collect garbage now, by the rules of the configuration.

    The server may run meanwhile; it does the same every hour.
    """
    from cli.progress.text import size_text
    from registry.server.collect import collect
    from registry.server.registry import Registry

    with open_store(root) as store:
        registry = Registry(store, registry_settings(config, store.root, access="users"))
        try:
            report = collect(registry, grace_s=grace)
        finally:
            registry.close()
    for line in report.lines if not quiet else ():
        click.echo(line)
    click.echo(
        f"removed {report.tags} tags, {report.manifests} manifests, {report.blobs} blobs, {report.uploads} uploads;"
        f" freed {size_text(report.freed_bytes)}"
    )
