"""``shiplap logout``."""

from __future__ import annotations

import click

from cli.registry import client_config
from cli.remote.choice import host_option
from cli.remote.servers import LOCAL


@click.command("logout")
@click.argument("server", metavar="[REGISTRY]", default="")
@click.option("--host", metavar="URL", help="Forget the API token for a build service, and no registry's credentials.")
@click.pass_obj
def command(root: str | None, *, server: str, host: str | None) -> None:
    """Forget the credentials for a registry: docker.io, or HOST[:PORT]."""
    if (service := host or host_option()) and service != LOCAL:
        from cli.remote.login import log_out_of_service

        log_out_of_service(service)
        return
    from registry.client import logout, registry_domain

    domain = registry_domain(server)
    if logout(domain, config=client_config(root, ())):
        click.echo(f"Removed the credentials for {domain}")
    else:
        click.echo(f"Not logged in to {domain}")
