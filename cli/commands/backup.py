"""``shiplap backup``."""

from __future__ import annotations

from pathlib import Path

import click

from cli.errors import CommandError
from cli.progress.text import size_text
from cli.streams import output_stream
from core.files import storage_errors
from core.settings import ServiceSettings

_WHAT = "runs, logs, projects, tokens, secrets and their key, contexts, repositories"


@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--images", is_flag=True, help="Save the images of the built-in registry, too, with their tags.")
@click.pass_obj
def command(root: str | None, *, file: str, images: bool) -> None:
    """Save what a service knows: runs, logs, projects, tokens, secrets.

    The service may be running, and people may push. FILE holds the key to its secrets, too: keep it as safe as them.
    It may be '-', for standard output: nothing stays on this machine then. Contexts and the repositories of ROOT/git
    are in it, images with --images. The registry's own users and access tokens, and the build cache, are not.

    \b
    shiplap backup service.tar
    shiplap backup - | ssh elsewhere 'umask 077; cat > service.tar'
    """
    from pipelines.keeping.backup import backup, stream_backup

    settings = ServiceSettings.from_environ(root=root)
    if file == "-":
        try:
            with output_stream("-", "a file's name") as sink, storage_errors("standard output"):
                size_bytes = stream_backup(settings, sink, images=images)
        except BrokenPipeError as error:
            raise CommandError(
                "who took the backup from standard output went away: it is not whole", hint="save again"
            ) from error
        name = "standard output"
    else:
        path = Path(file).absolute()
        backup(settings, path, images=images)
        name, size_bytes = file, path.stat().st_size
    click.echo(f"{name}: {size_text(size_bytes)}: {_WHAT}{', images' if images else ''}", err=True)
