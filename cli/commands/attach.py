"""``shiplap attach``."""

from __future__ import annotations

import sys

import click

from cli.containers.command import container_command
from cli.containers.opening import opened
from cli.errors import CommandError


@container_command("attach")
@click.argument("name", metavar="CONTAINER")
@click.option("--no-stdin", is_flag=True, help="Do not attach its input.")
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Pass our signals on.  [default: sig-proxy]")
@click.option("--detach-keys", metavar="KEYS", default="", help="Keys that detach.  [default: ctrl-p,ctrl-q]")
@click.pass_obj
def command(root: str | None, *, name: str, no_stdin: bool, sig_proxy: bool, detach_keys: str) -> int:
    """Attach this terminal's input and output to a running container.

    The exit code is the container's; after the detach keys it goes on, and the exit code is 0.
    """
    from cli.containers.attaching import Streams, attached

    with opened(root) as engine:
        document = engine.inspect(name)
        config, state = document["Config"], document["State"]
        if not state["Running"]:
            raise CommandError("You cannot attach to a stopped container, start it first")
        if state["Paused"]:
            raise CommandError("You cannot attach to a paused container, unpause it first")
        if state["Restarting"]:
            raise CommandError("You cannot attach to a restarting container, wait until it is running")
        reads = config["OpenStdin"] and not no_stdin
        if reads and config["Tty"] and not sys.stdin.isatty():
            raise CommandError("the input device is not a TTY")
        streams = Streams(
            stdin=reads, stdout=True, stderr=True, terminal=config["Tty"], keys=detach_keys,
            passes_signals=sig_proxy and not config["Tty"],
        )  # fmt: skip
        outcome = attached(
            engine, document["Id"], streams, start=None, until_removed=document["HostConfig"]["AutoRemove"]
        )
    if outcome.detached:
        click.echo("read escape sequence", err=True)
    return outcome.code
