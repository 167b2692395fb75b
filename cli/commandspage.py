"""docs/commands.md, made from what ``--help`` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import click

from cli.app import shiplap
from cli.lazy import LazyGroup
from core.markdown import table

_COLUMNS: Final = 80

_HEAD: Final = """\
# Commands

<!-- Made by scripts/commands-document from what --help prints: change that, and run it. -->

Words and options are docker's where docker has them. Every command has `--help`; below the table
stands what it prints.

All data is below one directory: `/var/lib/shiplap` for root, `~/.local/share/shiplap` for others.
`--root DIR` before the command, or `SHIPLAP_ROOT`, chooses another. `--host` before the command,
`SHIPLAP_HOST`, or a context that is in use chooses a build service:
[which commands ask it](service.md#building-on-it). [Settings](settings.md) has all environment
variables. `image ls` and its like take `--json` and [`--format`](containers.md#look).
"""

_SHORT_FORMS: Final = """\
## docker's short forms

docker's words work, too. The help does not list them.
"""

_MORE: Final[Mapping[str, str]] = {
    "build": "More: [the language](dockerfile.md), [outputs and platforms](outputs.md),\n"
    "[the build cache](cache.md), [build checks](checks.md), [when a build fails](debugging.md),\n"
    "[limits of steps](security.md#limits), [building on a service](service.md#building-on-it).",
    "build history": "More: [what earlier builds were](debugging.md#what-earlier-builds-were).",
    "run": "More: [containers](containers.md), [limits](security.md#limits).",
    "pull": "More: [registries](registry.md).",
    "push": "More: [registries](registry.md).",
    "login": "Credentials are shared with docker. More: [registries](registry.md#credentials).",
    "image attestations": "More: [provenance and SBOMs](outputs.md#attestations).",
    "image save": "`docker load`, podman and skopeo read what it writes.",
    "cache": "More: [the build cache](cache.md).",
    "doctor": "More: [whether a service works](deploy.md#does-it-work).",
    "registry": "More: [registries](registry.md#server).",
    "ci": "More: [pipelines](pipelines.md).",
    "ci run": "More: [how it runs](pipelines.md#run-it).",
    "engine": "More: [docker's clients](docker-compatibility.md).",
    "compose": "More: [compose files](docker-compatibility.md#compose).",
    "system dial-stdio": "More: [over ssh](docker-compatibility.md#elsewhere).",
    "serve": "More: [the service](service.md), [how to deploy it](deploy.md).",
    "runs": "More: [the service](service.md), [the dashboard](dashboard.md).",
    "project": "More: [webhooks](webhooks.md), [roles](users.md#roles).",
    "secret": "`RUN --mount=type=secret` gets them. More: [secrets](service.md#secrets).",
    "grant": "More: [what is a project's](users.md#what-is-a-projects).",
    "token": "They open the service's registry, too. More: [tokens](users.md#tokens).",
    "user": "More: [users](users.md).",
    "context": "More: [building on a service](service.md#building-on-it).",
    "web": "More: [several workers](deploy.md#several-workers).",
    "worker": "More: [several workers](deploy.md#several-workers).",
    "migrate": "More: [upgrades](upgrading.md).",
    "backup": "More: [backups](deploy.md#backup).",
    "restore": "More: [backups](deploy.md#backup).",
}
"""The text above a command's help, in Markdown, by the command's words."""


class Listed(NamedTuple):
    """A command that the help shows.

    words: as typed, without ``shiplap`` in front.
    summary: the first line of its help.
    help: what ``--help`` prints.
    """

    words: str
    summary: str
    help: str


def commands_page() -> str:
    """The whole document, in Markdown."""
    listed = list(listed_commands())
    rows = table(("command", "does"), [(f"[`shiplap {c.words}`](#{_anchor(c.words)})", c.summary) for c in listed])
    aliases = table(
        ("short form", "is"), [(f"`shiplap {short}`", f"`shiplap {words}`") for short, words in short_forms()]
    )
    return "\n".join([_HEAD, rows, *map(_section, listed), _SHORT_FORMS, aliases]).rstrip()


def listed_commands() -> Iterator[Listed]:
    """All commands that the help shows, in its order. A group stands before its commands."""
    yield from _inside(shiplap, _context(shiplap, "shiplap", None))


def short_forms() -> Iterator[tuple[str, str]]:
    """docker's words for commands, in groups too, each with our words in the help."""
    groups = {word: getattr(shiplap.get_command(click.Context(shiplap), word), "lazy", {}) for word in shiplap.lazy}
    inside = [(f"{group} {name}", entry) for group, lazy in groups.items() for name, entry in lazy.items()]
    every = [*inside, *shiplap.lazy.items()]  # a command at the top stands for the same one in a group
    shown = {entry.module: words for words, entry in every if not entry.hidden}
    for words, entry in [*shiplap.lazy.items(), *inside]:
        if entry.hidden:
            yield words, shown[entry.module]


def _inside(group: click.Group, context: click.Context) -> Iterator[Listed]:
    hidden = {name for name, entry in group.lazy.items() if entry.hidden} if isinstance(group, LazyGroup) else set()
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, "the group lists it"
        if name in hidden or command.hidden:
            continue
        own = _context(command, name, context)
        words = own.command_path.partition(" ")[2]
        yield Listed(words, (command.help or "").partition("\n")[0], command.get_help(own))
        if isinstance(command, click.Group):
            yield from _inside(command, own)


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    settings = {**command.context_settings, "terminal_width": _COLUMNS}
    return click.Context(command, parent, name, **settings)


def _section(command: Listed) -> str:
    more = f"{_MORE[command.words]}\n\n" if command.words in _MORE else ""
    printed = "\n".join(line.rstrip() for line in command.help.splitlines())
    level = "#" * min(2 + command.words.count(" "), 4)
    return f"{level} shiplap {command.words}\n\n{more}```text\n{printed}\n```\n"


def _anchor(words: str) -> str:
    return f"shiplap-{words.replace(' ', '-')}"
