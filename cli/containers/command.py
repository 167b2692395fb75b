"""A click command that reads its line as docker's does: ``--flag=false``, and docker's exit codes for a wrong line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import click

from core.gobool import parse_bool


class WrongOptionError(click.UsageError):
    """An option that is none, or has no such value."""

    exit_code = 125


class WrongNumberError(click.UsageError):
    """Too few arguments, or too many."""

    exit_code = 1


class WrongTemplateError(click.UsageError):
    """A template that cannot be read."""

    exit_code = 64


class ContainerCommand(click.Command):
    """As click.Command, but with docker's ``--flag=true`` and ``--flag=false``, and docker's exit codes.

    An option that is wrong exits with 125, a wrong number of arguments with 1.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, list(self._plain_flags(ctx, args)))
        except click.UsageError as error:
            missing = isinstance(error, click.MissingParameter) and isinstance(error.param, click.Argument)
            if missing or (type(error) is click.UsageError and "unexpected extra argument" in error.message):
                raise self._wrong_number(ctx) from error
            raise WrongOptionError(error.format_message(), ctx) from error

    def _wrong_number(self, ctx: click.Context) -> WrongNumberError:
        """docker's words for too few or too many arguments."""
        arguments = [parameter for parameter in self.params if isinstance(parameter, click.Argument)]
        least = sum(argument.required for argument in arguments)
        most = None if any(argument.nargs == -1 for argument in arguments) else len(arguments)
        wanted = (
            "accepts no arguments"
            if most == 0
            else f"requires exactly {_arguments(least)}"
            if most == least
            else f"requires at least {_arguments(least)}"
            if most is None
            else f"requires at most {_arguments(most)}"
        )
        return WrongNumberError(f'"{ctx.command_path}" {wanted}.', ctx)

    def _plain_flags(self, ctx: click.Context, args: Sequence[str]) -> Iterator[str]:
        """The words with ``--flag=BOOLEAN`` as click writes it: ``--flag``, ``--no-flag``, or nothing."""
        by_name = {name: option for option in self._options() for name in (*option.opts, *option.secondary_opts)}
        words = iter(args)
        for word in words:
            if word == "--" or (not ctx.allow_interspersed_args and not _is_option(word)):
                yield word
                break
            name, equals, value = word.partition("=")
            option = by_name.get(name)
            if option is None or not (word.startswith("--") or equals):
                yield word
                if _is_option(word) and _takes_next(word, by_name):
                    yield from _following(words)
            elif not option.is_flag:
                yield word
                if not equals:
                    yield from _following(words)
            elif not equals:
                yield word
            else:
                yield from _flag(name, option, value, ctx)
        yield from words

    def _options(self) -> list[click.Option]:
        return [parameter for parameter in self.params if isinstance(parameter, click.Option)]


_NEVER_FALSE: Final = {
    "--disable-content-trust": "there is no content trust to ask for; name an image by its digest, NAME@sha256:…",
}
"""Flags that are accepted because they ask for what is so anyway, and why it is so."""


def _flag(name: str, option: click.Option, value: str, ctx: click.Context) -> Sequence[str]:
    wanted = parse_bool(value)
    if wanted is None:
        reason = f'strconv.ParseBool: parsing "{value}": invalid syntax'
        raise click.UsageError(f'invalid argument "{value}" for "{name}" flag: {reason}', ctx)
    if wanted:
        return (name,)
    if name in _NEVER_FALSE:
        raise click.UsageError(f"{name}=false is refused: {_NEVER_FALSE[name]}", ctx)
    return option.secondary_opts[:1]


def _is_option(word: str) -> bool:
    return word.startswith("-") and word != "-"


def _takes_next(word: str, by_name: dict[str, click.Option]) -> bool:
    """Whether short options like ``-itv`` end in one whose value is the next word."""
    if word.startswith("--"):
        return False
    for position, letter in enumerate(word[1:], start=2):
        option = by_name.get(f"-{letter}")
        if option is None:
            return False
        if not option.is_flag:
            return position == len(word)
    return False


def _following(words: Iterator[str]) -> Iterator[str]:
    following = next(words, None)
    if following is not None:
        yield following


def _arguments(number: int) -> str:
    return f"{number} argument" + ("" if number == 1 else "s")


def container_command(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], ContainerCommand]:
    """``click.command`` for a ``ContainerCommand``."""
    return click.command(name, cls=ContainerCommand, **attributes)
