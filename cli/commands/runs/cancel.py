"""``shiplap runs cancel``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.guarding import for_each
from cli.remote.choice import host_option
from cli.remote.http import Client
from cli.remote.servers import required_server


@click.command("cancel")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.IntRange(1))
@click.pass_obj
def command(root: str | None, *, runs: Sequence[int]) -> int:
    """Cancel runs.

    What waits is cancelled at once, what runs within a second.
    """
    with Client(required_server(host_option(), root)) as client:
        return for_each(map(str, runs), lambda run: click.echo(client.call("POST", f"/runs/{run}/cancel")["number"]))
