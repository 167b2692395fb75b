"""A click group that knows its commands by name and summary, and imports one only when it is called."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from cli.places import Group
from core.suggestions import aside, suggestion

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class LazyCommand(NamedTuple):
    """A command that is not imported yet.

    module: has ``command``, the click command, or ``declared_command``, a ``cli.declared.Command``.
    summary: the line in the group's help, the same as in the command's own.
    hidden: the command works, but is not listed.
    """

    module: str
    summary: str
    hidden: bool = False


class LazyGroup(Group):
    """A group whose commands are imported when they are called.

    lazy: the commands by name, in the order of the help. A name may be two words, of which the first is a command, too:
    then this one is meant where something follows the second.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, LazyCommand], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        entry = self.lazy.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(entry.module)
        command = module.declared_command.click() if hasattr(module, "declared_command") else module.command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if len(args) > (1 if ctx.resilient_parsing else 2) and " ".join(args[:2]) in self.lazy:
            args = [" ".join(args[:2]), *args[2:]]
        if args and args[0] not in self.lazy and not args[0].startswith("-"):
            raise click.UsageError(f"no such command: {args[0]!r}{aside(suggestion(args[0], self.lazy))}", ctx)
        name, command, rest = super().resolve_command(ctx, args)
        return (args[0] if args else name), command, rest  # an alias shows under the name that was typed

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        from click.shell_completion import CompletionItem

        commands = [
            CompletionItem(name, help=entry.summary)
            for name, entry in self.lazy.items()
            if name.startswith(incomplete) and not entry.hidden and " " not in name
        ]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self.lazy.items() if not entry.hidden])
