"""``shiplap run``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from cli.containers.command import container_command
from cli.containers.options import CREATE_OPTIONS
from cli.containers.run import DETACH, run
from cli.declared import declared
from cli.registry import insecure_option


@container_command("run", context_settings={"allow_interspersed_args": False, "help_option_names": ["--help"]})
@click.argument("image", metavar="IMAGE")
@click.argument("arguments", metavar="[COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@declared((DETACH,))
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Pass our signals on.  [default: sig-proxy]")
@declared(CREATE_OPTIONS)
@insecure_option
@click.pass_obj
def command(
    root: str | None,
    /,
    *,
    image: str,
    arguments: Sequence[str],
    **options: Any,
) -> int:
    """Run a command in a new container.

    In the foreground the exit code is the command's; 125 when Shiplap failed, 126 when the command cannot be executed,
    127 when it is not found. Ctrl-C is passed on; the second kills. A container that nothing asks to be kept (no -d,
    no --name, no volume, …) is gone when it ends.

    \b
    shiplap run app
    shiplap run -d --name web --restart unless-stopped app
    shiplap run -it --entrypoint sh app
    tar c . | shiplap run -i app tar t
    """
    return run(root, image=image, arguments=arguments, **options)
