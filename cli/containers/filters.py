"""``--filter NAME=VALUE`` of listings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from cli.containers.command import WrongOptionError
from cli.declared import Option

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


def read_filters(values: Sequence[str]) -> dict[str, list[str]]:
    """The filters by name, as docker's API has them. Raises WrongOptionError."""
    found: dict[str, list[str]] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals:
            raise WrongOptionError(
                f'invalid argument "{text}" for "-f, --filter" flag: bad format of filter (expected name=value)',
                click.get_current_context(silent=True),
            )
        found.setdefault(name.strip().lower(), []).append(value.strip())
    return found


def filter_option(command: _Decorated) -> _Decorated:
    """``--filter`` for listings."""
    return _option("-f", "--filter")(command)


def prune_filter_option(command: _Decorated) -> _Decorated:
    """``--filter`` where ``-f`` is ``--force``."""
    return _option("--filter")(command)


def _option(*names: str) -> Option:
    return Option(names, "Only those; repeatable.", metavar="NAME=VALUE", dest="filters", multiple=True)
