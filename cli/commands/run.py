"""``shiplap run``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Literal

import click

from cli.attach import in_foreground, window_size
from cli.declared import declared
from cli.errors import CommandError, describe, is_users
from cli.limits import CONTAINER_OPTIONS, container_limits, resource_limits, shm_bytes
from cli.options import env_file, environ, host_pairs, pairs
from cli.registry import insecure_option
from cli.run_spec import command_line, environment, working_directory
from cli.store import open_store
from cli.transfers import find_or_pull
from containers.launcher import Launcher
from containers.limits import MEMORY_ABOVE
from containers.spec import ContainerSpec
from core.errors import ShiplapError
from core.platforms import Platform
from core.settings import Settings

_STDIN = 0
_OWN_FAILURE = 125  # docker's exit code for "the container never started"
_Network = Literal["default", "none", "host"]


@click.command("run", context_settings={"allow_interspersed_args": False, "help_option_names": ["--help"]})
@click.argument("image", metavar="IMAGE")
@click.argument("arguments", metavar="[COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@click.option("--rm", is_flag=True, help="Remove the container when it ends; it always is.")
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.option("-e", "--env", "env", metavar="NAME[=VALUE]", multiple=True, help="Set a variable; without =VALUE, ours.")
@click.option("--env-file", "env_files", metavar="FILE", multiple=True, help="Set the variables in this file.")
@click.option("-w", "--workdir", metavar="DIR", help="The working directory.  [default: the image's]")
@click.option("-u", "--user", metavar="USER[:GROUP]", help="The user, by name or number.  [default: the image's]")
@click.option("--entrypoint", metavar="PROGRAM", help="Run this instead of the image's ENTRYPOINT; '' for none.")
@click.option(
    "--network", type=click.Choice(("default", "none", "host")), default="default", help="[default: default]"
)  # fmt: skip
@click.option("--add-host", "add_hosts", metavar="HOST:IP", multiple=True, help="Add a line to /etc/hosts. Repeatable.")
@click.option("-h", "--hostname", metavar="NAME", help="The container's host name.  [default: random]")
@declared(CONTAINER_OPTIONS)
@insecure_option
@click.pass_obj
def command(
    root: str | None,
    /,
    *,
    image: str,
    arguments: Sequence[str],
    rm: bool,
    interactive: bool,
    tty: bool,
    env: Sequence[str],
    env_files: Sequence[str],
    workdir: str | None,
    user: str | None,
    entrypoint: str | None,
    network: _Network,
    add_hosts: Sequence[str],
    hostname: str | None,
    insecure: Sequence[str],
    **limits: Any,
) -> int:
    """Run a command in a new container, in the foreground.

    What it writes is discarded when it ends. The exit code is the command's; 125 when Shiplap failed, 126 when the
    command cannot be executed, 127 when it is not found. Ctrl-C is passed on; the second kills.

    \b
    shiplap run app
    shiplap run -it --entrypoint sh app
    tar c . | shiplap run -i app tar t
    """
    del rm
    try:
        if tty and interactive and not sys.stdin.isatty():
            raise CommandError("-t with -i needs a terminal on standard input", hint="leave out -t")
        overrides: dict[str, str] = {}
        for path in env_files:
            overrides |= env_file(path, environ())
        overrides |= pairs(env, "-e", environ=environ())
        name = hostname or os.urandom(6).hex()
        with ExitStack() as stack:
            store = stack.enter_context(open_store(root, insecure))
            found = find_or_pull(store, image, root, insecure)
            config = found.config.config
            _warn_of_platform(image, found.config.platform)
            launcher = stack.enter_context(
                Launcher(store.tmp, denied_networks=Settings.from_environ(root=root).denied_networks)
            )
            if network == "default":
                launcher.warm()  # while the layers are being made ready
            layers = store.snapshots.lowers(found.diff_ids)
            upper = store.snapshots.new_upper(layers)
            stack.callback(store.snapshots.discard, upper)
            spec = ContainerSpec(
                layers=layers,
                upper=upper.path,
                args=command_line(config, entrypoint, arguments),
                env=environment(config, overrides, hostname=name, terminal=tty),
                cwd=working_directory(config, workdir),
                user=config.user if user is None else user,
                hostname=name,
                network=network,
                extra_hosts=host_pairs(add_hosts),
                terminal=tty,
                terminal_size=window_size(_STDIN) or (24, 80),
                limits=container_limits(limits),
                ulimits=resource_limits(limits["ulimits"]),
                shm_bytes=shm_bytes(limits["shm_size"]),
            )
            status = in_foreground(launcher, spec, interactive=interactive)
    except (ShiplapError, OSError) as error:
        if not is_users(error):
            raise
        click.echo(describe(error), err=True)
        return _OWN_FAILURE
    if status.message:
        click.echo(f"error: {status.message}", err=True)
    for name in status.exceeded:
        what = f"the container ran into its limit of {name}"
        if name == MEMORY_ABOVE:
            what = "memory ran out, of this machine or of the control groups above: the kernel ended a process"
        click.echo(f"warning: {what}", err=True)
    return status.code


def _warn_of_platform(image: str, platform: Platform) -> None:
    host = Platform.host()
    if platform != host:
        click.echo(f"warning: {image} is for {platform}, this host is {host}", err=True)
