"""``shiplap export``."""

from __future__ import annotations

import click

from cli.containers.command import container_command
from cli.containers.opening import opened
from cli.streams import output_stream


@container_command("export")
@click.argument("name", metavar="CONTAINER")
@click.option("-o", "--output", "target", metavar="FILE", default="-", help="The tar.  [default: standard output]")
@click.pass_obj
def command(root: str | None, *, name: str, target: str) -> None:
    """Write a container's root file system as a tar.

    What is mounted in it, as volumes, is left out.
    """
    with opened(root) as engine:
        engine.inspect(name)  # no file is made for a container that is not there
        with output_stream(target, "-o FILE") as sink:
            engine.files.export(name, sink)
