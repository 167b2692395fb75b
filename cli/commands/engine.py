"""``shiplap engine``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.service.processes import become


@click.command("engine")
@click.option(
    "--listen",
    metavar="unix:///PATH",
    multiple=True,
    help="Where clients connect. Repeatable.  [default: systemd's socket, else RUN/docker.sock]",
)
@click.pass_obj
def command(root: str | None, *, listen: Sequence[str]) -> None:
    """Serve the Docker Engine API, for docker's own clients.

    It prints the value for DOCKER_HOST. Containers need no API: they go on when this ends, and so does every attached
    terminal. As root, members of the group shiplap may connect, too: each has an engine of their own.

    \b
    shiplap engine &
    docker -H unix:///run/shiplap/….sock run --rm busybox echo hello
    """
    become("dockerapi", root, [f"--listen={address}" for address in listen])
