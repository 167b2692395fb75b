"""``shiplap version``."""

from __future__ import annotations

import click

from core.release import described


@click.command("version")
def command() -> None:
    """Show the version.

    With the commit that it was built from, where that is known.
    """
    click.echo(f"shiplap {described()}")
