"""``shiplap backup``."""

from __future__ import annotations

from pathlib import Path

import click

from cli.progress.text import size_text
from core.settings import ServiceSettings


@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--images", is_flag=True, help="Save the images of the built-in registry, too, with their tags.")
@click.pass_obj
def command(root: str | None, *, file: Path, images: bool) -> None:
    """Save what a service knows: runs, logs, projects, tokens, secrets.

    The service may be running, and people may push. FILE holds the key to its secrets, too: keep it as safe as them.
    Contexts and the repositories of ROOT/git are in it, images with --images. The registry's own users and access
    tokens, and the build cache, are not.
    """
    from pipelines.backup import backup

    backup(ServiceSettings.from_environ(root=root), file.absolute(), images=images)
    what = "runs, logs, projects, tokens, secrets and their key, contexts, repositories" + (
        ", images" if images else ""
    )
    click.echo(f"{file}: {size_text(file.stat().st_size)}: {what}", err=True)
