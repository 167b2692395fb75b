"""A value that another thread delivers. (``concurrent.futures`` does more and costs every start 8 ms of imports.)"""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Promise(Generic[T]):
    """Delivered once: by ``resolve`` or by ``fail``."""

    __slots__ = ("_error", "_ready", "_value")

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._value: T | None = None
        self._error: BaseException | None = None

    def resolve(self, value: T) -> None:
        self._value = value
        self._ready.set()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._ready.set()

    @property
    def pending(self) -> bool:
        return not self._ready.is_set()

    def wait(self) -> T:
        """Wait for the value. Raises what it failed with."""
        self._ready.wait()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # resolved with a T, which may itself be None
