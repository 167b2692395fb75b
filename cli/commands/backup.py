"""``shiplap backup``."""

from __future__ import annotations

from pathlib import Path

import click

from core.settings import ServiceSettings


@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def command(root: str | None, *, file: Path) -> None:
    """Save what a service knows: runs, logs, projects, tokens, secrets.

    The service may be running. FILE holds the key to its secrets, too: keep it as safe as them. Images, the cache and
    uploaded contexts are not in it.
    """
    from pipelines.backup import backup

    backup(ServiceSettings.from_environ(root=root), file.absolute())
