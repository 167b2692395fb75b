"""``--filter NAME=VALUE`` of listings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from cli.options import filter_of

FILTER: Final = filter_of("-f", "--filter")

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


def read_filters(values: Sequence[str]) -> dict[str, list[str]]:
    """The filters by name, as docker's API has them. Raises WrongOptionError."""
    found: dict[str, list[str]] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals:
            import click

            from cli.containers.command import WrongOptionError

            raise WrongOptionError(
                f'invalid argument "{text}" for "-f, --filter" flag: bad format of filter (expected name=value)',
                click.get_current_context(silent=True),
            )
        found.setdefault(name.strip().lower(), []).append(value.strip())
    return found


def filter_option(command: _Decorated) -> _Decorated:
    """``--filter`` for listings."""
    return FILTER(command)


def prune_filter_option(command: _Decorated) -> _Decorated:
    """``--filter`` where ``-f`` is ``--force``."""
    return filter_of("--filter")(command)
