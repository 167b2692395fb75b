"""``shiplap restore``."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

import click

from cli.service.owner import require_own
from cli.streams import input_stream
from core.files import storage_errors
from core.settings import ServiceSettings

if TYPE_CHECKING:
    from pipelines.keeping.format import Header
    from pipelines.keeping.rehearsal import Rehearsal


@click.command("restore")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--dry-run", is_flag=True, help="Check all of FILE and say what would be replaced; change nothing.")
@click.pass_obj
def command(root: str | None, *, file: str, dry_run: bool) -> None:
    """Make a service what it was when FILE was saved.

    Everything that it knows is replaced. It may be running; runs that ran when the backup was made run again. A
    repository of ROOT/git that has other branches or tags now is moved aside, and it is told where to. A backup of an
    earlier release is migrated. FILE may be '-', for standard input.

    \b
    shiplap restore --dry-run service.tar
    shiplap restore service.tar
    """
    from pipelines.keeping.rehearsal import rehearse
    from pipelines.keeping.restore import Saved

    settings = ServiceSettings.from_environ(root=root)
    if not dry_run:
        require_own(settings.root, f"restore - < {shlex.quote(file)}" if file != "-" else "restore -")
    name = "standard input" if file == "-" else file
    with _seekable(file, settings) as stream, Saved.reading(stream, name) as saved:
        click.echo(f"{name}: {_origin(saved.header, is_older=saved.is_older)}")
        if dry_run:
            click.echo("\n".join(_plan(rehearse(settings, saved))))
        else:
            for moved in saved.restore(settings):
                click.echo(f"what was pushed since the backup is in {moved}")
        click.echo("not in the backup:\n" + "\n".join(f"  {what}" for what in saved.left_out))
    click.echo("nothing was changed" if dry_run else "restored")


@contextlib.contextmanager
def _seekable(file: str, settings: ServiceSettings) -> Iterator[IO[bytes]]:
    """Open a seekable file. A pipe is copied to a nameless file: private to this process, and gone with it."""
    with input_stream(file, "a backup", "a file's name") as stream:
        if stream.seekable():
            yield stream
            return
        serve = settings.root / "serve"
        with (
            storage_errors("the backup that is read"),
            tempfile.TemporaryFile(dir=serve if serve.is_dir() else None) as copy,
        ):
            shutil.copyfileobj(stream, copy, 1 << 20)
            copy.seek(0)
            yield copy


def _origin(header: Header, *, is_older: bool) -> str:
    built = f", commit {header.commit}" if header.commit else ""
    made = time.strftime(" on %Y-%m-%d at %H:%M UTC", time.gmtime(header.at)) if header.at else ""
    migrated = f", which is migrated from schema {header.schema}" if is_older else ""
    return f"made by {header.by}{built}{made}{migrated}"


def _plan(found: Rehearsal) -> list[str]:
    lines = ["would be replaced, by how many entries:" if found.tables else "no entries, neither here nor in it"]
    for table in found.tables:
        now = "none yet" if table.before is None else f"now {table.before}"
        lines.append(f"  {table.table.replace('_', ' ')}: {table.after} ({now})")
    for what, names in (
        ("repositories that are not there yet", found.new),
        ("repositories that have the same branches and tags", found.same),
        ("repositories that have others now, and would be moved aside", found.other),
    ):
        if names:
            lines += [f"{what}:", *(f"  {name}" for name in names)]
    if found.images is not None:
        lines.append(f"images that would be added, unless they are there: {found.images}")
    return lines
