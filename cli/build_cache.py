"""The options of ``shiplap build`` that are about the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

if TYPE_CHECKING:
    from builder.cacheio.spec import CacheFrom, CacheTo

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


class CacheOptions(NamedTuple):
    """What ``BuildRequest`` takes of them."""

    no_cache_stages: tuple[str, ...] = ()
    cache_from: tuple[CacheFrom, ...] = ()
    cache_to: tuple[CacheTo, ...] = ()


def cache_options(command: _Decorated) -> _Decorated:
    """``--no-cache-filter``, ``--cache-from``, ``--cache-to`` and ``--explain``."""
    for decorate in (_EXPLAIN, _CACHE_TO, _CACHE_FROM, _NO_CACHE_FILTER):
        command = decorate(command)
    return command


def read_cache_options(
    no_cache_filter: Sequence[str], cache_from: Sequence[str], cache_to: Sequence[str]
) -> CacheOptions:
    """Parse the values. Raises CacheOptionError."""
    if not (no_cache_filter or cache_from or cache_to):
        return CacheOptions()
    from builder.cacheio.options import parse_cache_from, parse_cache_to

    stages = (name.strip().lower() for text in no_cache_filter for name in text.split(","))
    return CacheOptions(
        tuple(name for name in stages if name),
        tuple(map(parse_cache_from, cache_from)),
        tuple(map(parse_cache_to, cache_to)),
    )


_NO_CACHE_FILTER = click.option(
    "--no-cache-filter",
    metavar="STAGE[,…]",
    multiple=True,
    help="Run every step of these stages, whatever the cache has. Repeatable.",
)
_CACHE_FROM = click.option(
    "--cache-from",
    metavar="SOURCE",
    multiple=True,
    help="Use a cache from elsewhere too: type=registry,ref=NAME (or just NAME), type=local,src=DIR. Repeatable.",
)
_CACHE_TO = click.option(
    "--cache-to",
    metavar="TARGET",
    multiple=True,
    help="Write the build's cache: type=registry,ref=NAME (or just NAME), type=local,dest=DIR, type=inline; "
    "mode=max has the layers of all stages. Repeatable.",
)
_EXPLAIN = click.option(
    "--explain", is_flag=True, help="Tell of every step that ran what had changed: files, variables, the base, …"
)
