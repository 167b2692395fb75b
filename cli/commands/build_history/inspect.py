"""``shiplap build history inspect``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from cli.building.pastbuilds import PastBuild, build_row, chosen, document
from cli.containers.inspecting import print_inspected, template_of
from cli.options import json_option
from cli.progress.text import cell_text, harmless, unturned
from cli.table import print_json, print_table
from core.settings import Settings


@click.command("inspect")
@click.argument("builds", metavar="[BUILD...]", nargs=-1)
@click.option("-f", "--format", "form", metavar="FORM", default="", help="json, or a Go template.")
@json_option
@click.pass_obj
def command(root: str | None, *, builds: Sequence[str], form: str, as_json: bool) -> int:
    """Show what a build was, and how it ended.

    The last one, unless others are named.
    """
    template = template_of(form)
    place = Settings.from_environ(root=root).root
    if template is not None:
        return print_inspected(builds or ("",), lambda name: document(chosen(place, name)), template)
    found = [chosen(place, name) for name in builds or ("",)]
    if as_json:
        print_json([document(build) for build in found])
        return 0
    for number, build in enumerate(found):
        if number:
            click.echo()
        _show(build)
    return 0


def _show(build: PastBuild) -> None:
    for name, value in _facts(build):
        click.echo(f"{name + ':':<14}{cell_text(value)}")
    if build.steps:
        click.echo()
        rows = [(step["name"], step["outcome"], f"{step['duration_s']:.1f}s") for step in build.steps]
        print_table(("STEP", "STATE", "TOOK"), rows)
    if error := build.record.get("error"):
        click.echo("\n" + unturned(harmless(error, colours=False)))


def _facts(build: PastBuild) -> Iterator[tuple[str, str]]:
    shown: dict[str, Any] = document(build)
    row = build_row(build, float(build.record.get("at", 0.0)), no_trunc=True)
    facts = {
        "Build": build.id,
        "Name": row["Name"],
        "Status": row["Status"],
        "Started": shown["at"],
        "Duration": row["Duration"] if "duration_s" in shown else "",
        "Steps": f"{row['Steps']} ({row['Cached']} cached)" if row["Steps"] else "",
        "Context": row["Context"],
        "Dockerfile": row["Dockerfile"],
        "Target": row["Target"],
        "Platforms": ", ".join(shown.get("platforms", ())),
        "Arguments": ", ".join(shown.get("args", ())),
        "Tags": ", ".join(shown.get("tags", ())),
        "Image": row["Image"],
    }
    return ((name, value) for name, value in facts.items() if value)
