"""``shiplap image verify``."""

from __future__ import annotations

import click

from cli.store import open_store


@click.command("verify")
@click.pass_obj
def command(root: str | None) -> int:
    """Read everything again and check it against its digests."""
    from images.verify import verify

    with open_store(root) as store:
        problems = verify(store)
    for problem in problems:
        click.echo(f"{problem.digest}: {problem.what}")
    if problems:
        click.echo("hint: pull, load or build again what has them: a good copy takes a damaged one's place", err=True)
    else:
        click.echo("all content matches its digests")
    return 1 if problems else 0
