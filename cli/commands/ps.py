"""``shiplap ps``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.filters import filter_option, read_filters
from cli.containers.opening import opened
from cli.containers.rows import CONTAINERS, container_row
from cli.listing import format_option
from cli.options import json_option
from cli.table import print_json


@container_command("ps")
@click.option("-a", "--all", "every", is_flag=True, help="Not only those that run.")
@click.option("-q", "--quiet", is_flag=True, help="Print only IDs.")
@click.option("-n", "--last", type=int, default=-1, metavar="NUMBER", help="The last so many, whether they run or not.")
@click.option("-l", "--latest", is_flag=True, help="The last one, whether it runs or not.")
@click.option("-s", "--size", is_flag=True, help="With what each takes of the disk.")
@click.option("--no-trunc", is_flag=True, help="Cut nothing off.")
@filter_option
@format_option
@json_option
@click.pass_obj
def command(
    root: str | None,
    *,
    every: bool,
    quiet: bool,
    last: int,
    latest: bool,
    size: bool,
    no_trunc: bool,
    filters: Sequence[str],
    form: str,
    as_json: bool,
) -> None:
    """List containers.

    Filters are docker's: ancestor, before, exited, expose, health, id, label, name, network, publish, since, status,
    volume; and keeper=old, for those that a keeper of another release has.

    \b
    shiplap ps -a --filter status=exited --format '{{.Names}}: {{.Status}}'
    """
    wanted = read_filters(filters)
    CONTAINERS.check(form)
    limit = last if last > 0 else 1 if latest else 0
    sizes = size or ".Size" in form
    with opened(root) as engine:
        documents = engine.containers(every=every, filters=wanted, limit=limit, sizes=sizes)
    if as_json:
        print_json(documents)
        return
    listing = CONTAINERS._replace(table=(*CONTAINERS.table, "Size")) if size else CONTAINERS
    rows = [container_row(document, no_trunc=no_trunc) for document in documents]
    listing.print(rows, form, quiet=quiet, whole=no_trunc)
