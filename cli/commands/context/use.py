"""``shiplap context use``."""

from __future__ import annotations

import click

from cli.errors import CommandError
from cli.remote.servers import LOCAL, Contexts
from core.settings import RemoteSettings


@click.command("use")
@click.argument("name")
def command(*, name: str) -> None:
    """Choose where builds go: a server, or 'local' for this machine.

    --host and SHIPLAP_HOST beat what is chosen here.
    """
    contexts = Contexts.load(RemoteSettings.from_environ(host=""))
    if name != LOCAL and name not in contexts.urls:
        raise CommandError(f"there is no context {name!r}", hint=f"known are: {', '.join([LOCAL, *contexts.urls])}")
    contexts.current = name
    contexts.save()
