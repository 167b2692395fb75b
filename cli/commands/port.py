"""``shiplap port``."""

from __future__ import annotations

import click

from cli.containers.command import container_command
from cli.containers.opening import opened
from cli.errors import CommandError


@container_command("port")
@click.argument("name", metavar="CONTAINER")
@click.argument("port", metavar="[PORT[/PROTOCOL]]", required=False)
@click.pass_obj
def command(root: str | None, *, name: str, port: str | None) -> None:
    """Show the ports that a container publishes, or where one of them is published."""
    with opened(root) as engine:
        published = engine.ports(name)
    if port is None:
        for inside in sorted(published, key=lambda text: (int(text.partition("/")[0]), text)):
            for place in published[inside] or ():
                click.echo(f"{inside} -> {_address(place)}")
        return
    places = published.get((port if "/" in port else f"{port}/tcp").lower())
    if not places:
        raise CommandError(f"No public port '{port}' published for {name}")
    for place in places:
        click.echo(_address(place))


def _address(place: dict[str, str]) -> str:
    address = place["HostIp"] or "0.0.0.0"  # noqa: S104 - what a container publishes, not what we bind
    return f"[{address}]:{place['HostPort']}" if ":" in address else f"{address}:{place['HostPort']}"
