"""The root of the command line: global options, the table of commands, and the handling of every error."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from cli.containers.table import COMMANDS as CONTAINER_COMMANDS
from cli.errors import describe
from cli.guarding import guarded, say
from cli.lazy import LazyCommand, LazyGroup
from core.release import described

_COMMANDS = {
    "build": LazyCommand("cli.commands.build", "Build an image from a Dockerfile."),
    "build history": LazyCommand("cli.commands.build_history.group", "Look at the builds that were made here."),
    **CONTAINER_COMMANDS,
    "inspect": LazyCommand("cli.commands.inspect", "Show all about containers, images and volumes, as JSON."),
    "events": LazyCommand("cli.commands.events", "Show what happens to containers, and to volumes and networks."),
    "container": LazyCommand("cli.commands.container.group", "Manage containers."),
    "network": LazyCommand("cli.commands.network.group", "Manage networks."),
    "volume": LazyCommand("cli.commands.volume.group", "Manage volumes."),
    "system": LazyCommand("cli.commands.system.group", "Look after what the engine keeps."),
    "engine": LazyCommand("cli.commands.engine", "Serve the Docker Engine API, for docker's own clients."),
    "compose": LazyCommand("cli.commands.compose", "Run docker compose with this engine."),
    "info": LazyCommand("cli.commands.info", "Show what this engine has, and what this host offers."),
    "pull": LazyCommand("cli.commands.pull", "Fetch images from their registries."),
    "push": LazyCommand("cli.commands.push", "Send images to the registries that their names begin with."),
    "login": LazyCommand("cli.commands.login", "Log in to a registry: docker.io, or HOST[:PORT]."),
    "logout": LazyCommand("cli.commands.logout", "Forget the credentials for a registry: docker.io, or HOST[:PORT]."),
    "image": LazyCommand("cli.commands.image.group", "Manage images."),
    "cache": LazyCommand("cli.commands.cache.group", "Look after the build cache."),
    "doctor": LazyCommand("cli.commands.doctor", "Check what this host offers, and say what to install."),
    "registry": LazyCommand("cli.commands.registry.group", "Serve a registry, and manage it."),
    "serve": LazyCommand("cli.commands.serve", "Serve builds to a team: API, queue, worker, logs and registry."),
    "ci": LazyCommand("cli.commands.ci.group", "Run and look after the pipelines of a repository."),
    "runs": LazyCommand("cli.commands.runs.group", "Look after the runs of a build service."),
    "project": LazyCommand(
        "cli.commands.project.group", "Manage what a build service builds when something is pushed."
    ),
    "secret": LazyCommand("cli.commands.secret", "Manage the secrets that a build service keeps for its runs."),
    "grant": LazyCommand("cli.commands.grant", "Give projects of a build service what is not their own."),
    "token": LazyCommand("cli.commands.token", "Manage the API tokens of a build service."),
    "user": LazyCommand("cli.commands.user", "Manage the people who may sign in to a build service."),
    "audit": LazyCommand("cli.commands.audit", "List who did what in a build service, and what that changed."),
    "context": LazyCommand("cli.commands.context.group", "Manage the build services that this user works with."),
    "web": LazyCommand("cli.commands.web", "Serve the API, log streams and the registry, without a worker."),
    "worker": LazyCommand("cli.commands.worker", "Build what is queued, without serving anything."),
    "workers": LazyCommand("cli.commands.workers", "List the workers of a build service, and what they do."),
    "migrate": LazyCommand("cli.commands.migrate", "Bring the service's database to the schema of this version."),
    "backup": LazyCommand("cli.commands.backup", "Save what a service knows: runs, logs, projects, tokens, secrets."),
    "restore": LazyCommand("cli.commands.restore", "Make a service what it was when FILE was saved."),
    "completion": LazyCommand("cli.commands.completion", "Print what makes a shell complete the words of shiplap."),
    "man": LazyCommand("cli.commands.man", "Write a man page for each command."),
    "version": LazyCommand("cli.commands.version", "Show the version."),
    # docker's top-level words
    "images": LazyCommand("cli.commands.image.ls", "List images.", hidden=True),
    "rmi": LazyCommand("cli.commands.image.rm", "Remove names, and images that have none left.", hidden=True),
    "tag": LazyCommand("cli.commands.image.tag", "Give an image another name.", hidden=True),
    "history": LazyCommand("cli.commands.image.history", "Show how an image was made.", hidden=True),
    "load": LazyCommand("cli.commands.image.load", "Load images from a tar (OCI layout or docker save).", hidden=True),
    "save": LazyCommand("cli.commands.image.save", "Save images to a tar (OCI layout and docker load).", hidden=True),
    "import": LazyCommand("cli.commands.image.import", "Make an image from a root filesystem tar.", hidden=True),
}


def _show_version(ctx: click.Context, parameter: click.Parameter, asked: bool) -> None:
    del parameter
    if asked and not ctx.resilient_parsing:
        click.echo(f"shiplap {described()}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    lazy=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="docker's words work too: images, rmi, tag, history, load, save, import.",
)
@click.option(
    "--root",
    metavar="DIR",
    help="Where images and cache are kept.  [default: $SHIPLAP_ROOT, else /var/lib/shiplap or ~/.local/share/shiplap]",
)
@click.option(
    "--host",
    metavar="URL",
    help="The build service that is to do it, or the name of a context.  [default: $SHIPLAP_HOST, else this machine]",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
@click.pass_context
def shiplap(ctx: click.Context, root: str | None, host: str | None) -> None:
    """Build container images from Dockerfiles, and run them. No daemon.

    \b
    shiplap image import debian.tar debian     a base to start from
    shiplap build -t app .                     build ./Dockerfile
    shiplap run app                            run the result
    """
    ctx.obj = root
    ctx.meta["shiplap.host"] = host


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit code. Prints errors; raises nothing that a user can cause."""
    return guarded(lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> object:
    try:
        return shiplap.main(list(arguments), prog_name="shiplap", standalone_mode=False, terminal_width=_help_width())
    except click.exceptions.NoArgsIsHelpError as error:
        say(error.format_message())
        return error.exit_code
    except click.UsageError as error:
        say(usage_text(error))
        return error.exit_code
    except click.ClickException as error:
        say(describe(error))
        return 1
    except click.Abort:
        return 130


def _help_width() -> int:
    """The width that click would choose, without shutil: importing that takes longer than printing the help."""
    try:
        columns = os.get_terminal_size(sys.__stdout__.fileno() if sys.__stdout__ else 1).columns
    except (OSError, ValueError):
        columns = 0
    return max(50, min(columns or 82, 82) - 2)


def usage_text(error: click.UsageError) -> str:
    """The message for a wrong command line, and where its rules are shown."""
    text = f"error: {error.format_message()}"
    if error.ctx is not None:
        text += f"\nhint: {error.ctx.command_path} --help shows how it is used"
    return text
