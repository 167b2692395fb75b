"""``shiplap run``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from cli.containers.command import container_command
from cli.containers.options import CREATE_OPTIONS, needs_engine
from cli.declared import declared
from cli.errors import CommandError, describe, is_users
from cli.registry import insecure_option
from core.errors import ShiplapError


@container_command("run", context_settings={"allow_interspersed_args": False, "help_option_names": ["--help"]})
@click.argument("image", metavar="IMAGE")
@click.argument("arguments", metavar="[COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@click.option("-d", "--detach", is_flag=True, help="Leave it running, and print its ID.")
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
    detach: bool,
    sig_proxy: bool,
    insecure: Sequence[str],
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
    try:
        if options["tty"] and options["interactive"] and not detach and not sys.stdin.isatty():
            raise CommandError("-t with -i needs a terminal on standard input", hint="leave out -t")
        if detach and options["attach"]:
            click.echo("error: Conflicting options: -a and -d", err=True)
            return 1  # as docker
        if detach or needs_engine(options) or not sig_proxy:
            from cli.containers.running import run_attached, run_detached

            if detach:
                return run_detached(root, image, arguments, options, insecure)
            return run_attached(root, image, arguments, options, insecure, passes_signals=sig_proxy)
        from cli.containers.foreground import run_and_forget

        return run_and_forget(root, image, arguments, options, insecure)
    except (ShiplapError, OSError) as error:
        if not is_users(error):
            raise
        click.echo(describe(error), err=True)
        return _exit_code(error)


def _exit_code(error: BaseException) -> int:
    """docker's: 125 for a container that never started, 126 and 127 for a command that could not be executed."""
    from containers.errors import NotExecutedError

    return error.code if isinstance(error, NotExecutedError) else 125
