"""``shiplap context ls``."""

from __future__ import annotations

import click

from cli.options import json_option
from cli.remote.servers import LOCAL, Contexts
from cli.table import print_json, table
from core.settings import RemoteSettings


@click.command("ls")
@json_option
def command(*, as_json: bool) -> None:
    """List the servers that have names."""
    contexts = Contexts.load(RemoteSettings.from_environ(host=""))
    urls = {LOCAL: "", **dict(sorted(contexts.urls.items()))}
    if as_json:
        print_json(
            [
                {"name": name, "url": url or None, "current": name == contexts.current, "token": url in contexts.tokens}
                for name, url in urls.items()
            ]
        )
        return
    rows = [
        (name + (" *" if name == contexts.current else ""), url or "(this machine, no server)")
        for name, url in urls.items()
    ]
    click.echo(table(("NAME", "SERVER"), rows))
