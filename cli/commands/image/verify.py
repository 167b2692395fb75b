"""``shiplap image verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from cli.store import as_root, open_store
from core.settings import Settings

if TYPE_CHECKING:
    from images.summary import Image

_SHOWN: Final = 60  # characters of an instruction


@click.command("verify")
@click.option("--rebuild", is_flag=True, help="First make the rows of files that store.db does not know, or has lost.")
@click.pass_obj
def command(root: str | None, *, rebuild: bool) -> int:
    """Read everything again and check it against its digests.

    With --rebuild a store whose database was lost or damaged, or is an older copy, gets its images back: all but their
    names, and the build cache.
    """
    from images.verify import verify

    if rebuild:
        _rebuild(root)
    with open_store(root) as store:
        problems = verify(store)
    for problem in problems:
        click.echo(f"{problem.digest}: {problem.what}")
    if problems:
        click.echo("hint: pull, load or build again what has them: a good copy takes a damaged one's place", err=True)
    else:
        click.echo("all content matches its digests")
    return 1 if problems else 0


def _rebuild(root: str | None) -> None:
    from images.rebuild import LOST, rebuild

    as_root()
    report = rebuild(Settings.from_environ(root=root).root)
    if report.set_aside is not None:
        click.echo(f"the damaged database is now {report.set_aside}")
    click.echo(
        f"taken in: {_number(report.blobs, 'blob')}, {_number(len(report.images), 'image')},"
        f" {_number(len(report.indexes), 'index', 'indexes')}"
    )
    for image in report.images:
        click.echo(f"{image.id}: {_description(image)}; shiplap image tag {image.id.short} NAME names it")
    for digest, what in report.incomplete:
        click.echo(f"{digest}: cannot be made again: {what}")
    if report.anew:
        click.echo("these were in the database only and do not come back:")
        for what in LOST:
            click.echo(f"  {what}")


def _description(image: Image) -> str:
    made = image.config.created or "an unknown time"
    last = next((entry.created_by for entry in reversed(image.config.history) if entry.created_by), "")
    return f"{image.config.platform}, made {made}" + (f", {last[:_SHOWN]!r}" if last else "")


def _number(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"
