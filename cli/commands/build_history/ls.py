"""``shiplap build history ls``."""

from __future__ import annotations

import time

import click

from cli.building.pastbuilds import PAST_BUILDS, STATES, build_row, document, past_builds
from cli.listing import format_option
from cli.options import json_option
from cli.table import print_json
from core.settings import Settings


@click.command("ls")
@click.option("--state", type=click.Choice(STATES), help="Only builds in this state.")
@click.option("-n", "--last", type=click.IntRange(1), help="Only the last so many.")
@click.option("-q", "--quiet", is_flag=True, help="Print only IDs.")
@click.option("--no-trunc", is_flag=True, help="Print whole IDs, and cut nothing off.")
@format_option
@json_option
@click.pass_obj
def command(
    root: str | None, *, state: str | None, last: int | None, quiet: bool, no_trunc: bool, form: str, as_json: bool
) -> None:
    """List builds, the newest first.

    \b
    shiplap build history ls --state error --format '{{.Ref}} {{.Name}}: {{.Error}}'
    """
    PAST_BUILDS.check(form)
    builds = [build for build in past_builds(Settings.from_environ(root=root).root) if state in (None, build.state)]
    builds = builds[:last]
    if as_json:
        print_json([document(build) for build in builds])
        return
    now = time.time()
    rows = [build_row(build, now, no_trunc=no_trunc) for build in builds]
    PAST_BUILDS.print(rows, form, quiet=quiet, whole=no_trunc)
