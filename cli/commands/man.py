"""``shiplap man``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from core.files import write_atomically


@click.command("man")
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.pass_context
def command(ctx: click.Context, directory: Path | None) -> None:
    """Write a man page for each command.

    DIR is where man finds pages of section 1: /usr/local/share/man/man1 for root, ~/.local/share/man/man1 for others,
    unless it is given. Pages that are there are replaced.

    \b
    shiplap man && man shiplap-build
    """
    from cli.manpages import man_pages

    place = directory or _place()
    place.mkdir(parents=True, exist_ok=True)
    pages = list(man_pages(ctx.find_root().command))
    for page in pages:
        write_atomically(place / page.file, page.text.encode())
    click.echo(f"{len(pages)} pages in {place}")


def _place() -> Path:
    if os.geteuid() == 0:
        return Path("/usr/local/share/man/man1")
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "man" / "man1"
