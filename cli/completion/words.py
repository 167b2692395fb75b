"""Answers a shell: what fits where the cursor is."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

import click
from click.shell_completion import CompletionItem, ShellComplete, split_arg_string

from cli.completion.names import (
    Asked,
    Name,
    Names,
    either,
    ending,
    fitting,
    of_archived_projects,
    of_branches,
    of_cached,
    of_capabilities,
    of_containers,
    of_contexts,
    of_images,
    of_jobs,
    of_jobs_here,
    of_networks,
    of_past_builds,
    of_pipelines_here,
    of_projects,
    of_repositories,
    of_runs,
    of_secrets,
    of_stages,
    of_starters,
    of_steps,
    of_tokens,
    of_users,
    of_volumes,
    one_of,
)
from cli.completion.values import VALUES
from cli.progress.text import cell_text

_Complete: TypeAlias = Callable[[click.Context, str], list[CompletionItem[str]]]

_EVERY: Final = of_containers()
_RUNNING: Final = of_containers("running")


def _of_container_mode(asked: Asked) -> Iterator[Name]:
    """``container:NAME``, whose network another one joins."""
    for name in _RUNNING(asked):
        yield Name(f"container:{name.word}", name.about)


_BY_METAVAR: Final[Mapping[str, Names]] = {
    "CONTAINER": _EVERY, "CONTAINER[:ALIAS": _EVERY, "IMAGE": of_images, "NAME[:TAG": of_images,
    "VOLUME": of_volumes, "NETWORK": of_networks, "RUN": of_runs, "JOB": of_jobs, "PROJECT": of_projects,
}  # fmt: skip
"""Whose names a parameter takes, by what its command's help calls it."""

_BY_PARAMETER: Final[Mapping[tuple[str, str], Names]] = {
    **{(command, "names"): _RUNNING for command in ("stop", "kill", "pause", "stats")},
    **{(command, "name"): _RUNNING for command in ("exec", "attach", "top", "port")},
    ("start", "names"): of_containers("created", "exited"),
    ("unpause", "names"): of_containers("paused"),
    ("inspect", "names"): either(_EVERY, of_images, of_volumes),
    ("rename", "new"): one_of(()),
    ("push", "names"): of_images,
    ("pull", "names"): of_images,
    ("image referrers", "name"): of_images,
    ("cp", "source"): ending(":", _EVERY),
    ("cp", "target"): ending(":", _EVERY),
    ("cache rm", "ids"): of_cached,
    ("registry ls", "repository"): of_repositories,
    **{(command, "network"): either(one_of(("bridge", "host", "none")), of_networks, _of_container_mode)
       for command in ("run", "create")},
    **{(command, option): of_capabilities for command in ("run", "create") for option in ("cap_add", "cap_drop")},
    **{(command, "volumes"): ending(":", of_volumes) for command in ("run", "create")},
    ("build", "context"): one_of(("history",)),
    **{(f"build history {command}", name): of_past_builds
       for command, name in (("inspect", "builds"), ("logs", "build"), ("rm", "builds"))},
    ("build", "target"): of_stages,
    ("build", "no_cache_filter"): of_stages,
    ("build", "project"): of_projects,
    ("ci run", "jobs"): of_jobs_here,
    **{(f"ci {command}", "pipeline"): of_pipelines_here for command in ("run", "why")},
    ("ci why", "job"): of_jobs_here,
    ("runs cancel", "asked"): of_runs,
    ("runs logs", "step"): of_steps,
    ("runs ls", "branch"): of_branches,
    ("runs ls", "by"): of_starters,
    ("project unarchive", "name"): of_archived_projects,
    **{(f"project {command}", "name"): of_projects for command in ("archive", "set", "show", "rm")},
    **{(command, "project"): of_projects
       for command in ("runs ls", "secret ls", "secret set", "secret rm", "secret policy", "grant ls", "token add")},
    **{(f"secret {command}", "name"): of_secrets for command in ("set", "policy")},
    ("secret rm", "names"): of_secrets,
    **{(f"user {command}", "name"): of_users for command in ("disable", "enable", "link", "passwd", "role")},
    ("token rm", "tokens"): of_tokens,
    ("context use", "name"): of_contexts,
    ("context rm", "names"): of_contexts,
    ("login", "host"): of_contexts,
    ("logout", "host"): of_contexts,
    ("", "host"): of_contexts,
}  # fmt: skip
"""The same for parameters whose name in the help does not say it, or not all: by the command's words."""

