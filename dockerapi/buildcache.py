"""The build cache as docker's clients see it: what it takes, by their words for kinds, and its pruning."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from dockerapi.errors import bad

if TYPE_CHECKING:
    from images.cacheuse import CacheItem
    from images.store import Store

Wanted: TypeAlias = "Callable[[CacheItem], bool]"

_KINDS: Final = {"mount": "exec.cachemount", "mirror": "source.git.checkout"}
_FLAGS: Final[dict[str, Wanted]] = {
    "inuse": lambda item: item.in_use,
    "shared": lambda item: item.shared,
    "private": lambda item: not item.shared,
}


class Bounds(NamedTuple):
    """What a prune may remove.

    shared: also what images have.
    unused_s: only what nobody used for so many seconds.
    most_bytes: no more than it takes to get down to this size; 0: everything else that may go.
    """

    shared: bool = False
    unused_s: float = 0.0
    most_bytes: int = 0


def kind_of(item: CacheItem) -> str:
    """BuildKit's word for a kind of item."""
    return _KINDS.get(item.type, "regular")


def passing(filters: Iterable[tuple[str, str, str]]) -> Wanted:
    """A test for items that pass all filters: a name, an operator (``==``, ``!=``, ``~=``, or "" for a flag), a value.

    Raises ApiError for one that is not done.
    """
    tests = [_test(*each) for each in filters]
    return lambda item: all(test(item) for test in tests)


def parsed(text: str) -> tuple[str, str, str]:
    """A filter in containerd's syntax, as buildx sends it."""
    for sign in ("==", "!=", "~=", "="):
        name, found, value = text.partition(sign)
        if found:
            return name.strip().lower(), "==" if sign == "=" else sign, value.strip()
    return text.strip().lower(), "", ""


def pruned(store: Store, bounds: Bounds, wanted: Wanted, cancelled: Callable[[], bool]) -> Iterator[CacheItem]:
    """Remove items, the least recently used first, and tell each that is gone."""
    before = time.time() - bounds.unused_s
    left = store.cache_use.size_bytes() - bounds.most_bytes
    for item in _removable(store, bounds, wanted, before):
        if cancelled() or (bounds.most_bytes and left <= 0):
            return
        store.cache_use.remove([item])
        left -= item.size_bytes
        yield item


def _removable(store: Store, bounds: Bounds, wanted: Wanted, before: float) -> Sequence[CacheItem]:
    return [
        item
        for item in store.cache_use.items()
        if not item.in_use
        and (bounds.shared or not item.shared)
        and (not bounds.unused_s or item.used_at < before)
        and wanted(item)
    ]


def _test(name: str, operator: str, value: str) -> Wanted:
    if name in _FLAGS and operator in ("", "==", "!="):
        is_wanted = (value.lower() not in ("false", "0")) is (operator != "!=")
        return lambda item: _FLAGS[name](item) is is_wanted
    if name not in ("id", "type", "description") or not operator:
        raise bad(f"filter {name[:100]!r} is not done: id, type, description, inuse, shared and private are")

    def shown(item: CacheItem) -> str:
        return {"id": item.id, "type": kind_of(item), "description": item.description}[name]

    if operator == "~=":
        return lambda item: value in shown(item)
    return lambda item: (shown(item) == value) is (operator == "==")
