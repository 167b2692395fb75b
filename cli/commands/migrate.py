"""``shiplap migrate``."""

from __future__ import annotations

import click

from core.settings import ServiceSettings


@click.command("migrate")
@click.pass_obj
def command(root: str | None) -> None:
    """Bring the service's database to the schema of this version.

    'shiplap serve' does it by itself; 'shiplap web' and 'shiplap worker' refuse to start until it was done.
    """
    from pipelines.database import migrate

    applied = migrate(ServiceSettings.from_environ(root=root))
    click.echo("\n".join(f"applied {revision}" for revision in applied) or "nothing to do")
