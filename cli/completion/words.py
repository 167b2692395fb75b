"""Answers a shell: what fits where the cursor is."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

import click
from click.shell_completion import CompletionItem, ShellComplete, split_arg_string

from cli.completion.names import (
    Asked,
    Names,
    fitting,
    of_containers,
    of_contexts,
    of_images,
    of_jobs,
    of_jobs_here,
    of_networks,
    of_projects,
    of_runs,
    of_volumes,
)
from cli.progress.text import one_line

_Complete: TypeAlias = Callable[[click.Context, str], list[CompletionItem[str]]]

_EVERY: Final = of_containers()
_RUNNING: Final = of_containers("running")

_BY_METAVAR: Final[Mapping[str, Names]] = {
    "CONTAINER": _EVERY, "CONTAINER[:ALIAS]": _EVERY, "IMAGE": of_images, "NAME[:TAG]": of_images,
    "VOLUME": of_volumes, "NETWORK": of_networks, "RUN": of_runs, "JOB": of_jobs, "PROJECT": of_projects,
}  # fmt: skip
"""Whose names a parameter takes, by what its command's help calls it."""

_BY_PARAMETER: Final[Mapping[tuple[str, str], Names]] = {
    **{(command, "names"): _RUNNING for command in ("stop", "kill", "pause", "stats")},
    **{(command, "name"): _RUNNING for command in ("exec", "attach", "top", "port")},
    ("start", "names"): of_containers("created", "exited"),
    ("unpause", "names"): of_containers("paused"),
    ("inspect", "names"): _EVERY,
    ("rename", "new"): lambda _: (),
    ("push", "names"): of_images,
    ("ci run", "jobs"): of_jobs_here,
    ("ci why", "job"): of_jobs_here,
    ("runs cancel", "asked"): of_runs,
    **{(f"project {command}", "name"): of_projects for command in ("set", "show", "rm")},
    **{(command, "project"): of_projects for command in ("runs ls", "secret ls", "secret set", "secret rm")},
    ("context use", "name"): of_contexts,
    ("context rm", "names"): of_contexts,
    ("", "host"): of_contexts,
}  # fmt: skip
"""The same for parameters whose name in the help does not say it, or not all: by the command's words."""

_KINDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("FILE", "ROOTFS.tar|-", "[CONTAINER:]PATH|-"), "file"), **dict.fromkeys(("DIR", "CONTEXT"), "dir"),
}  # fmt: skip
"""What the shell looks for by itself, by what the help calls it."""


def answers(root: click.Group, line: str, breaks: str = "") -> Iterator[str]:
    """The lines that a script of ``cli.completion.scripts`` reads.

    root: the command line's first group. line: what has been typed, up to the cursor. breaks: the characters at which
    the shell breaks words, where it wants only what comes after the last of them, and wants it quoted.
    """
    words = split_arg_string(line)
    typed = words.pop() if words and not _is_between(line) else ""
    _name(root, "")
    offers = ShellComplete(root, {"obj": _name}, "shiplap", "")
    try:
        found = offers.get_completions(words[1:], typed)
    except click.UsageError:  # there is no such command
        return
    for item in found:
        if item.type != "plain":
            yield f"{item.type}\t\t"
        elif item.value.isprintable():
            word = _in_bash(item.value, typed, line, breaks) if breaks else item.value
            yield f"plain\t{word}\t{' '.join(one_line(item.help or '').split())}"


def _name(command: click.Command, words: str) -> None:
    """Have a command's parameters offer names. words: the command's, without ``shiplap``."""
    known = words.removeprefix("container ")
    for parameter in command.params:
        shown = (parameter.metavar or "").strip("[].") or (parameter.name or "").upper()
        kind = _KINDS.get(shown)
        names = _BY_PARAMETER.get((known, parameter.name or "")) or _BY_METAVAR.get(shown)
        if kind is not None:
            parameter.shell_complete = _sought(kind)  # type: ignore[assignment, method-assign]
        elif names is not None:
            parameter.shell_complete = _named(names)  # type: ignore[assignment, method-assign]


def _sought(kind: str) -> _Complete:
    return lambda _context, typed: [CompletionItem(typed, type=kind)]


def _named(names: Names) -> _Complete:
    def complete(context: click.Context, typed: str) -> list[CompletionItem[str]]:
        given = context.find_root().params
        found = fitting(names, Asked(given.get("root"), given.get("host"), context.params), typed)
        return [CompletionItem(word, help=about) for word, about in found]

    return complete


def _is_between(line: str) -> bool:
    """Whether the cursor stands where a new word begins."""
    if not line[-1:].isspace():
        return False
    return len(split_arg_string(f"{line}x")) > len(split_arg_string(line))


def _in_bash(word: str, typed: str, line: str, breaks: str) -> str:
    """A word as bash wants it: quoted, unless who types has begun a quotation; from the last break on."""
    begun = line[max(line.rfind(" "), line.rfind("\t")) + 1 :]
    if begun[:1] in ("'", '"'):
        return word
    quoted = shlex.quote(word)
    if quoted != word:
        return quoted
    return word[max(typed.rfind(each) for each in breaks) + 1 :]
