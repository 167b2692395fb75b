"""``shiplap completion``."""

from __future__ import annotations

from typing import Final

import click

from cli.completion.scripts import SCRIPTS

_PATIENCE_S: Final = 3.0
"""Seconds after which nobody waits any more: for a disk, or a server, that does not answer."""


@click.command("completion")
@click.argument("shell", type=click.Choice(tuple(SCRIPTS)))
@click.option("--line", hidden=True, help="What has been typed: what fits is printed, for the script.")
@click.option("--breaks", default="", hidden=True, help="The characters at which the shell breaks words.")
@click.pass_context
def command(ctx: click.Context, shell: str, line: str | None, breaks: str) -> None:
    """Print what makes a shell complete the words of shiplap.

    Then the tab key offers commands, options, and names: of containers, images, volumes and networks here, and of runs,
    jobs and projects of the server that is chosen.

    \b
    source <(shiplap completion bash)              in ~/.bashrc
    source <(shiplap completion zsh)               in ~/.zshrc, after compinit
    shiplap completion fish | source               in ~/.config/fish/config.fish
    """
    if line is None:
        click.echo(SCRIPTS[shell], nl=False)
        return
    from cli.completion.deadline import at_most

    def answer() -> None:
        from cli.completion.words import answers

        root = ctx.find_root().command
        assert isinstance(root, click.Group)
        for found in answers(root, line, breaks):
            click.echo(found)

    at_most(_PATIENCE_S, answer)
