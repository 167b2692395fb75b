"""``shiplap runs outputs``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from cli.options import json_option
from cli.progress.text import files_text, harmless, size_text
from cli.remote.choice import host_option
from cli.remote.http import Client
from cli.remote.outputs import named, outputs_of, save
from cli.remote.servers import required_server
from cli.table import print_json, print_table
from cli.unpacking import place_of

_DAY_S = 86400


@click.command("outputs")
@click.argument("run", type=click.IntRange(1))
@click.argument("job", required=False)
@click.argument("name", required=False)
@click.option("-o", "--output", "place", type=click.Path(path_type=Path), metavar="DIR", help="Bring the files here.")
@json_option
@click.pass_obj
def command(root: str | None, *, run: int, job: str | None, name: str | None, place: Path | None, as_json: bool) -> int:
    """List what jobs of a run output for people, or bring it here.

    With -o, each output becomes a directory DIR/JOB/NAME; the only one that is
    meant, as with JOB and NAME, becomes DIR itself. A directory that has files
    in it already is left as it is. JOB is a job's number or name.
    """
    with Client(required_server(host_option(), root)) as client:
        found = outputs_of(client, run, job)
        if name is not None:
            found = named(found, name)
        if place is None:
            if as_json:
                print_json(found)
            else:
                _print(found)
            return 0
        if not found:
            click.echo(f"error: no job of run {run} has an output for people", err=True)
            return 1
        for output in found:
            into = place if len(found) == 1 else place_of(place, output["job"], output["name"])
            save(client, run, output, into)
            click.echo(harmless(f"{into}: {files_text(output['files'])}, {size_text(output['size'])}", colours=False))
    return 0


def _print(found: list[dict[str, object]]) -> None:
    now = time.time()
    rows = [
        (
            str(output["job"]),
            str(output["name"]),
            str(output["files"]),
            size_text(float(str(output["size"]))),
            _left(float(str(output["until"])) - now),
        )
        for output in found
    ]
    print_table(("JOB", "NAME", "FILES", "SIZE", "KEPT FOR"), rows)


def _left(seconds: float) -> str:
    if seconds <= 0:
        return "no longer"
    days = int(seconds // _DAY_S)
    return f"{days} days" if days > 1 else f"{max(1, int(seconds // 3600))} hours"
