"""``shiplap migrate``."""

from __future__ import annotations

import click

from core.settings import ServiceSettings


@click.command("migrate")
@click.option("--new-key", is_flag=True, help="The secrets' key is lost: take this host's, or a new one, for it.")
@click.pass_obj
def command(root: str | None, *, new_key: bool) -> None:
    """Bring the service's database to the schema of this version.

    It also makes the key that secrets are encrypted with, unless there is one.
    'shiplap serve' does it by itself; 'shiplap web' and 'shiplap worker' refuse to start until it was done.
    """
    from pipelines.database import migrate
    from pipelines.service import Service

    settings = ServiceSettings.from_environ(root=root)
    applied = migrate(settings)
    if new_key:
        with Service.open(settings) as service:
            service.secrets.take_key()
    click.echo("\n".join(f"applied {revision}" for revision in applied) or "nothing to do")
