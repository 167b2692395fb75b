"""``shiplap context ls``."""

from __future__ import annotations

from typing import Final

import click

from cli.listing import Listing, format_option
from cli.options import json_option
from cli.remote.servers import LOCAL, Contexts
from cli.table import print_json
from core.settings import RemoteSettings

CONTEXTS: Final = Listing(
    {"Name": "NAME", "Server": "SERVER", "Current": "CURRENT"}, ("Name", "Server"), "Name", "context", least=0
)


@click.command("ls")
@click.option("-q", "--quiet", is_flag=True, help="Print only names.")
@format_option
@json_option
def command(*, quiet: bool, form: str, as_json: bool) -> None:
    """List the servers that have names."""
    CONTEXTS.check(form)
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
        {
            "Name": name + (" *" if name == contexts.current and form in ("", "table") and not quiet else ""),
            "Server": url or "(this machine, no server)",
            "Current": str(name == contexts.current).lower(),
        }
        for name, url in urls.items()
    ]
    CONTEXTS.print(rows, form, quiet=quiet)
