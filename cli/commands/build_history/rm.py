"""``shiplap build history rm``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.building.pastbuilds import chosen, past_builds
from cli.errors import CommandError
from core.settings import Settings


@click.command("rm")
@click.argument("builds", metavar="BUILD...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All that have ended.")
@click.pass_obj
def command(root: str | None, *, builds: Sequence[str], every: bool) -> None:
    """Forget builds.

    Images and cache stay as they are.
    """
    if bool(builds) == every:
        raise CommandError("which builds?", hint="name them, or say --all")
    place = Settings.from_environ(root=root).root
    found = [build for build in past_builds(place) if build.state != "running"] if every else []
    found += [chosen(place, name) for name in builds]
    for build in found:
        build.remove()
        click.echo(build.id)
