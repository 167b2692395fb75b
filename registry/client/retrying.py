"""How often, and after which pause, something is tried again."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from registry.errors import RegistryError, ResponseError, TransferCancelledError, UnreachableError

_NEVER_CONNECTED_TRIES: Final = 3  # a name that is mistyped should not take a minute to fail


def _jitter() -> float:
    """A number from 0 to 1; ``random`` takes 3 ms to load."""
    return int.from_bytes(os.urandom(4)) / 0xFFFFFFFF


class RetryPolicy(NamedTuple):
    """How often something is tried.

    tries: in all, without progress between them. The pause doubles from base to cap, half of it random.

    retry_after_cap_s: a server that asks for a longer pause than this gets none: its error is reported.
    """

    tries: int = 6
    base_s: float = 0.5
    cap_s: float = 20.0
    retry_after_cap_s: float = 60.0
    jitter: Callable[[], float] = _jitter


class Tries:
    """The tries of one operation."""

    def __init__(self, policy: RetryPolicy, cancelled: threading.Event) -> None:
        self._policy = policy
        self._cancelled = cancelled
        self._failed = 0

    def progress(self) -> None:
        """It got further than before: count from the start again."""
        self._failed = 0

    def after(self, error: RegistryError) -> None:
        """Pause; or raise ``error`` when it is not a passing one, or the tries are used up."""
        check_cancelled(self._cancelled)
        self._failed += 1
        pause_s = self._pause(error)
        if pause_s is None:
            raise error
        if self._cancelled.wait(pause_s):
            check_cancelled(self._cancelled)

    def _pause(self, error: RegistryError) -> float | None:
        policy = self._policy
        limit = policy.tries
        asked = None
        if isinstance(error, UnreachableError):
            limit = limit if error.connected else min(limit, _NEVER_CONNECTED_TRIES)
        elif isinstance(error, ResponseError) and error.retryable:
            asked = error.retry_after_s
        else:
            return None
        if self._failed >= limit or (asked is not None and asked > policy.retry_after_cap_s):
            return None
        pause = min(policy.cap_s, policy.base_s * 2.0 ** (self._failed - 1))
        pause *= 0.5 + 0.5 * policy.jitter()
        return pause if asked is None else asked + policy.base_s * policy.jitter()


def check_cancelled(cancelled: threading.Event) -> None:
    """Raise TransferCancelledError once the event is set."""
    if cancelled.is_set():
        raise TransferCancelledError("cancelled")
