"""``shiplap context rm``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.errors import CommandError
from cli.remote.servers import LOCAL, Contexts
from core.settings import RemoteSettings


@click.command("rm")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def command(*, names: Sequence[str]) -> None:
    """Forget servers.

    Their tokens go too, once no other name has the same URL.
    """
    contexts = Contexts.load(RemoteSettings.from_environ(host=""))
    unknown = [name for name in names if name not in contexts.urls]
    if unknown:
        raise CommandError(f"there is no context {unknown[0]!r}", hint="shiplap context ls shows them")
    gone = {contexts.urls.pop(name) for name in names}
    for url in gone - set(contexts.urls.values()):
        contexts.tokens.pop(url, None)
    if contexts.current in names:
        contexts.current = LOCAL
    contexts.save()
