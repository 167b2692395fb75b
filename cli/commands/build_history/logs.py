"""``shiplap build history logs``."""

from __future__ import annotations

import json
import sys

import click

from cli.building.pastbuilds import chosen, print_log
from core.settings import Settings


@click.command("logs")
@click.argument("build", metavar="[BUILD]", default="")
@click.option(
    "--progress",
    type=click.Choice(("plain", "rawjson")),
    default="plain",
    help="Lines, or events as JSON.  [default: plain]",
)
@click.pass_obj
def command(root: str | None, *, build: str, progress: str) -> None:
    """Print what a build showed.

    The last one, unless another is named. Of very long output the middle is not kept, and a line says so.
    """
    found = chosen(Settings.from_environ(root=root).root, build)
    if progress == "plain":
        print_log(found, sys.stdout)
        return
    for members in found.members():
        # Escapes are the same text, and steer no terminal.
        click.echo(json.dumps(members, ensure_ascii=sys.stdout.isatty(), separators=(",", ":")))
