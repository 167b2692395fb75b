"""The options of ``shiplap build`` that are about the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from cli.declared import Option

if TYPE_CHECKING:
    from builder.request.cache import CacheFrom, CacheTo


class CacheOptions(NamedTuple):
    """The members of ``BuildRequest`` that are about the cache."""

    no_cache_stages: tuple[str, ...] = ()
    cache_from: tuple[CacheFrom, ...] = ()
    cache_to: tuple[CacheTo, ...] = ()


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


CACHE_OPTIONS: Final = (
    Option(
        ("--no-cache-filter",),
        "Run every step of these stages, whatever the cache has. Repeatable.",
        metavar="STAGE[,…]",
        multiple=True,
    ),
    Option(
        ("--cache-from",),
        "Use a cache from elsewhere too: type=registry,ref=NAME (or just NAME), type=local,src=DIR. Repeatable.",
        metavar="SOURCE",
        multiple=True,
    ),
    Option(
        ("--cache-to",),
        "Write the build's cache: type=registry,ref=NAME (or just NAME), type=local,dest=DIR, type=inline; "
        "mode=max has the layers of all stages. Repeatable.",
        metavar="TARGET",
        multiple=True,
    ),
    Option(("--explain",), "Tell of every step that ran what had changed: files, variables, the base, …", flag=True),
)
