"""``shiplap version``."""

from __future__ import annotations

import click

from cli import VERSION


@click.command("version")
def command() -> None:
    """Show the version."""
    click.echo(f"shiplap {VERSION}")
