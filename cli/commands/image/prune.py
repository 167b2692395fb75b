"""``shiplap image prune``."""

from __future__ import annotations

import sys
import time

import click

from cli.errors import CommandError
from cli.options import duration
from cli.progress.text import size_text
from cli.store import open_store
from images.originals import release


@click.command("prune")
@click.option("-a", "--all", "all_unused", is_flag=True, help="Named images too, unless a running process uses them.")
@click.option("--cache", is_flag=True, help="The build cache and its mounts too: later builds start anew.")
@click.option(
    "--older-than", metavar="AGE", help="Only what is older than this, as in 36h or 14d (cache: not used since)."
)
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.pass_obj
def command(root: str | None, *, all_unused: bool, cache: bool, older_than: str | None, force: bool) -> None:
    """Remove what nothing uses, to free disk space.

    That is images without a name, content that no image and no cached step needs, and the compressed form that a
    pulled layer came in, where the layer compresses to the same bytes again.
    """
    until = time.time() - duration(older_than, "--older-than") if older_than else None
    if (all_unused or cache) and not force:
        _confirm(all_unused=all_unused, cache=cache)
    with open_store(root) as store:
        report = store.images.prune(all_unused=all_unused, cache=cache, until=until)
        freed = report.freed_bytes + release(store)
    for line in report.lines:
        click.echo(line)
    if report.records:
        click.echo(f"Cache records removed: {report.records}")
    click.echo(f"Total reclaimed space: {size_text(freed)}")


def _confirm(*, all_unused: bool, cache: bool) -> None:
    what = " and ".join(["all images"] * all_unused + ["the build cache"] * cache)
    if not sys.stdin.isatty():
        raise CommandError(f"prune would remove {what} and cannot ask", hint="say --force to do it unasked")
    click.confirm(f"This removes {what}. Continue?", abort=True, err=True)
