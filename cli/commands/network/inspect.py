"""``shiplap network inspect``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.inspecting import print_inspected, template_of
from cli.containers.opening import opened


@container_command("inspect")
@click.argument("names", metavar="NETWORK...", nargs=-1, required=True)
@click.option("-f", "--format", "form", metavar="FORM", default="", help="json, or a Go template.")
@click.option("-v", "--verbose", is_flag=True, help="As docker's, for swarms: nothing more, here.")
@click.pass_obj
def command(root: str | None, *, names: Sequence[str], form: str, verbose: bool) -> int:
    """Show all about networks, as JSON."""
    del verbose
    template = template_of(form)
    with opened(root) as engine:
        return print_inspected(names, engine.networks.inspect, template)