_ABOUT: Final = 120
"""Characters of what a word is."""

_ORDERS: Final[Mapping[str, str]] = {"'": "'", '"': '"$`\\!'}
"""What bash does not take as it stands, in text that this mark has begun."""

_KINDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("FILE", "PATH", "ROOTFS.tar|-", "CONTAINER:]PATH|-", "SOURCE:]DIR[:OPTIONS"), "file"),
    **dict.fromkeys(("DIR", "CONTEXT"), "dir"),
}  # fmt: skip
"""What the shell looks for by itself, by what the help calls it."""


def answers(root: click.Group, line: str, breaks: str = "") -> Iterator[str]:
    """The lines that a script of ``cli.completion.scripts`` reads.

    root: the command line's first group. line: what has been typed, up to the cursor. breaks: the characters at which
    the shell breaks words, where it wants only what comes after the last of them, and wants it quoted.
    """
    words = split_arg_string(line)
    typed = words.pop() if words and not _is_between(line) else ""
    name = functools.partial(_name, before=tuple(words[1:]))
    name(root, "")
    offers = ShellComplete(root, {"obj": name}, "shiplap", "")
    try:
        found = offers.get_completions(words[1:], typed)
    except click.UsageError:  # there is no such command
        return
    for item in found:
        if item.type != "plain":
            yield f"{item.type}\t\t"
        elif item.value.isprintable() and (word := _in_bash(item.value, typed, line, breaks) if breaks else item.value):
            yield f"plain\t{word}\t{' '.join(cell_text(item.help or '').split())[:_ABOUT]}"


def _name(command: click.Command, words: str, before: tuple[str, ...]) -> None:
    """Have a command's parameters offer names.

    words: the command's, without ``shiplap``. before: all that has been typed before the word that is completed.
    """
    known = words.removeprefix("container ")
    for parameter in command.params:
        if isinstance(parameter.type, click.Choice) or getattr(parameter, "is_flag", False):
            continue
        shown = (parameter.metavar or "").strip("[].") or (parameter.name or "").upper()
        kind = "file" if isinstance(parameter.type, click.Path) and parameter.type.file_okay else _KINDS.get(shown)
        names = _BY_PARAMETER.get((known, parameter.name or "")) or _BY_METAVAR.get(shown)
        if names is None and isinstance(parameter, click.Option):
            values = VALUES.get(max(parameter.opts, key=len))
            names = None if values is None else one_of(values)
        if kind is not None or names is not None:
            parameter.shell_complete = _offered(names or one_of(()), kind, before)  # type: ignore[assignment, method-assign]


def _offered(names: Names, kind: str | None, before: tuple[str, ...]) -> _Complete:
    """Names that fit, and what the shell looks for by itself, if it is to.

    kind: ``file``, ``dir``, or None. before: see ``_name``.
    """

    def complete(context: click.Context, typed: str) -> list[CompletionItem[str]]:
        given = context.find_root().params
        found = fitting(names, Asked(given.get("root"), given.get("host"), context.params, before), typed)
        files = [] if kind is None else [CompletionItem(typed, type=kind)]
        return [*files, *(CompletionItem(word, help=about) for word, about in found)]

    return complete


def _is_between(line: str) -> bool:
    """Whether the cursor stands where a new word begins."""
    if not line[-1:].isspace():
        return False
    return len(split_arg_string(f"{line}x")) > len(split_arg_string(line))


def _in_bash(word: str, typed: str, line: str, breaks: str) -> str:
    """A word as bash wants it: quoted, unless who types has begun a quotation; from the last break on.

    Empty for one that would end the quotation, or be an order within it: strangers choose some of these words.
    """
    begun = _quotation(line)
    if begun:
        return "" if any(letter in word for letter in _ORDERS[begun]) else word
    quoted = shlex.quote(word)
    if quoted != word:
        return quoted
    return word[max(typed.rfind(each) for each in breaks) + 1 :]


def _quotation(line: str) -> str:
    """The quotation mark whose text has not ended at the end of a line; empty: there is none."""
    begun = ""
    letters = iter(line)
    for letter in letters:
        if letter == "\\" and begun != "'":
            next(letters, None)
        elif letter == begun:
            begun = ""
        elif not begun and letter in _ORDERS:
            begun = letter
    return begun
