"""``shiplap engine``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.service.processes import become


@click.command("engine")
@click.option(
    "--listen",
    metavar="ADDRESS",
    multiple=True,
    help="unix:///PATH or tcp://HOST:PORT, where clients connect. Repeatable.  [default: systemd's socket, else one"
    " in RUN]",
)
@click.option("--tlscert", metavar="FILE", help="The certificate that clients over tcp are shown, PEM.")
@click.option("--tlskey", metavar="FILE", help="Its key.")
@click.option(
    "--tlscacert", metavar="FILE", help="Clients whose certificates these CAs have signed are who these name."
)
@click.option("--tokens", metavar="URL", help="A Shiplap service: clients with its users' tokens are these users.")
@click.option("--token-users", metavar="FILE", help="Lines NAME USER: a user of the service, and of this host.")
@click.option(
    "--pages", metavar="ADDRESS", help="unix:///PATH, a socket for a service's pages: it makes no containers."
)
@click.option("--pages-user", metavar="NAME", help="Who alone connects there.  [default: shiplap]")
@click.option("--insecure", is_flag=True, help="No TLS. On this host's loopback alone, and with --tokens.")
@click.pass_obj
def command(root: str | None, /, *, listen: Sequence[str], insecure: bool, **files: str | None) -> None:
    """Serve the Docker Engine API, for docker's own clients.

    It prints the value for DOCKER_HOST. Containers need no API: they go on when this ends, and so does every attached
    terminal. As root, members of the group shiplap may connect, too: each has an engine of their own. Over tcp, a
    client's certificate or token says which user of this host it is.

    \b
    shiplap engine &
    docker -H unix:///run/shiplap/….sock run --rm busybox echo hello
    """
    arguments = [f"--listen={address}" for address in listen]
    arguments += [f"--{name.replace('_', '-')}={value}" for name, value in files.items() if value]
    become("dockerapi", root, [*arguments, *(["--insecure"] if insecure else [])])
