"""What Redis's client raises, in the service's words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import redis

from pipelines.errors import QueueUnreachableError


@contextlib.contextmanager
def translated(*more: type[Exception]) -> Iterator[None]:
    """Raise QueueUnreachableError where Redis is away, full (memory or disk), or lets us only read.

    more: exceptions that say the same, of a library that stands between.
    """
    kinds: tuple[type[Exception], ...] = (redis.RedisError, *more)
    try:
        yield
    except kinds as error:
        raise QueueUnreachableError(f"Redis does not answer: {error}", hint="see SHIPLAP_REDIS_URL") from error


def as_int(value: Any) -> int:
    """An answer that is a number: redis-py's stubs allow an awaitable there, for its other client."""
    return int(value)
