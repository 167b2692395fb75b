"""``shiplap context add``."""

from __future__ import annotations

import re

import click

from cli.errors import CommandError
from cli.remote.servers import LOCAL, Contexts, parse_url
from core.settings import RemoteSettings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@click.command("add")
@click.argument("name")
@click.argument("url")
@click.option("--use", is_flag=True, help="Choose it at once.")
def command(*, name: str, url: str, use: bool) -> None:
    """Give a server a name.

    \b
    shiplap context add --use ci https://ci.example.org
    shiplap build -t app .                               is built there from now on
    """
    if not _NAME.fullmatch(name) or name == LOCAL:
        raise CommandError(f"{name!r} cannot name a server", hint="use letters, digits, '_', '.' and '-'")
    contexts = Contexts.load(RemoteSettings.from_environ(host=""))
    contexts.urls[name] = parse_url(url)
    if use:
        contexts.current = name
    contexts.save()
