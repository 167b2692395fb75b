"""``shiplap registry serve``."""

from __future__ import annotations

from pathlib import Path

import click

from cli.commands.registry.admin import registry_settings, users_of
from cli.store import open_store
from core.settings import Settings


@click.command("serve")
@click.option(
    "--listen", metavar="ADDRESS:PORT", default="127.0.0.1:5000", help="Where to listen.  [default: 127.0.0.1:5000]"
)
@click.option("--config", metavar="FILE", help="Rules.  [default: ROOT/serve/registry.toml if it exists]")
@click.option("--tls-cert", metavar="FILE", help="Serve HTTPS with this certificate chain (PEM).")
@click.option("--tls-key", metavar="FILE", help="The key of the certificate (PEM).")
@click.option("--insecure-no-auth", is_flag=True, help="Let everyone who reaches the address pull, push and delete.")
@click.pass_obj
def command(
    root: str | None,
    *,
    listen: str,
    config: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    insecure_no_auth: bool,
) -> None:
    """Serve a registry, for docker and everyone else.

    On a loopback address it asks for no password until there are users. In the root of a service it asks from the
    start.

    \b
    shiplap registry serve &
    docker push localhost:5000/app           podman, skopeo, shiplap push work as well
    """
    from registry.server.serve import Listener, choose_access, parse_address, serve

    directory = Settings.from_environ(root=root).root
    host, _ = parse_address(listen)
    with open_store(root) as store, users_of(store) as users:
        access = choose_access(host, users_exist=users.exist(), insecure=insecure_no_auth)
    if access == "open-until-users" and (directory / "serve" / "admin.token").exists():
        access = "users"  # what a service keeps from strangers is not open here either
    settings = registry_settings(config, directory, access=access)
    certificate, key = (Path(path) if path else None for path in (tls_cert, tls_key))
    serve(directory, settings, Listener(listen, certificate, key))
