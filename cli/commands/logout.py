"""``shiplap logout``."""

from __future__ import annotations

import click

from cli.registry import client_config


@click.command("logout")
@click.argument("server", metavar="[REGISTRY]", default="")
@click.pass_obj
def command(root: str | None, *, server: str) -> None:
    """Forget the credentials for a registry: docker.io, or HOST[:PORT]."""
    from registry.client import logout, registry_domain

    domain = registry_domain(server)
    if logout(domain, config=client_config(root, ())):
        click.echo(f"Removed the credentials for {domain}")
    else:
        click.echo(f"Not logged in to {domain}")
